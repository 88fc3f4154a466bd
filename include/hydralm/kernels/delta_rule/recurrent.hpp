// The gated delta rule, token by token, in SIMD: the form that decodes and that verifies drafts.
//
// One token costs one read and one write of S: with o = α Sᵀq + (k·q) u, both products come from
// one sweep over S, and the update sweeps a panel of columns while it is still in the first-level
// cache. step and recurrent are one code, so their bits agree. Matches gated_delta_reference within
// 1e-5 (float) and 1e-13 (double) of the largest value.
#pragma once

#include <cmath>
#include <type_traits>

#include "hydralm/kernels/delta_rule/input.hpp"
#include "hydralm/simd/expression.hpp"
#include "hydralm/simd/unroll.hpp"

namespace HYDRALM_NAMESPACE::kernels {
namespace detail {

// Columns [0, V·lanes) of S and of one token, of which the last batch holds Tail elements, or, with
// a dynamic Tail, `tail`. D rows, or `rows`. alpha: of all of them, or a pointer to that of each.
template <Real T, Index D, Index V, Index Tail, class Alpha>
[[gnu::flatten]] void gated_delta_step_panel(const T* q, const T* k, const T* v, Alpha alpha,
                                             T beta, T kq, T* state, Index stride, T* out,
                                             Index rows, Index tail = Tail) noexcept {
    using simd::Batch;
    constexpr bool per_channel = std::is_pointer_v<Alpha>;
    constexpr Index lanes = simd::lanes<T>;
    const Index keys = D == dynamic ? rows : D, held = Tail == dynamic ? tail : Tail;
    const auto load = [&](const T* p, auto column) {
        if constexpr (column == V - 1 && Tail < lanes)
            return simd::load_partial<T>(p + column * lanes, held);
        else return simd::load<T>(p + column * lanes);
    };
    const auto store = [&](T* p, auto column, const Batch<T>& x) {
        if constexpr (column == V - 1 && Tail < lanes)
            simd::store_partial<T>(p + column * lanes, x, held);
        else simd::store<T>(p + column * lanes, x);
    };
    // Row i of S, where it does not fade like all of them.
    const auto faded = [&](const Batch<T>& s, [[maybe_unused]] Index i) {
        if constexpr (per_channel) return Batch<T>(alpha[i]) * s;
        else return s;
    };
    // Even and odd rows apart: 4·V sums hide the latency of the additions.
    LocalGrid<Batch<T>, 2, V> sk, sq;
    simd::unroll<V>([&](auto c) { sk[0][c] = sk[1][c] = sq[0][c] = sq[1][c] = Batch<T>(T(0)); });
    for (Index i = 0; i < keys; i += 2) {
        simd::unroll<2>([&](auto half) {
            const Batch<T> ki(k[i + half]), qi(q[i + half]);
            simd::unroll<V>([&](auto c) {
                const Batch<T> s = faded(load(state + (i + half) * stride, c), i + half);
                sk[half][c] = simd::fma(ki, s, sk[half][c]);
                sq[half][c] = simd::fma(qi, s, sq[half][c]);
            });
        });
    }
    const Batch<T> a = [&] {
        if constexpr (per_channel) return Batch<T>(T(1));
        else return Batch<T>(alpha);
    }();
    const Batch<T> b(beta), dot(kq);
    LocalArray<Batch<T>, V> u;
    simd::unroll<V>([&](auto c) {
        u[c] = b * (load(v, c) - a * (sk[0][c] + sk[1][c]));
        store(out, c, simd::fma(dot, u[c], a * (sq[0][c] + sq[1][c])));
    });
    // Backwards where a panel does not fit the first-level cache, of which rows so far apart use
    // only some sets: the rows read last are still there.
    const bool backwards = stride * static_cast<Index>(sizeof(T)) > 256;
    for (Index n = 0; n < keys; ++n) {
        const Index i = backwards ? keys - 1 - n : n;
        const Batch<T> ki(k[i]);
        simd::unroll<V>([&](auto c) {
            const Batch<T> s = faded(load(state + i * stride, c), i);
            store(state + i * stride, c, simd::fma(ki, u[c], a * s));
        });
    }
}

// Every panel of one token.
template <Real T, Index D, Index V, class Alpha>
[[gnu::always_inline]] inline void gated_delta_step_panels(const T* q, const T* k, const T* v,
                                                           Alpha alpha, T beta,
                                                           MatrixView<T, V> state,
                                                           T* out) noexcept {
    static_assert(
        D == dynamic || (D > 0 && D % 4 == 0),
        "hydralm: head_dim: must be a multiple of 4; choose d_model / n_heads accordingly");
    constexpr Index lanes = simd::lanes<T>;
    constexpr Index width = simd::registers == 32 ? 4 : 2;  // 4·width sums stay in registers
    const Index keys = state.rows(), stride = state.stride();
    const T kq = [&] {
        if constexpr (D == dynamic) return dot(view(k, keys), in(q));
        else return dot(view<D>(k), in(q));
    }();
    Index column = 0;
    const auto panels = [&]<Index Batches, Index Tail>(Index end, Index tail) {
        for (; column < end; column += Batches * lanes)
            gated_delta_step_panel<T, D, Batches, Tail>(q, k, v + column, alpha, beta, kq,
                                                        state.data() + column, stride, out + column,
                                                        keys, tail);
    };
    if constexpr (V != dynamic) {
        constexpr Index batches = ceil_div(V, lanes);
        constexpr Index last = batches - (batches - 1) / width * width;
        panels.template operator()<width, lanes>((batches - last) * lanes, lanes);
        panels.template operator()<last, V - (batches - 1) * lanes>(V, 0);
    } else {
        const Index all = state.cols();
        panels.template operator()<width, lanes>(all / (width * lanes) * (width * lanes), lanes);
        panels.template operator()<1, lanes>(all / lanes * lanes, lanes);
        panels.template operator()<1, dynamic>(all, all % lanes);
    }
}

}  // namespace detail

// One token of gated_delta_reference.
//   q, k        [D];  v  [V];  g = ln α ≤ 0 (−∞ allowed);  beta
//   state       [D, V], read and overwritten
//   out         [V], written; aliases nothing but may be v
// No allocation, no errors. 7 D V FLOP; bound by one read and one write of S.
template <Real T, Index D, Index V>
void gated_delta_step(const T* q, const T* k, const T* v, T log_decay, T beta,
                      MatrixView<T, V> state, T* out) noexcept {
    detail::gated_delta_step_panels<T, D, V>(q, k, v, std::exp(log_decay), beta, state, out);
}

// The most key channels with a decay each where D is dynamic: their α lie on the stack.
inline constexpr Index gated_delta_most_channels = 512;

// The same with a decay for every key channel.
//   log_decay   [D]
template <Real T, Index D, Index V>
void gated_delta_step(const T* q, const T* k, const T* v, const T* log_decay, T beta,
                      MatrixView<T, V> state, T* out) noexcept {
    LocalArray<T, D == dynamic ? gated_delta_most_channels : D> alpha;
    hydralm::out(state.rows(), &alpha[0]) = exp(in(log_decay));
    detail::gated_delta_step_panels<T, D, V>(q, k, v, static_cast<const T*>(alpha), beta, state,
                                             out);
}

// gated_delta_step for every token of input; the same arguments as gated_delta_reference.
template <Real T, Index D, Index V, class Decay = HeadDecay<T>>
void gated_delta_recurrent(const GatedDeltaInput<T, D, V, Decay>& input, MatrixView<T, V> state,
                           MatrixView<T, V> out) noexcept {
    const auto decay = [&](Index t) {
        if constexpr (GatedDeltaInput<T, D, V, Decay>::per_channel) return input.log_decay.row(t);
        else return input.log_decay[t];
    };
    for (Index t = 0; t < input.tokens(); ++t)
        gated_delta_step<T, D, V>(input.q.row(t), input.k.row(t), input.v.row(t), decay(t),
                                  input.beta[t], state, out.row(t));
}

}  // namespace HYDRALM_NAMESPACE::kernels
