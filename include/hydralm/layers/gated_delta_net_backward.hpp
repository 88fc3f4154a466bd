// Gradient of Gated DeltaNet: GatedDeltaNet::backward. The delta rule's state is kept every
// gated_delta_training_chunk tokens (every block, where that is larger); what lies between is
// computed again.
#pragma once

#include <algorithm>
#include <cmath>

#include "hydralm/kernels/swiglu/swiglu.hpp"
#include "hydralm/layers/gated_delta_net.hpp"

namespace HYDRALM_NAMESPACE {

template <Real T, Index HeadDim, Index ChunkSize, class Shape>
template <class V>
constexpr void GatedDeltaNet<T, HeadDim, ChunkSize, Shape>::visit_backward_scratch(
    BackwardScratch& s, V& v, const Call& call) const {
    const Index rows = call.rows(), H = shape_.n_heads, I = inner();
    v.matrix(s.dqkv, rows, 3 * I);
    v.matrix(s.dgates, rows, 2 * H);
    v.matrix(s.dout, rows, out_width());
    v.matrix(s.dtaps, shape_.conv_kernel, 3 * I);
    if (shape_.use_gate) {
        v.matrix(s.gated, rows, I);
        v.matrix(s.dgated, rows, I);
    }
    v.tasks(s.heads, H,
            std::max(kernels::gated_delta_backward_workspace_bytes<T, HeadDim, chunk>(),
                     kernels::short_conv_backward_workspace_bytes<T>(shape_.conv_kernel)));
}

template <Real T, Index HeadDim, Index ChunkSize, class Shape>
template <class P, class Q, class G>
void GatedDeltaNet<T, HeadDim, ChunkSize, Shape>::backward(const P& p, const Q& transposed,
                                                           const Tape& tape, Streams streams,
                                                           Index N, MatrixView<const T> x,
                                                           MatrixView<const T> dy, MatrixView<T> dx,
                                                           G& gradients, Streams dstates,
                                                           Arena& arena) const noexcept {
    const Arena::Scope scope(arena);
    const Index B = streams.count(), rows = B * N, H = shape_.n_heads, I = inner(),
                K = shape_.conv_kernel;
    const BackwardScratch s = take_backward_scratch(*this, arena, B, N);
    std::fill_n(s.dtaps.data(), K * 3 * I, T(0));

    if (shape_.use_gate) {
        kernels::swiglu<T>(tape.out, s.gated);
        kernels::matmul_gradient(dy, s.gated, gradients.o_proj);
        kernels::matmul(dy, transposed.o_proj, s.dgated);
        kernels::swiglu_backward<T>(tape.out, s.dgated, s.dout);
    } else {
        kernels::matmul_gradient(dy, tape.out, gradients.o_proj);
        kernels::matmul(dy, transposed.o_proj, s.dout);
    }
    parallel_for(H, [&](Index h) {  // streams in order: they add to the same taps
        Arena own = s.heads.of(h);
        for (Index b = 0; b < B; ++b) backward_head(p, N, tape, s, gradients, dstates, b, h, own);
    });
    for (Index c = 0; c < 3 * I; ++c)
        for (Index j = 0; j < K; ++j) gradients.conv(c, j) += s.dtaps(j, c);
    for (Index r = 0; r < rows; ++r) {
        for (Index h = 0; h < H; ++h) {
            const T beta = tape.gates(r, H + h);
            s.dgates(r, h) *= -std::expm1(tape.gates(r, h));  // d ln σ(a) = 1 − α
            s.dgates(r, H + h) *= beta * (T(1) - beta / beta_scale());
        }
        for (Index i = 0; i < 2 * H; ++i)
            gradients.ab_bias[static_cast<std::size_t>(i)] += s.dgates(r, i);
    }
    kernels::matmul_gradient(s.dqkv, x, gradients.qkv_proj);
    kernels::matmul_gradient(s.dgates, x, gradients.ab_proj);
    kernels::matmul(s.dqkv, transposed.qkv_proj, dx);
    kernels::matmul(s.dgates, transposed.ab_proj, dx, in(dx) + acc);
    if (shape_.use_gate) {
        const auto dgate = s.dout.middle_cols(0, I);
        kernels::matmul_gradient(dgate, x, gradients.gate_proj);
        kernels::matmul(dgate, transposed.gate_proj, dx, in(dx) + acc);
    }
}

// Head h of stream b.
template <Real T, Index HeadDim, Index ChunkSize, class Shape>
template <class P, class G>
void GatedDeltaNet<T, HeadDim, ChunkSize, Shape>::backward_head(
    const P& p, Index N, const Tape& tape, const BackwardScratch& s, G& gradients, Streams dstates,
    Index b, Index h, Arena& arena) const noexcept {
    const Index I = inner(), H = shape_.n_heads, kept = shape_.conv_kernel - 1, D = HeadDim;
    const auto rows_of = [&](MatrixView<T> all) { return all.middle_rows(b * N, N); };
    const auto part_of = [&](MatrixView<T> all, Index part) {
        return rows_of(all).template middle_cols<HeadDim>(part * I + h * D);
    };
    const State dstate = bind_state(*this, dstates, b);
    const MatrixView<T> dg = rows_of(s.dgates);
    const kernels::GatedDeltaGradients<T, HeadDim> d{part_of(s.dqkv, 0),
                                                     part_of(s.dqkv, 1),
                                                     part_of(s.dqkv, 2),
                                                     {dg.data() + h, N, dg.stride()},
                                                     {dg.data() + H + h, N, dg.stride()}};
    kernels::gated_delta_backward<chunk, T, HeadDim>(
        delta_input(rows_of(tape.mixed), rows_of(tape.gates), h), states_of(tape, b, N, h),
        rows_of(s.dout).template middle_cols<HeadDim>(out_width() - I + h * D),
        {dstate.memory + h * D * D, D}, d, arena);
    const MatrixView<T> dcache(dstate.conv_cache, kept, 3 * I);
    for (Index part = 0; part < 3; ++part) {
        const Index first = part * I + h * D;
        const MatrixView<T> gradient = part_of(s.dqkv, part);
        if (part < 2 && shape_.norm_qk)
            kernels::l2_normalize_backward<HeadDim>(
                part_of(tape.mixed, part), rows_of(tape.norms).middle_cols(part * H + h, 1),
                gradient, gradient);
        kernels::short_conv_backward<T>(
            part_of(tape.qkv, part), tape.cache.middle_rows(b * kept, kept).middle_cols(first, D),
            p.conv.middle_cols(first, D), p.conv_bias.data() + first, gradient,
            dcache.middle_cols(first, D), gradient, s.dtaps.middle_cols(first, D),
            gradients.conv_bias.data() + first, arena,
            [](auto z) { return simd::silu_derivative(z); });
    }
}

}  // namespace HYDRALM_NAMESPACE
