// Gradient of Gated DeltaNet as published models have it: GroupedDeltaNet::backward. The delta
// rule's state is kept every gated_delta_training_chunk tokens; what lies between is computed
// again.
#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "hydralm/layers/grouped_delta_net.hpp"

namespace HYDRALM_NAMESPACE {

template <Real T, class Shape>
template <class V>
constexpr void GroupedDeltaNet<T, Shape>::visit_backward_scratch(BackwardScratch& s, V& v,
                                                                 const Call& call) const {
    const Index rows = call.rows(), shared = sharing() > 1 ? 2 : 0;
    v.matrix(s.dqkv, rows, channels());
    v.matrix(s.dgates, rows, decays() + shape_.value_heads);
    if (per_channel()) {
        v.matrix(s.a, rows, decays());
        v.matrix(s.dab, rows, projected());
    }
    v.matrix(s.normed, rows, inner());
    v.matrix(s.dout, rows, inner());
    if (gated()) {
        v.matrix(s.gated, rows, inner());
        v.matrix(s.dgate, rows, inner());
        v.matrix(s.dlow, rows, shape_.gate_rank);
    }
    v.matrix(s.dtaps, shape_.conv_kernel, channels());
    const auto bytes =
        per_channel() ? kernels::gated_delta_channel_backward_workspace_bytes<T, dynamic, chunk>
                      : kernels::gated_delta_backward_workspace_bytes<T, dynamic, chunk>;
    v.tasks(s.heads, shape_.key_heads,
            shared * arena_bytes<T>(call.tokens * shape_.key_dim) +
                std::max(bytes(shape_.key_dim, shape_.value_dim),
                         kernels::short_conv_backward_workspace_bytes<T>(shape_.conv_kernel)));
    v.within(kernels::rms_norm_backward_workspace_bytes<T>(rows, shape_.value_dim));
}

template <Real T, class Shape>
template <class P, class Q, class G>
void GroupedDeltaNet<T, Shape>::backward(const P& p, const Q& transposed, const Tape& tape,
                                         Streams streams, Index N, MatrixView<const T> x,
                                         MatrixView<const T> dy, MatrixView<T> dx, G& gradients,
                                         Streams dstates, Arena& arena) const noexcept {
    const Arena::Scope scope(arena);
    const Index B = streams.count(), rows = B * N, H = shape_.value_heads, Dv = shape_.value_dim,
                K = shape_.conv_kernel;
    const BackwardScratch s = take_backward_scratch(*this, arena, B, N);
    std::fill_n(s.dtaps.data(), K * channels(), T(0));

    normalise(p, tape.o, s.normed);
    kernels::matmul(dy, transposed.o_proj, s.dout);
    if (gated()) {
        apply_output_gate<T>(shape_.gate, tape.gate, s.normed, s.gated);
        kernels::matmul_gradient(dy, s.gated, gradients.o_proj);
        apply_output_gate_backward<T>(shape_.gate, tape.gate, s.normed, s.dout, s.dgate, s.dout);
    } else {
        kernels::matmul_gradient(dy, s.normed, gradients.o_proj);
    }
    for (Index h = 0; h < H; ++h) {
        const MatrixView<T> dout = values_of(s.dout, h);
        kernels::rms_norm_backward<T>(tape.o.middle_cols(h * Dv, Dv), p.o_norm, shape_.epsilon,
                                      dout, dout, gradients.o_norm, arena);
    }
    parallel_for(shape_.key_heads, [&](Index g) {  // streams in order: they add to the same taps
        Arena own = s.heads.of(g);
        for (Index b = 0; b < B; ++b) backward_group(p, N, tape, s, dstates, b, g, own);
    });
    for (Index c = 0; c < channels(); ++c)
        for (Index j = 0; j < K; ++j) gradients.conv(c, j) += s.dtaps(j, c);
    kernels::matmul_gradient(s.dqkv, x, gradients.qkv_proj);
    kernels::matmul(s.dqkv, transposed.qkv_proj, dx);
    backward_gates(p, transposed, tape, s, x, dx, gradients);
    if (!gated()) return;
    if (shape_.gate_rank == 0) {
        kernels::matmul_gradient(s.dgate, x, gradients.gate_proj);
        kernels::matmul(s.dgate, transposed.gate_proj, dx, in(dx) + acc);
        return;
    }
    for (Index r = 0; r < rows; ++r) out(inner(), gradients.gate_bias.data()) += in(s.dgate.row(r));
    kernels::matmul_gradient(s.dgate, tape.gate_low, gradients.gate_proj);
    kernels::matmul(s.dgate, transposed.gate_proj, s.dlow);
    kernels::matmul_gradient(s.dlow, x, gradients.gate_down);
    kernels::matmul(s.dlow, transposed.gate_down, dx, in(dx) + acc);
}

// From the gradients of ln α and β, in s.dgates, to those of what they are made of; added to dx.
template <Real T, class Shape>
template <class P, class Q, class G>
void GroupedDeltaNet<T, Shape>::backward_gates(const P& p, const Q& transposed, const Tape& tape,
                                               const BackwardScratch& s, MatrixView<const T> x,
                                               MatrixView<T> dx, G& gradients) const noexcept {
    const Index H = shape_.value_heads, D = decays(), own = D / H, low = shape_.decay_rank,
                rows = x.rows();
    const MatrixView<const T> low_a = tape.ab.middle_cols(0, low);
    MatrixView<const T> a = tape.ab;
    if (per_channel()) {
        kernels::matmul(low_a, p.decay_proj, s.a);
        a = s.a;
    }
    const auto scale = static_cast<T>(shape_.beta_scale);
    parallel_for(
        H,
        [&](Index h) {
            const T rate = std::exp(p.decay_log[static_cast<std::size_t>(h)]);
            const T* const bias = p.decay_bias.data() + h * own;
            T* const dbias = gradients.decay_bias.data() + h * own;
            T drate = 0;
            for (Index r = 0; r < rows; ++r) {
                T* const d = s.dgates.row(r) + h * own;
                drate += dot(view(d, own), in(tape.gates.row(r) + h * own));
                out(own, d) = -rate * in(d)*sigmoid(in(a.row(r) + h * own) + in(bias));
                out(own, dbias) += in(d);
                const T beta = tape.gates(r, D + h);
                s.dgates(r, D + h) *= beta * (T(1) - beta / scale);
            }
            gradients.decay_log[static_cast<std::size_t>(h)] += drate;
        },
        rows * D > 32768);
    MatrixView<T> dab = s.dgates;
    if (per_channel()) {
        const MatrixView<T> da = s.dgates.middle_cols(0, D);
        kernels::matmul_gradient(da, low_a, gradients.decay_proj);
        dab = s.dab;
        kernels::matmul(da, transposed.decay_proj, dab.middle_cols(0, low));
        for (Index r = 0; r < rows; ++r) std::copy_n(s.dgates.row(r) + D, H, dab.row(r) + low);
    }
    kernels::matmul_gradient(dab, x, gradients.ab_proj);
    kernels::matmul(dab, transposed.ab_proj, dx, in(dx) + acc);
}

// Key head g of stream b and the value heads that share it, whose gradients of q and k add up.
template <Real T, class Shape>
template <class P>
void GroupedDeltaNet<T, Shape>::backward_group(const P& p, Index N, const Tape& tape,
                                               const BackwardScratch& s, Streams dstates, Index b,
                                               Index g, Arena& arena) const noexcept {
    const Arena::Scope scope(arena);
    const Index H = shape_.value_heads, Dk = shape_.key_dim, Dv = shape_.value_dim, r = sharing(),
                kept = shape_.conv_kernel - 1, first_head = g * r;
    const auto rows = [&](MatrixView<T> all) { return all.middle_rows(b * N, N); };
    const State dstate = bind_state(*this, dstates, b);
    const MatrixView<T> dqkv = rows(s.dqkv), dgates = rows(s.dgates);
    const MatrixView<T> dq = dqkv.middle_cols(g * Dk, Dk),
                        dk = dqkv.middle_cols(keys() + g * Dk, Dk);
    MatrixView<T> dq_of_head = dq, dk_of_head = dk;
    for (Index h = first_head; h < first_head + r; ++h) {
        if (h == first_head + 1) {
            dq_of_head = take_matrix<T>(arena, N, Dk);
            dk_of_head = take_matrix<T>(arena, N, Dk);
        }
        const MatrixView<T> dv = dqkv.middle_cols(2 * keys() + h * Dv, Dv);
        const StridedSpan<T> dbeta(dgates.data() + decays() + h, N, dgates.stride());
        with_delta_input(rows(tape.mixed), rows(tape.gates), h, [&](const auto& input) {
            const auto back = [&](const auto& ddecay) {
                kernels::gated_delta_backward<chunk>(
                    input, tape.states + (b * H + h) * chunks(N) * head_size(),
                    values_of(rows(s.dout), h), memory_of(dstate, h),
                    {dq_of_head, dk_of_head, dv, ddecay, dbeta}, arena);
            };
            if constexpr (std::remove_cvref_t<decltype(input)>::per_channel)
                back(dgates.middle_cols(h * Dk, Dk));
            else back(StridedSpan<T>(dgates.data() + h, N, dgates.stride()));
        });
        for (Index n = 0; n < N && h > first_head; ++n) {
            out(Dk, dq.row(n)) += in(dq_of_head.row(n));
            out(Dk, dk.row(n)) += in(dk_of_head.row(n));
        }
    }
    const MatrixView<T> mixed = rows(tape.mixed), factors = rows(tape.factors);
    kernels::l2_scale_backward<T>(Dk, mixed.middle_cols(g * Dk, Dk), factors.middle_cols(g, 1),
                                  query_scale(), dq, dq);
    kernels::l2_scale_backward<T>(Dk, mixed.middle_cols(keys() + g * Dk, Dk),
                                  factors.middle_cols(shape_.key_heads + g, 1), 1, dk, dk);
    const MatrixView<T> dcache(dstate.conv_cache, kept, channels());
    const auto deconvolve = [&](Index first, Index count) {
        const MatrixView<T> gradient = dqkv.middle_cols(first, count);
        kernels::short_conv_backward<T>(
            rows(tape.qkv).middle_cols(first, count),
            tape.cache.middle_rows(b * kept, kept).middle_cols(first, count),
            p.conv.middle_cols(first, count), nullptr, gradient, dcache.middle_cols(first, count),
            gradient, s.dtaps.middle_cols(first, count), nullptr, arena,
            [](auto z) { return simd::silu_derivative(z); });
    };
    deconvolve(g * Dk, Dk);
    deconvolve(keys() + g * Dk, Dk);
    deconvolve(2 * keys() + first_head * Dv, r * Dv);
}

}  // namespace HYDRALM_NAMESPACE
