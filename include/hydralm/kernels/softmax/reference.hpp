// The specification of softmax over rows: plain loops, any real scalar.
#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "hydralm/core/matrix_view.hpp"

namespace HYDRALM_NAMESPACE::kernels::reference {

// y[n,i] = e^{x[n,i] − m} / Σ_j e^{x[n,j] − m},  m = max_j x[n,j].     x, y [N,V], V ≥ 1
template <class T>
void softmax(MatrixView<const std::type_identity_t<T>> x, MatrixView<T> y) {
    for (Index n = 0; n < y.rows(); ++n) {
        const T m = *std::max_element(x.row(n), x.row(n) + x.cols());
        T sum = 0;
        for (Index i = 0; i < y.cols(); ++i) sum += std::exp(x(n, i) - m);
        for (Index i = 0; i < y.cols(); ++i) y(n, i) = std::exp(x(n, i) - m) / sum;
    }
}

// dx[n,i] = y[n,i] (dy[n,i] − Σ_j y[n,j] dy[n,j]).
template <class T>
void softmax_backward(MatrixView<const std::type_identity_t<T>> y,
                      MatrixView<const std::type_identity_t<T>> dy, MatrixView<T> dx) {
    for (Index n = 0; n < dx.rows(); ++n) {
        T projection = 0;
        for (Index i = 0; i < dx.cols(); ++i) projection += y(n, i) * dy(n, i);
        for (Index i = 0; i < dx.cols(); ++i) dx(n, i) = y(n, i) * (dy(n, i) - projection);
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels::reference
