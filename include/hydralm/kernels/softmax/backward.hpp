// Gradient of softmax over rows. Matches reference::softmax_backward within (V/(4·lanes) + 16)/2
// units in the last place of max |dy|.
#pragma once

#include <type_traits>

#include "hydralm/core/matrix_view.hpp"
#include "hydralm/kernels/for_rows.hpp"
#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// dx[n,i] = y[n,i] (dy[n,i] − Σ_j y[n,j] dy[n,j]).
//
// y [N,V] = softmax(x), dy, dx [N,V], any strides. Writes dx, which may be dy or y. No allocation,
// no errors. Cost: 4 operations an element; 4 reads and 1 write, the second pair from cache.
template <Real T, Index Cols>
void softmax_backward(MatrixView<const std::type_identity_t<T>> y,
                      MatrixView<const std::type_identity_t<T>> dy,
                      MatrixView<T, Cols> dx) noexcept {
    for_rows(dx.rows(), 2 * dx.cols(), [&](Index first, Index count) {
        for (Index n = first; n < first + count; ++n) {
            const auto p = in(y.row(n)), g = in(dy.row(n));
            const T projection = dot(view(y.row(n), dx.cols()), g);
            out(dx.cols(), dx.row(n)) = p * (g - projection);
        }
    });
}

}  // namespace HYDRALM_NAMESPACE::kernels
