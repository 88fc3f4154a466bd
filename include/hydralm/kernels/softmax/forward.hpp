// Softmax over rows: one pass for the maximum and the sum, one for the result.
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

// y[i] = scale · softmax(x)[i], given all of x in total. y may be x.
template <Real T>
void scaled_softmax_row(Index n, const T* x, const LogSumExp<T>& total, double scale,
                        T* y) noexcept {
    const auto m = simd::broadcast<T>(total.shift());
    const auto factor = simd::broadcast<T>(static_cast<T>(scale / total.sum()));
    simd::map<T>(n, y, [m, factor](auto v) { return simd::exp(v - m) * factor; }, x);
}

}  // namespace detail

// y[n,i] = e^{x[n,i]} / Σ_j e^{x[n,j]}, shifted by the row's maximum so that nothing overflows.
//
// x, y [N,V], any N, V ≥ 0, any strides; x finite or −∞ (probability 0). A row of nothing but −∞,
// or with a NaN or +∞, becomes NaN. Writes y, which may be x. No allocation, no errors. Cost: two
// exponentials an element; 2 reads, 1 write.
template <Real T, Index Cols>
void softmax(MatrixView<const std::type_identity_t<T>> x, MatrixView<T, Cols> y) noexcept {
    const Index width = y.cols();
    for_rows(y.rows(), 8 * width, [&](Index first, Index count) {
        for (Index n = first; n < first + count; ++n) {
            LogSumExp<T> total;
            total.add({x.row(n), static_cast<std::size_t>(width)});
            detail::scaled_softmax_row<T>(width, x.row(n), total, 1.0, y.row(n));
        }
    });
}

}  // namespace HYDRALM_NAMESPACE::kernels
