// The specification of SwiGLU's element-wise part: plain loops, any real scalar.
#pragma once

#include <cmath>
#include <type_traits>

#include "hydralm/core/matrix_view.hpp"

namespace HYDRALM_NAMESPACE::kernels::reference {

// y = silu(g) ⊙ u, silu(g) = g σ(g).     gate_up [N,2h] = [g, u], y [N,h]
template <class T>
void swiglu(MatrixView<const std::type_identity_t<T>> gate_up, MatrixView<T> y) {
    const Index h = y.cols();
    for (Index n = 0; n < y.rows(); ++n) {
        for (Index i = 0; i < h; ++i) {
            const T g = gate_up(n, i), u = gate_up(n, h + i);
            y(n, i) = g / (T(1) + std::exp(-g)) * u;
        }
    }
}

// dg = dy u σ(g) (1 + g (1 − σ(g))),  du = dy silu(g).     d_gate_up [N,2h] = [dg, du]
template <class T>
void swiglu_backward(MatrixView<const std::type_identity_t<T>> gate_up,
                     MatrixView<const std::type_identity_t<T>> dy, MatrixView<T> d_gate_up) {
    const Index h = dy.cols();
    for (Index n = 0; n < dy.rows(); ++n) {
        for (Index i = 0; i < h; ++i) {
            const T g = gate_up(n, i), u = gate_up(n, h + i), s = T(1) / (T(1) + std::exp(-g));
            d_gate_up(n, i) = dy(n, i) * u * s * (T(1) + g * (T(1) - s));
            d_gate_up(n, h + i) = dy(n, i) * g * s;
        }
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels::reference
