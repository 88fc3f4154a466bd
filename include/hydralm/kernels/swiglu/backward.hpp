// Gradient of SwiGLU's element-wise part: both halves in one loop, with one exponential an element.
//
// Matches reference::swiglu_backward within 24 units in the last place of |dy u| and |dy g|.
#pragma once

#include <type_traits>

#include "hydralm/core/matrix_view.hpp"
#include "hydralm/kernels/for_rows.hpp"
#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// dg = dy u σ(g) (1 + g (1 − σ(g))),  du = dy g σ(g).
//
// gate_up [N,2h] = [g, u] as swiglu read it, dy [N,h], d_gate_up [N,2h] = [dg, du]; any N, h ≥ 0,
// any strides. Writes d_gate_up, which may be gate_up. No allocation, no errors. Cost: one
// exponential and one division an element.
template <Real T>
void swiglu_backward(MatrixView<const std::type_identity_t<T>> gate_up,
                     MatrixView<const std::type_identity_t<T>> dy,
                     MatrixView<T> d_gate_up) noexcept {
    const Index h = dy.cols();
    for_rows(dy.rows(), 8 * h, [&](Index first, Index count) {
        for (Index n = first; n < first + count; ++n) {
            const auto g = in(gate_up.row(n)), u = in(gate_up.row(n) + h), d = in(dy.row(n));
            const auto s = sigmoid(g);
            out(h, d_gate_up.row(n), d_gate_up.row(n) + h) =
                values(d * u * s * (1 + g * (1 - s)), d * g * s);
        }
    });
}

}  // namespace HYDRALM_NAMESPACE::kernels
