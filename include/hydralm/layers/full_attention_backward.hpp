// Gradient of attention to the whole past: FullAttention::backward.
#pragma once

#include "hydralm/layers/full_attention.hpp"

namespace HYDRALM_NAMESPACE {

template <Real T, Index HeadDim, Index ChunkSize, class Shape>
template <class V>
constexpr void FullAttention<T, HeadDim, ChunkSize, Shape>::visit_backward_scratch(
    BackwardScratch& s, V& v, const Call& call) const {
    v.matrix(s.dqkv, call.rows(), projected());
    v.matrix(s.dout, call.rows(), inner());
    v.matrix(s.angles, call.rows(), HeadDim);
    v.tasks(s.tasks, call.streams * groups(),
            kernels::full_attention_backward_workspace_bytes<T, HeadDim, ChunkSize>());
}

template <Real T, Index HeadDim, Index ChunkSize, class Shape>
template <class P, class Q, class G>
void FullAttention<T, HeadDim, ChunkSize, Shape>::backward(const P&, const Q& transposed,
                                                           const Tape& tape, Streams streams,
                                                           Index N, MatrixView<const T> x,
                                                           MatrixView<const T> dy, MatrixView<T> dx,
                                                           G& gradients, Streams dstates,
                                                           Arena& arena) const noexcept {
    const Arena::Scope scope(arena);
    const Index B = streams.count();
    const BackwardScratch s = take_backward_scratch(*this, arena, B, N);
    write_angles(streams, N, s.angles);
    kernels::matmul_gradient(dy, tape.o, gradients.o_proj);
    kernels::matmul(dy, transposed.o_proj, s.dout);
    parallel_for(B * groups(), [&](Index task) {
        Arena own = s.tasks.of(task);
        backward_group(streams, N, tape, s, dstates, task / groups(), task % groups(), own);
    });
    kernels::matmul_gradient(s.dqkv, x, gradients.qkv_proj);
    kernels::matmul(s.dqkv, transposed.qkv_proj, dx);
}

// Group g of stream b.
template <Real T, Index HeadDim, Index ChunkSize, class Shape>
void FullAttention<T, HeadDim, ChunkSize, Shape>::backward_group(Streams streams, Index N,
                                                                 const Tape& tape,
                                                                 const BackwardScratch& s,
                                                                 Streams dstates, Index b, Index g,
                                                                 Arena& arena) const noexcept {
    const std::int64_t position = streams.position(b);
    const auto rows = [&](MatrixView<T> all) { return all.middle_rows(b * N, N); };
    const Past seen = past(bind_state(*this, streams, b), g),
               dseen = past(bind_state(*this, dstates, b), g);
    const MatrixView<T> dq = group_cols(rows(s.dqkv), g), dk = key_cols(rows(s.dqkv), g),
                        dv = value_cols(rows(s.dqkv), g);
    kernels::full_attention_backward<HeadDim, ChunkSize, T>(
        group_cols(rows(tape.qkv), g), position, seen, group_cols(rows(tape.o), g),
        rows(tape.log_sum_exp).middle_cols(g * group_heads(), group_heads()),
        group_cols(rows(s.dout), g), dq, dseen, arena);
    kernels::take_key_value_gradients<HeadDim, ChunkSize, T>(N, position, dseen, dk, dv);
    kernels::rotary_apply_inverse<HeadDim>(dq, rows(s.angles));
    kernels::rotary_apply_inverse<HeadDim>(dk, rows(s.angles));
}

}  // namespace HYDRALM_NAMESPACE
