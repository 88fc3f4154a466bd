// SwiGLU's element-wise part as one loop. Matches reference::swiglu within 8 units in the last
// place (simd::silu).
#pragma once

#include <type_traits>

#include "hydralm/core/matrix_view.hpp"
#include "hydralm/kernels/for_rows.hpp"
#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// y = silu(g) ⊙ u, silu(g) = g σ(g)        (Shazeer, GLU Variants Improve Transformer, arXiv
// 2002.05202, eq. 6)
//
// gate_up [N,2h] = [g, u], y [N,h], any N, h ≥ 0, any strides; all finite values. Writes y, which
// may be the first or the second half of gate_up. No allocation, no errors. Cost: one exponential
// and one division an element.
template <Real T, Index Cols>
void swiglu(MatrixView<const std::type_identity_t<T>> gate_up, MatrixView<T, Cols> y) noexcept {
    const Index h = y.cols();
    for_rows(y.rows(), 8 * h, [&](Index first, Index count) {
        for (Index n = first; n < first + count; ++n)
            out(h, y.row(n)) = silu(in(gate_up.row(n))) * in(gate_up.row(n) + h);
    });
}

}  // namespace HYDRALM_NAMESPACE::kernels
