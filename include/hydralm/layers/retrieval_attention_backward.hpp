// Gradient of retrieval attention, the selection held fixed: RetrievalAttention::backward.
#pragma once

#include "hydralm/kernels/retrieval/backward.hpp"
#include "hydralm/layers/retrieval_attention.hpp"

namespace HYDRALM_NAMESPACE {

template <Real T, Index HeadDim, Index ChunkSize, class Shape>
template <class V>
constexpr void RetrievalAttention<T, HeadDim, ChunkSize, Shape>::visit_backward_scratch(
    BackwardScratch& s, V& v, const Call& call) const {
    v.matrix(s.dqkv, call.rows(), 3 * inner());
    v.matrix(s.dout, call.rows(), inner());
    v.matrix(s.dtaps, shape_.conv_kernel, 3 * inner());
    v.tasks(s.heads, shape_.n_heads,
            std::max(kernels::retrieval_backward_workspace_bytes<T, HeadDim, ChunkSize>(
                         call.tokens, shape_.top_k),
                     kernels::short_conv_backward_workspace_bytes<T>(shape_.conv_kernel)));
}

template <Real T, Index HeadDim, Index ChunkSize, class Shape>
template <class P, class Q, class G>
void RetrievalAttention<T, HeadDim, ChunkSize, Shape>::backward(
    const P& p, const Q& transposed, const Tape& tape, Streams streams, Index N,
    MatrixView<const T> x, MatrixView<const T> dy, MatrixView<T> dx, G& gradients, Streams dstates,
    Arena& arena) const noexcept {
    const Arena::Scope scope(arena);
    const Index B = streams.count(), H = shape_.n_heads, I = inner(), K = shape_.conv_kernel;
    const BackwardScratch s = take_backward_scratch(*this, arena, B, N);
    std::fill_n(s.dtaps.data(), K * 3 * I, T(0));
    kernels::matmul_gradient(dy, tape.o, gradients.o_proj);
    kernels::matmul(dy, transposed.o_proj, s.dout);
    parallel_for(H, [&](Index h) {  // streams in order: they add to the same gradients
        Arena own = s.heads.of(h);
        for (Index b = 0; b < B; ++b)
            backward_head(p, streams, N, tape, s, gradients, dstates, b, h, own);
    });
    for (Index c = 0; c < 3 * I; ++c)
        for (Index j = 0; j < K; ++j) gradients.conv(c, j) += s.dtaps(j, c);
    kernels::matmul_gradient(s.dqkv, x, gradients.qkv_proj);
    kernels::matmul(s.dqkv, transposed.qkv_proj, dx);
}

// Head h of stream b.
template <Real T, Index HeadDim, Index ChunkSize, class Shape>
template <class P, class G>
void RetrievalAttention<T, HeadDim, ChunkSize, Shape>::backward_head(
    const P& p, Streams streams, Index N, const Tape& tape, const BackwardScratch& s, G& gradients,
    Streams dstates, Index b, Index h, Arena& arena) const noexcept {
    const Index I = inner(), H = shape_.n_heads, D = HeadDim, kept = shape_.conv_kernel - 1;
    const auto at = static_cast<std::size_t>(h);
    const auto state = bind_state(*this, streams, b), dstate = bind_state(*this, dstates, b);
    const Head bank(retrieval_past(*state.bank), h), dbank(retrieval_past(*dstate.bank), h);
    const std::int64_t position = streams.position(b);
    const auto head = [&](MatrixView<T> all, Index column) {
        return all.middle_rows(b * N, N).middle_cols(column, D);
    };
    const auto part = [&](MatrixView<T> all, Index i) { return head(all, i * I + h * D); };
    const MatrixView<T> q = part(tape.mixed, 0), dq = part(s.dqkv, 0);
    const T lambda = std::exp(p.route_scale[at]), tau = std::exp(p.temperature[at]);
    kernels::RetrievalRouteGradient<T> route{T(0), T(0)};
    kernels::retrieval_backward<HeadDim, ChunkSize, T>(
        q, position, bank, selection(tape, b, h, N), lambda, head(tape.o, h * D),
        head(s.dout, h * D), dq, dbank, route, arena);
    gradients.route_scale[at] += lambda * route.lambda;
    gradients.local_logit[at] += route.local;
    kernels::retrieval_bank_backward<HeadDim, ChunkSize, T>(
        N, position, bank, dbank, p.gate.data() + h * D, part(s.dqkv, 1), part(s.dqkv, 2),
        gradients.gate.data() + h * D, gradients.gate_bias[at]);
    for (Index n = 0; n < N; ++n) {  // q̂ = τ u: from the gradient of q̂ to that of u
        gradients.temperature[at] += dot(view<HeadDim>(q.row(n)), in(dq.row(n)));
        out<HeadDim>(dq.row(n)) *= tau;
        out<HeadDim>(q.row(n)) *= T(1) / tau;
    }
    const MatrixView<T> cache(dstate.conv_cache, kept, 3 * I);
    for (Index i = 0; i < 3; ++i) {
        const Index first = i * I + h * D;
        const MatrixView<T> gradient = part(s.dqkv, i);
        if (i < 2)
            kernels::l2_normalize_backward<HeadDim>(
                part(tape.mixed, i), tape.norms.middle_rows(b * N, N).middle_cols(i * H + h, 1),
                gradient, gradient);
        kernels::short_conv_backward<T>(
            part(tape.qkv, i), tape.cache.middle_rows(b * kept, kept).middle_cols(first, D),
            p.conv.middle_cols(first, D), nullptr, gradient, cache.middle_cols(first, D), gradient,
            s.dtaps.middle_cols(first, D), nullptr, arena);
    }
}

}  // namespace HYDRALM_NAMESPACE
