// Gradient of SwiGLU: SwiGLU::backward. silu(g) ⊙ u is computed again.
#pragma once

#include "hydralm/kernels/swiglu/swiglu.hpp"
#include "hydralm/layers/swiglu.hpp"

namespace HYDRALM_NAMESPACE {

template <Real T, class Shape>
template <class P, class Q, class G>
void SwiGLU<T, Shape>::backward(const P&, const Q& transposed, const Tape& tape, Streams streams,
                                Index N, MatrixView<const T> x, MatrixView<const T> dy,
                                MatrixView<T> dx, G& gradients, Streams,
                                Arena& arena) const noexcept {
    const Arena::Scope scope(arena);
    const Index h = shape_.hidden;
    const BackwardScratch s = take_backward_scratch(*this, arena, streams.count(), N);
    kernels::swiglu<T>(tape.gate_up, s.hidden);
    kernels::matmul_gradient(dy, s.hidden, gradients.w_down);
    kernels::matmul(dy, transposed.w_down, s.dhidden);
    kernels::swiglu_backward<T>(tape.gate_up, s.dhidden, s.dgate_up);
    for (std::size_t i = 0; i < 2; ++i) {
        const auto half = s.dgate_up.middle_cols(static_cast<Index>(i) * h, h);
        kernels::matmul_gradient(half, x, gradients.w_fused[i]);
        project(half, transposed.w_fused[i], dx, i == 0 ? Write::assign : Write::add);
    }
}

}  // namespace HYDRALM_NAMESPACE
