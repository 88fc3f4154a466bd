// Gradient of attention with grouped keys: GroupedAttention::backward.
#pragma once

#include "hydralm/layers/grouped_attention.hpp"

namespace HYDRALM_NAMESPACE {

template <Real T, Index ChunkSize, class Shape>
template <class V>
constexpr void GroupedAttention<T, ChunkSize, Shape>::visit_backward_scratch(
    BackwardScratch& s, V& v, const Call& call) const {
    v.matrix(s.dqkv, call.rows(), projected());
    v.matrix(s.dout, call.rows(), inner());
    v.matrix(s.angles, call.rows(), shape_.rotary_dim);
    if (shape_.gate) {
        v.matrix(s.gated, call.rows(), inner());
        v.matrix(s.dgate, call.rows(), inner());
    }
    v.tasks(s.tasks, call.streams * groups(),
            kernels::full_attention_backward_workspace_bytes<T, dynamic, ChunkSize>(page()));
    if (normed())
        v.within(kernels::rms_norm_backward_workspace_bytes<T>(call.rows(),
                                                               over_all() ? inner() : head_dim()));
}

template <Real T, Index ChunkSize, class Shape>
template <class P, class Q, class G>
void GroupedAttention<T, ChunkSize, Shape>::backward(const P& p, const Q& transposed,
                                                     const Tape& tape, Streams streams, Index N,
                                                     MatrixView<const T> x, MatrixView<const T> dy,
                                                     MatrixView<T> dx, G& gradients,
                                                     Streams dstates, Arena& arena) const noexcept {
    const Arena::Scope scope(arena);
    const Index B = streams.count(), I = inner();
    const BackwardScratch s = take_backward_scratch(*this, arena, B, N);
    write_angles(streams, N, s.angles);
    kernels::matmul(dy, transposed.o_proj, s.dout);
    if (shape_.gate) {
        constexpr auto gate = OutputGate::sigmoid;
        apply_output_gate<T>(gate, tape.gate, tape.o, s.gated);
        apply_output_gate_backward<T>(gate, tape.gate, tape.o, s.dout, s.dgate, s.dout);
        kernels::matmul_gradient(dy, s.gated, gradients.o_proj);
    } else {
        kernels::matmul_gradient(dy, tape.o, gradients.o_proj);
    }
    parallel_for(B * groups(), [&](Index task) {
        Arena own = s.tasks.of(task);
        backward_group(streams, N, tape, s, dstates, task / groups(), task % groups(), own);
    });
    if (normed()) {
        normalise_backward(tape.unnormed.middle_cols(0, I), p.q_norm, s.dqkv.middle_cols(0, I),
                           gradients.q_norm, arena);
        normalise_backward(tape.unnormed.middle_cols(I, keys()), p.k_norm,
                           s.dqkv.middle_cols(I, keys()), gradients.k_norm, arena);
    }
    if (shape_.bias)
        for (Index r = 0; r < B * N; ++r)
            out(projected(), gradients.qkv_bias.data()) += in(s.dqkv.row(r));
    kernels::matmul_gradient(s.dqkv, x, gradients.qkv_proj);
    kernels::matmul(s.dqkv, transposed.qkv_proj, dx);
    if (shape_.gate) {
        kernels::matmul_gradient(s.dgate, x, gradients.gate_proj);
        kernels::matmul(s.dgate, transposed.gate_proj, dx, in(dx) + acc);
    }
}

// Group g of stream b: to the gradient of q and k behind their norms, and of v.
template <Real T, Index ChunkSize, class Shape>
void GroupedAttention<T, ChunkSize, Shape>::backward_group(Streams streams, Index N,
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
    kernels::full_attention_backward<dynamic, ChunkSize, T>(
        group_cols(rows(tape.qkv), g), position, seen, group_cols(rows(tape.o), g),
        sums_of(rows(tape.log_sum_exp), g), group_cols(rows(s.dout), g), dq, dseen, arena,
        shape_.window);
    kernels::take_key_value_gradients<dynamic, ChunkSize, T>(N, position, dseen, dk, dv);
    if (shape_.rotary_dim > 0) {
        kernels::rotary_apply_inverse<T>(head_dim(), dq, rows(s.angles));
        kernels::rotary_apply_inverse<T>(head_dim(), dk, rows(s.angles));
    }
}

// The way back through normalise of x: dx, in, the gradient behind it; out, that before.
template <Real T, Index ChunkSize, class Shape>
void GroupedAttention<T, ChunkSize, Shape>::normalise_backward(MatrixView<const T> x,
                                                               std::span<const T> weight,
                                                               MatrixView<T> dx,
                                                               std::span<T> dweight,
                                                               Arena& arena) const noexcept {
    const auto width = static_cast<Index>(weight.size());
    for (Index first = 0; first < x.cols(); first += width) {
        const MatrixView<T> slice = dx.middle_cols(first, width);
        kernels::rms_norm_backward<T>(x.middle_cols(first, width), weight, shape_.epsilon, slice,
                                      slice, dweight, arena);
    }
}

}  // namespace HYDRALM_NAMESPACE
