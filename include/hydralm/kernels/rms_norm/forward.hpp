// RMS normalisation over rows, one pass for the mean square and one for the result.
//
// Matches reference::rms_norm. Error: at most (d/(4·lanes) + log₂ lanes + 8)/2 units in the last
// place, usually under 3. A row's bits depend on its elements, weight, eps and d only.
#pragma once

#include <cmath>
#include <span>
#include <type_traits>

#include "hydralm/core/matrix_view.hpp"
#include "hydralm/kernels/for_rows.hpp"
#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE::kernels {
namespace detail {

// r = (mean x² + eps)^(−1/2).
template <Real T>
T inverse_rms(Index d, const T* x, double eps) noexcept {
    return T(1) / std::sqrt(mean_of_squares(view(x, d)) + static_cast<T>(eps));
}

}  // namespace detail

// y[n,i] = x[n,i] · r_n · w[i],  r_n = (mean_i x[n,i]² + eps)^(−1/2)        (Zhang & Sennrich,
// arXiv 1910.07467, eq. 4)
//
// x [N,d], weight [d], y [N,d], any N ≥ 0, d ≥ 1, any strides and alignment; eps ≥ 0. Finite while
// Σ x² is. Writes y; x and y may be the same view. No allocation, no errors. Cost: 2 reads and 1
// write of a row, from cache. With y's width static, loops over d are unrolled by it.
template <Real T, Index Cols>
void rms_norm(MatrixView<const std::type_identity_t<T>> x,
              std::span<const std::type_identity_t<T>> weight, double eps,
              MatrixView<T, Cols> y) noexcept {
    const Index d = y.cols();
    for_rows(y.rows(), d, [&](Index first, Index count) {
        for (Index n = first; n < first + count; ++n) {
            const T r = detail::inverse_rms(d, x.row(n), eps);
            out(d, y.row(n)) = in(x.row(n)) * r * in(weight.data());
        }
    });
}

}  // namespace HYDRALM_NAMESPACE::kernels
