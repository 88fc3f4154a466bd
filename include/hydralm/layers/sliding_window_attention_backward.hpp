// Gradient of sliding-window attention: SlidingWindowAttention::backward.
#pragma once

#include "hydralm/layers/sliding_window_attention.hpp"

namespace HYDRALM_NAMESPACE {

template <Real T, Index HeadDim, Index ChunkSize, class Shape>
template <class V>
constexpr void SlidingWindowAttention<T, HeadDim, ChunkSize, Shape>::visit_backward_scratch(
    BackwardScratch& s, V& v, const Call& call) const {
    v.matrix(s.dqkv, call.rows(), 3 * inner());
    v.matrix(s.dout, call.rows(), inner());
    v.matrix(s.angles, call.rows(), HeadDim);
    v.tasks(s.heads, call.streams * shape_.n_heads,
            buffer_bytes<Seen>([&](auto& seen, auto& size) {
                visit_seen(seen, size, most_seen(call.tokens));
            }) + kernels::window_attention_backward_workspace_bytes<T, HeadDim, ChunkSize>());
}

template <Real T, Index HeadDim, Index ChunkSize, class Shape>
template <class P, class Q, class G>
void SlidingWindowAttention<T, HeadDim, ChunkSize, Shape>::backward(
    const P&, const Q& transposed, const Tape& tape, Streams streams, Index N,
    MatrixView<const T> x, MatrixView<const T> dy, MatrixView<T> dx, G& gradients, Streams dstates,
    Arena& arena) const noexcept {
    const Arena::Scope scope(arena);
    const Index B = streams.count(), H = shape_.n_heads;
    const BackwardScratch s = take_backward_scratch(*this, arena, B, N);
    write_angles(streams, N, s.angles);
    kernels::matmul_gradient(dy, tape.o, gradients.o_proj);
    kernels::matmul(dy, transposed.o_proj, s.dout);
    parallel_for(B * H, [&](Index task) {
        Arena own = s.heads.of(task);
        backward_head(streams, N, tape, s, dstates, task / H, task % H, own);
    });
    kernels::matmul_gradient(s.dqkv, x, gradients.qkv_proj);
    kernels::matmul(s.dqkv, transposed.qkv_proj, dx);
}

// Head h of stream b.
template <Real T, Index HeadDim, Index ChunkSize, class Shape>
void SlidingWindowAttention<T, HeadDim, ChunkSize, Shape>::backward_head(
    Streams streams, Index N, const Tape& tape, const BackwardScratch& s, Streams dstates, Index b,
    Index h, Arena& arena) const noexcept {
    const Index W = shape_.window, I = inner(), first = h * HeadDim;
    const std::int64_t position = streams.position(b);
    const Index before = past(position);
    const State dstate = bind_state(*this, dstates, b);
    const auto dpart = [&](Index part) {
        return s.dqkv.middle_rows(b * N, N).template middle_cols<HeadDim>(part * I + first);
    };
    const auto rows_of = [&](MatrixView<T> all) {
        return all.middle_rows(b * N, N).middle_cols(first, HeadDim);
    };
    const auto seen_of = [&](MatrixView<T> all) {
        return all.middle_rows(b * most_seen(N), before + N).middle_cols(first, HeadDim);
    };
    const Seen d = take_buffers<Seen>(
        arena, [&](auto& buffers, auto& v) { visit_seen(buffers, v, before + N); });
    kernels::window_attention_backward<HeadDim, ChunkSize>(
        rows_of(tape.queries), seen_of(tape.keys), seen_of(tape.values), W, position,
        rows_of(tape.o), tape.log_sum_exp + (b * shape_.n_heads + h) * N, rows_of(s.dout), dpart(0),
        d.keys, d.values, arena);
    // The ring's last tokens are ours: their gradient joins the tokens', and what they replaced
    // has none.
    const auto through_ring = [&](T* ring, MatrixView<T> gradient) {
        for (Index n = std::max<Index>(0, N - W); n < N; ++n) {
            T* const kept = slot(ring, h, position + n);
            out<HeadDim>(gradient.row(before + n)) += in(kept);
            std::fill_n(kept, HeadDim, T(0));
        }
        for (Index i = 0; i < before; ++i) {
            T* const kept = slot(ring, h, position - before + i);
            out<HeadDim>(kept) += in(gradient.row(i));
        }
    };
    through_ring(dstate.keys, d.keys);
    through_ring(dstate.values, d.values);
    for (Index n = 0; n < N; ++n) {
        std::copy_n(d.keys.row(before + n), HeadDim, dpart(1).row(n));
        std::copy_n(d.values.row(before + n), HeadDim, dpart(2).row(n));
    }
    kernels::rotary_apply_inverse<HeadDim>(dpart(0), s.angles.middle_rows(b * N, N));
    kernels::rotary_apply_inverse<HeadDim>(dpart(1), s.angles.middle_rows(b * N, N));
}

}  // namespace HYDRALM_NAMESPACE
