// Gradient of retrieval attention, the selection held fixed. Kept: the convolution's input and
// output, norms, the attention's output, the selection; keys and values are read from the bank.
#pragma once

#include "hydralm/kernels/retrieval/backward.hpp"
#include "hydralm/layers/retrieval_attention.hpp"
#include "hydralm/layers/training.hpp"

namespace HYDRALM_NAMESPACE {

// As layers/training.hpp says; the banks of streams still hold what record put there, those of
// dstates have the same pages. Tape: 7I + (2 + 3·top_k + 1)·H numbers a token, (K − 1)·3I a stream.
template <Real T, Index HeadDim, Index ChunkSize, class Shape>
class Training<RetrievalAttention<T, HeadDim, ChunkSize, Shape>> {
public:
    using Module = RetrievalAttention<T, HeadDim, ChunkSize, Shape>;
    using Selection = kernels::RetrievalSelection<T>;
    template <class Storage>
    using Parameters = typename Module::template Parameters<Storage>;

    struct Tape {
        MatrixView<T> qkv;      // [B·N, 3I], before the convolution
        MatrixView<T> mixed;    // [B·N, 3I], q̂, k̂, v
        MatrixView<T> norms;    // [B·N, 2H], of q and k
        MatrixView<T> o;        // [B·N, I]
        MatrixView<T> cache;    // [B·(K−1), 3I], inputs of the convolution before the first token
        std::byte* selections;  // [B, H], selection_bytes each
    };

    constexpr explicit Training(const Module& module) : module_(module) {}

    constexpr Index tape_bytes(Index B, Index N) const noexcept {
        const Index rows = B * N, H = shape().n_heads, I = inner();
        return 2 * arena_bytes<T>(rows * 3 * I) + arena_bytes<T>(rows * 2 * H) +
               arena_bytes<T>(rows * I) + arena_bytes<T>(B * (shape().conv_kernel - 1) * 3 * I) +
               B * H * selection_bytes(N);
    }
    constexpr Index workspace_bytes(Index B, Index N) const noexcept {
        const Index rows = B * N, I = inner();
        return arena_bytes<T>(rows * 3 * I) + arena_bytes<T>(rows * I) +
               arena_bytes<T>(shape().conv_kernel * 3 * I) + B * shape().n_heads * head_scratch(N);
    }

    void record(const Parameters<PackedStorage<T>>& p, Streams streams, Index N,
                MatrixView<const T> x, MatrixView<T> y, Write write, Tape& tape, Arena& kept,
                Arena& scratch) const noexcept {
        const Arena::Scope scope(scratch);
        const Index B = streams.count(), rows = B * N, H = shape().n_heads, I = inner(),
                    K = shape().conv_kernel, size = head_scratch(N);
        tape.qkv = detail::take_matrix<T>(kept, rows, 3 * I);
        tape.mixed = detail::take_matrix<T>(kept, rows, 3 * I);
        tape.norms = detail::take_matrix<T>(kept, rows, 2 * H);
        tape.o = detail::take_matrix<T>(kept, rows, I);
        tape.cache = detail::take_matrix<T>(kept, B * (K - 1), 3 * I);
        tape.selections = kept.take<std::byte>(B * H * selection_bytes(N));
        std::byte* const own = scratch.take<std::byte>(B * H * size);
        kernels::matmul(x, p.qkv_proj, tape.qkv, kernels::Assign{});
        for (Index b = 0; b < B; ++b)
            std::copy_n(bind_state(module_, streams, b).conv_cache, (K - 1) * 3 * I,
                        tape.cache.row(b * (K - 1)));
        parallel_for(B * H, [&](Index task) {
            const Index b = task / H, h = task % H;
            Arena arena({own + task * size, static_cast<std::size_t>(size)});
            module_.mix_head(p, bind_state(module_, streams, b), streams.position(b),
                             tape.qkv.middle_rows(b * N, N), tape.mixed.middle_rows(b * N, N),
                             tape.norms.middle_rows(b * N, N), selection(tape, b, h, N),
                             tape.o.middle_rows(b * N, N), h, arena);
        });
        detail::project<T>(tape.o, p.o_proj, y, write);
    }

    void backward(const Parameters<PackedStorage<T>>& p,
                  const Parameters<TransposedStorage<T>>& transposed, const Tape& tape,
                  Streams streams, Index N, MatrixView<const T> x, MatrixView<const T> dy,
                  MatrixView<T> dx, Parameters<FlatStorage<T>>& gradients, Streams dstates,
                  Arena& scratch) const noexcept {
        const Arena::Scope scope(scratch);
        const Index B = streams.count(), rows = B * N, H = shape().n_heads, I = inner(),
                    K = shape().conv_kernel, size = head_scratch(N);
        const auto dqkv = detail::take_matrix<T>(scratch, rows, 3 * I);
        const auto dout = detail::take_matrix<T>(scratch, rows, I);
        const auto dtaps = detail::take_matrix<T>(scratch, K, 3 * I);
        std::fill_n(dtaps.data(), K * 3 * I, T(0));
        std::byte* const own = scratch.take<std::byte>(H * size);
        kernels::matmul_gradient(dy, tape.o, gradients.o_proj);
        kernels::matmul(dy, transposed.o_proj, dout, kernels::Assign{});
        parallel_for(H, [&](Index h) {  // streams in order: they add to the same gradients
            Arena arena({own + h * size, static_cast<std::size_t>(size)});
            for (Index b = 0; b < B; ++b)
                backward_head(p, streams, N, tape, dout, dqkv, dtaps, gradients, dstates, b, h,
                              arena);
        });
        for (Index c = 0; c < 3 * I; ++c)
            for (Index j = 0; j < K; ++j) gradients.conv(c, j) += dtaps(j, c);
        kernels::matmul_gradient(dqkv, x, gradients.qkv_proj);
        kernels::matmul(dqkv, transposed.qkv_proj, dx, kernels::Assign{});
    }

private:
    constexpr const Shape& shape() const noexcept { return module_.shape(); }
    constexpr Index inner() const noexcept { return shape().n_heads * HeadDim; }
    constexpr Index selection_bytes(Index N) const noexcept {
        return Selection::bytes(N, shape().top_k);
    }
    constexpr Index head_scratch(Index N) const noexcept {
        return std::max(
            {module_.mix_scratch(N),
             kernels::retrieval_backward_workspace_bytes<T, HeadDim, ChunkSize>(N, shape().top_k),
             kernels::short_conv_backward_workspace_bytes<T>(shape().conv_kernel)});
    }
    Selection selection(const Tape& tape, Index b, Index h, Index N) const noexcept {
        Arena arena({tape.selections + (b * shape().n_heads + h) * selection_bytes(N),
                     static_cast<std::size_t>(selection_bytes(N))});
        return Selection::take(arena, N, shape().top_k);
    }

    void backward_head(const Parameters<PackedStorage<T>>& p, Streams streams, Index N,
                       const Tape& tape, MatrixView<T> dout, MatrixView<T> dqkv,
                       MatrixView<T> dtaps, Parameters<FlatStorage<T>>& gradients, Streams dstates,
                       Index b, Index h, Arena& arena) const noexcept {
        const Index I = inner(), H = shape().n_heads, D = HeadDim, kept = shape().conv_kernel - 1;
        const auto at = static_cast<std::size_t>(h);
        const auto state = bind_state(module_, streams, b),
                   dstate = bind_state(module_, dstates, b);
        const typename Module::Head bank(retrieval_past(*state.bank), h),
            dbank(retrieval_past(*dstate.bank), h);
        const std::int64_t position = streams.position(b);
        const auto head = [&](MatrixView<T> all, Index column) {
            return all.middle_rows(b * N, N).middle_cols(column, D);
        };
        const auto part = [&](MatrixView<T> all, Index i) { return head(all, i * I + h * D); };
        const MatrixView<T> q = part(tape.mixed, 0), dq = part(dqkv, 0);
        const T lambda = std::exp(p.route_scale[at]), tau = std::exp(p.temperature[at]);
        kernels::RetrievalRouteGradient<T> route{T(0), T(0)};
        kernels::retrieval_backward<HeadDim, ChunkSize, T>(
            q, position, bank, selection(tape, b, h, N), lambda, head(tape.o, h * D),
            head(dout, h * D), dq, dbank, route, arena);
        gradients.route_scale[at] += lambda * route.lambda;
        gradients.local_logit[at] += route.local;
        kernels::retrieval_bank_backward<HeadDim, ChunkSize, T>(
            N, position, bank, dbank, p.gate.data() + h * D, part(dqkv, 1), part(dqkv, 2),
            gradients.gate.data() + h * D, gradients.gate_bias[at]);
        const simd::Batch<T> scale(tau), unit(T(1) / tau);
        for (Index n = 0; n < N; ++n) {  // q̂ = τ u: from the gradient of q̂ to that of u
            gradients.temperature[at] += simd::dot<T>(D, q.row(n), dq.row(n));
            simd::map<T>(D, dq.row(n), [&](auto g) { return g * scale; }, dq.row(n));
            simd::map<T>(D, q.row(n), [&](auto v) { return v * unit; }, q.row(n));
        }
        const MatrixView<T> cache(dstate.conv_cache, kept, 3 * I);
        for (Index i = 0; i < 3; ++i) {
            const Index first = i * I + h * D;
            const MatrixView<T> gradient = part(dqkv, i);
            if (i < 2)
                kernels::l2_normalize_backward<HeadDim>(
                    part(tape.mixed, i), tape.norms.middle_rows(b * N, N).middle_cols(i * H + h, 1),
                    gradient, gradient);
            kernels::short_conv_backward<T>(
                part(tape.qkv, i), tape.cache.middle_rows(b * kept, kept).middle_cols(first, D),
                p.conv.middle_cols(first, D), nullptr, gradient, cache.middle_cols(first, D),
                gradient, dtaps.middle_cols(first, D), nullptr, arena);
        }
    }

    [[no_unique_address]] Module module_;
};

}  // namespace HYDRALM_NAMESPACE
