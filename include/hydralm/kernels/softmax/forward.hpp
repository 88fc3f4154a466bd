// Softmax over rows: a pass for the maximum, one for the exponentials and their sum, one to scale.
//
// Matches reference::softmax within 24 + |x − m|/2 units in the last place of each probability (x −
// m is rounded too). A row's bits depend on its elements only.
#pragma once

#include <span>
#include <type_traits>

#include "hydralm/core/matrix_view.hpp"
#include "hydralm/kernels/for_rows.hpp"
#include "hydralm/kernels/softmax/log_sum_exp.hpp"

namespace HYDRALM_NAMESPACE::kernels {
namespace detail {

// y = scale · softmax(x); returns the total of x. y may be x.
template <Real T>
LogSumExp<T> scaled_softmax_row(Index n, const T* x, double scale, T* y) noexcept {
    LogSumExp<T> total;
    total.add({x, static_cast<std::size_t>(n)}, y);
    out(n, y) *= static_cast<T>(scale / total.sum());
    return total;
}

}  // namespace detail

// y[n,i] = e^{x[n,i]} / Σ_j e^{x[n,j]}, shifted by the row's maximum so that nothing overflows.
//
// x, y [N,V], any N, V ≥ 0, any strides; x finite or −∞ (probability 0). A row of nothing but −∞,
// or with a NaN or +∞, becomes NaN. Writes y, which may be x. No allocation, no errors. Cost: one
// exponential an element; 3 reads, 2 writes of a row in cache.
template <Real T, Index Cols>
void softmax(MatrixView<const std::type_identity_t<T>> x, MatrixView<T, Cols> y) noexcept {
    const Index width = y.cols();
    for_rows(y.rows(), 8 * width, [&](Index first, Index count) {
        for (Index n = first; n < first + count; ++n)
            detail::scaled_softmax_row<T>(width, x.row(n), 1.0, y.row(n));
    });
}

}  // namespace HYDRALM_NAMESPACE::kernels
