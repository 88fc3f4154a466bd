// Gradient of Gated DeltaNet. Kept: the convolution's input and output, gates, the delta rule's
// output, and its state every gated_delta_training_chunk tokens (every block, where that is
// larger); all else is computed again.
#pragma once

#include <algorithm>
#include <cmath>

#include "hydralm/kernels/swiglu/swiglu.hpp"
#include "hydralm/layers/gated_delta_net.hpp"
#include "hydralm/layers/training.hpp"

namespace HYDRALM_NAMESPACE {

// As layers/training.hpp says. Tape: (7 + gated)·I + 4H numbers a token, H·D² every chunk, (K −
// 1)·3I a stream.
template <Real T, Index HeadDim, Index ChunkSize, class Shape>
class Training<GatedDeltaNet<T, HeadDim, ChunkSize, Shape>> {
public:
    using Module = GatedDeltaNet<T, HeadDim, ChunkSize, Shape>;
    template <class Storage>
    using Parameters = typename Module::template Parameters<Storage>;

    struct Tape {
        MatrixView<T> qkv;    // [B·N, 3I], before the convolution
        MatrixView<T> mixed;  // [B·N, 3I], q, k, v as the delta rule reads them
        MatrixView<T> norms;  // [B·N, 2H], of q and k; when they are normalised
        MatrixView<T> gates;  // [B·N, 2H], ln α and β
        MatrixView<T> out;    // [B·N, 2I], gate_proj x and o; or [B·N, I], o
        MatrixView<T> cache;  // [B·(K−1), 3I], inputs of the convolution before the first token
        T* states;            // [B, H, ceil(N / chunk), D, D]
    };

    constexpr explicit Training(const Module& module) : module_(module) {}

    constexpr Index tape_bytes(Index B, Index N) const noexcept {
        const Index rows = B * N, H = shape().n_heads, I = inner();
        return 2 * arena_bytes<T>(rows * 3 * I) + 2 * arena_bytes<T>(rows * 2 * H) +
               arena_bytes<T>(rows * out_width()) +
               arena_bytes<T>(B * (shape().conv_kernel - 1) * 3 * I) +
               arena_bytes<T>(B * H * chunks(N) * HeadDim * HeadDim);
    }
    constexpr Index workspace_bytes(Index B, Index N) const noexcept {
        const Index rows = B * N, H = shape().n_heads, I = inner();
        return arena_bytes<T>(rows * 3 * I) + 2 * arena_bytes<T>(rows * I) +
               arena_bytes<T>(rows * out_width()) + arena_bytes<T>(rows * 2 * H) +
               arena_bytes<T>(shape().conv_kernel * 3 * I) + B * H * head_scratch();
    }

    void record(const Parameters<PackedStorage<T>>& p, Streams streams, Index N,
                MatrixView<const T> x, MatrixView<T> y, Write write, Tape& tape, Arena& kept,
                Arena& scratch) const noexcept {
        const Arena::Scope scope(scratch);
        const Index B = streams.count(), rows = B * N, H = shape().n_heads, I = inner();
        tape.qkv = detail::take_matrix<T>(kept, rows, 3 * I);
        tape.mixed = detail::take_matrix<T>(kept, rows, 3 * I);
        tape.norms = detail::take_matrix<T>(kept, rows, 2 * H);
        tape.gates = detail::take_matrix<T>(kept, rows, 2 * H);
        tape.out = detail::take_matrix<T>(kept, rows, out_width());
        tape.cache = detail::take_matrix<T>(kept, B * (shape().conv_kernel - 1), 3 * I);
        tape.states = kept.take<T>(B * H * chunks(N) * HeadDim * HeadDim);
        kernels::matmul(x, p.qkv_proj, tape.qkv, kernels::Assign{});
        kernels::matmul(x, p.ab_proj, tape.gates, kernels::AddBias<T>{p.ab_bias.data()});
        for (Index r = 0; r < rows; ++r) {
            T* const g = tape.gates.row(r);
            for (Index h = 0; h < H; ++h) g[h] = -simd::softplus(-g[h]);  // ln σ(a)
            simd::map(
                H, g + H,
                [s = simd::Batch<T>(module_.beta_scale())](auto b) { return s * simd::sigmoid(b); },
                g + H);
        }
        if (shape().use_gate)
            kernels::matmul(x, p.gate_proj, tape.out.middle_cols(0, I), kernels::Assign{});
        std::byte* const own = scratch.take<std::byte>(B * H * head_scratch());
        parallel_for(B * H, [&](Index task) {
            Arena arena({own + task * head_scratch(), static_cast<std::size_t>(head_scratch())});
            record_head(p, streams, N, tape, task / H, task % H, arena);
        });
        detail::project<T>(gated(tape, scratch), p.o_proj, y, write);
    }

    void backward(const Parameters<PackedStorage<T>>& p,
                  const Parameters<TransposedStorage<T>>& transposed, const Tape& tape,
                  Streams streams, Index N, MatrixView<const T> x, MatrixView<const T> dy,
                  MatrixView<T> dx, Parameters<FlatStorage<T>>& gradients, Streams dstates,
                  Arena& scratch) const noexcept {
        const Arena::Scope scope(scratch);
        const Index B = streams.count(), rows = B * N, H = shape().n_heads, I = inner(),
                    K = shape().conv_kernel;
        const auto dqkv = detail::take_matrix<T>(scratch, rows, 3 * I);
        const auto dgates = detail::take_matrix<T>(scratch, rows, 2 * H);
        const auto dout = detail::take_matrix<T>(scratch, rows, out_width());
        const auto dtaps = detail::take_matrix<T>(scratch, K, 3 * I);
        std::fill_n(dtaps.data(), K * 3 * I, T(0));
        std::byte* const own = scratch.take<std::byte>(H * head_scratch());

        kernels::matmul_gradient(dy, gated(tape, scratch), gradients.o_proj);
        if (shape().use_gate) {
            const auto dgated = detail::take_matrix<T>(scratch, rows, I);
            kernels::matmul(dy, transposed.o_proj, dgated, kernels::Assign{});
            kernels::swiglu_backward<T>(tape.out, dgated, dout);
        } else {
            kernels::matmul(dy, transposed.o_proj, dout, kernels::Assign{});
        }
        parallel_for(H, [&](Index h) {  // streams in order: they add to the same taps
            Arena arena({own + h * head_scratch(), static_cast<std::size_t>(head_scratch())});
            for (Index b = 0; b < B; ++b)
                backward_head(p, N, tape, dout, dqkv, dgates, dtaps, gradients, dstates, b, h,
                              arena);
        });
        for (Index c = 0; c < 3 * I; ++c)
            for (Index j = 0; j < K; ++j) gradients.conv(c, j) += dtaps(j, c);
        for (Index r = 0; r < rows; ++r) {
            for (Index h = 0; h < H; ++h) {
                const T beta = tape.gates(r, H + h);
                dgates(r, h) *= -std::expm1(tape.gates(r, h));  // d ln σ(a) = 1 − α
                dgates(r, H + h) *= beta * (T(1) - beta / module_.beta_scale());
            }
            for (Index i = 0; i < 2 * H; ++i)
                gradients.ab_bias[static_cast<std::size_t>(i)] += dgates(r, i);
        }
        kernels::matmul_gradient(dqkv, x, gradients.qkv_proj);
        kernels::matmul_gradient(dgates, x, gradients.ab_proj);
        kernels::matmul(dqkv, transposed.qkv_proj, dx, kernels::Assign{});
        kernels::matmul(dgates, transposed.ab_proj, dx, kernels::Add{});
        if (shape().use_gate) {
            kernels::matmul_gradient(dout.middle_cols(0, I), x, gradients.gate_proj);
            kernels::matmul(dout.middle_cols(0, I), transposed.gate_proj, dx, kernels::Add{});
        }
    }

private:
    static constexpr Index block = Module::block;
    static constexpr Index chunk = std::max(kernels::gated_delta_training_chunk, block);

    constexpr const Shape& shape() const noexcept { return module_.shape(); }
    constexpr Index inner() const noexcept { return shape().n_heads * HeadDim; }
    constexpr Index out_width() const noexcept { return (shape().use_gate ? 2 : 1) * inner(); }
    static constexpr Index chunks(Index N) noexcept { return ceil_div(N, chunk); }
    constexpr Index head_scratch() const noexcept {
        return round_up(
            std::max({kernels::gated_delta_workspace_bytes<T, HeadDim>(block),
                      kernels::gated_delta_backward_workspace_bytes<T, HeadDim, chunk>(),
                      kernels::short_conv_backward_workspace_bytes<T>(shape().conv_kernel)}),
            static_cast<Index>(alignment));
    }

    // o ⊙ silu(gate), or o.
    MatrixView<T> gated(const Tape& tape, Arena& scratch) const noexcept {
        if (!shape().use_gate) return tape.out;
        const auto y = detail::take_matrix<T>(scratch, tape.out.rows(), inner());
        kernels::swiglu<T>(tape.out, y);
        return y;
    }
    // Stream b's N tokens of the head whose first column is given.
    static MatrixView<T, HeadDim> head(MatrixView<T> all, Index b, Index N, Index column) noexcept {
        return all.middle_rows(b * N, N).template middle_cols<HeadDim>(column);
    }
    kernels::GatedDeltaInput<T, HeadDim> input(const Tape& tape, Index b, Index N,
                                               Index h) const noexcept {
        const Index I = inner(), H = shape().n_heads, D = HeadDim;
        const MatrixView<T> gates = tape.gates.middle_rows(b * N, N);
        return {head(tape.mixed, b, N, h * D),
                head(tape.mixed, b, N, I + h * D),
                head(tape.mixed, b, N, 2 * I + h * D),
                {gates.data() + h, N, gates.stride()},
                {gates.data() + H + h, N, gates.stride()}};
    }
    T* states(const Tape& tape, Index b, Index N, Index h) const noexcept {
        return tape.states + (b * shape().n_heads + h) * chunks(N) * HeadDim * HeadDim;
    }
    MatrixView<T> norms(const Tape& tape, Index b, Index N, Index part, Index h) const noexcept {
        return tape.norms.middle_rows(b * N, N).middle_cols(part * shape().n_heads + h, 1);
    }

    void record_head(const Parameters<PackedStorage<T>>& p, Streams streams, Index N,
                     const Tape& tape, Index b, Index h, Arena& arena) const noexcept {
        const Index I = inner(), kept = shape().conv_kernel - 1;
        const auto state = bind_state(module_, streams, b);
        const MatrixView<T> cache(state.conv_cache, kept, 3 * I);
        for (Index part = 0; part < 3; ++part) {
            const Index first = part * I + h * HeadDim;
            const MatrixView<T> mixed = head(tape.mixed, b, N, first);
            for (Index j = 0; j < kept; ++j)
                std::copy_n(cache.row(j) + first, HeadDim, tape.cache.row(b * kept + j) + first);
            kernels::short_conv(MatrixView<const T>(head(tape.qkv, b, N, first)),
                                p.conv.middle_cols(first, HeadDim), p.conv_bias.data() + first,
                                cache.middle_cols(first, HeadDim), mixed,
                                [](auto z) { return simd::silu(z); });
            if (part < 2 && shape().norm_qk)
                kernels::l2_normalize<HeadDim>(mixed, norms(tape, b, N, part, h));
        }
        const MatrixView<T, HeadDim> S(state.memory + h * HeadDim * HeadDim, HeadDim);
        kernels::gated_delta_chunkwise<block>(
            input(tape, b, N, h), S, head(tape.out, b, N, out_width() - I + h * HeadDim), block,
            arena, kernels::GatedDeltaCheckpoints<T>{states(tape, b, N, h), chunk});
    }

    void backward_head(const Parameters<PackedStorage<T>>& p, Index N, const Tape& tape,
                       MatrixView<T> dout, MatrixView<T> dqkv, MatrixView<T> dgates,
                       MatrixView<T> dtaps, Parameters<FlatStorage<T>>& gradients, Streams dstates,
                       Index b, Index h, Arena& arena) const noexcept {
        const Index I = inner(), H = shape().n_heads, kept = shape().conv_kernel - 1, D = HeadDim;
        const auto dstate = bind_state(module_, dstates, b);
        const MatrixView<T> dg = dgates.middle_rows(b * N, N);
        const kernels::GatedDeltaGradients<T, HeadDim> d{head(dqkv, b, N, h * D),
                                                         head(dqkv, b, N, I + h * D),
                                                         head(dqkv, b, N, 2 * I + h * D),
                                                         {dg.data() + h, N, dg.stride()},
                                                         {dg.data() + H + h, N, dg.stride()}};
        kernels::gated_delta_backward<chunk, T, HeadDim>(
            input(tape, b, N, h), states(tape, b, N, h), head(dout, b, N, out_width() - I + h * D),
            {dstate.memory + h * D * D, D}, d, arena);
        const MatrixView<T> dcache(dstate.conv_cache, kept, 3 * I);
        for (Index part = 0; part < 3; ++part) {
            const Index first = part * I + h * D;
            const MatrixView<T> gradient = head(dqkv, b, N, first);
            if (part < 2 && shape().norm_qk)
                kernels::l2_normalize_backward<HeadDim>(
                    head(tape.mixed, b, N, first), norms(tape, b, N, part, h), gradient, gradient);
            kernels::short_conv_backward<T>(
                head(tape.qkv, b, N, first),
                tape.cache.middle_rows(b * kept, kept).middle_cols(first, D),
                p.conv.middle_cols(first, D), p.conv_bias.data() + first, gradient,
                dcache.middle_cols(first, D), gradient, dtaps.middle_cols(first, D),
                gradients.conv_bias.data() + first, arena,
                [](auto z) { return simd::silu_derivative(z); });
        }
    }

    [[no_unique_address]] Module module_;
};

}  // namespace HYDRALM_NAMESPACE
