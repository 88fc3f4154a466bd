// The specification of RMS normalisation and of unit-length heads: plain loops, any real scalar.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <type_traits>

#include "hydralm/core/matrix_view.hpp"

namespace HYDRALM_NAMESPACE::kernels::reference {

// y[n,i] = x[n,i] · r_n · w[i],  r_n = (mean_i x[n,i]² + eps)^(−1/2).     x, y [N,d], weight [d]
template <class T>
void rms_norm(MatrixView<const std::type_identity_t<T>> x,
              std::span<const std::type_identity_t<T>> weight, double eps, MatrixView<T> y) {
    const Index d = y.cols();
    for (Index n = 0; n < y.rows(); ++n) {
        T squares = 0;
        for (Index i = 0; i < d; ++i) squares += x(n, i) * x(n, i);
        const T r = T(1) / std::sqrt(squares / T(d) + T(eps));
        for (Index i = 0; i < d; ++i) y(n, i) = x(n, i) * r * weight[static_cast<std::size_t>(i)];
    }
}

// dx[n,i] = r_n w[i] dy[n,i] − x[n,i] (r_n³/d) Σ_j x[n,j] w[j] dy[n,j];  dweight[i] += Σ_n dy[n,i]
// x[n,i] r_n.
template <class T>
void rms_norm_backward(MatrixView<const std::type_identity_t<T>> x,
                       std::span<const std::type_identity_t<T>> weight, double eps,
                       MatrixView<const std::type_identity_t<T>> dy, MatrixView<T> dx,
                       std::span<std::type_identity_t<T>> dweight) {
    const Index d = dx.cols();
    for (Index n = 0; n < dx.rows(); ++n) {
        T squares = 0, projection = 0;
        for (Index i = 0; i < d; ++i) {
            squares += x(n, i) * x(n, i);
            projection += x(n, i) * weight[static_cast<std::size_t>(i)] * dy(n, i);
        }
        const T r = T(1) / std::sqrt(squares / T(d) + T(eps));
        const T pull = r * (r * (r * projection / T(d)));  // r³ alone may leave the range of T
        for (Index i = 0; i < d; ++i) {
            const auto s = static_cast<std::size_t>(i);
            const T incoming = dy(n, i);
            dx(n, i) = r * weight[s] * incoming - x(n, i) * pull;
            dweight[s] += incoming * x(n, i) * r;
        }
    }
}

// Every slice s of head_dim elements of a row becomes s / m, m = max(‖s‖₂, 1e−12).     x [N,
// H·head_dim], norms [N,H] = m
template <class T>
void l2_normalize(Index head_dim, MatrixView<T> x, MatrixView<std::type_identity_t<T>> norms) {
    for (Index n = 0; n < x.rows(); ++n) {
        for (Index h = 0; h < x.cols() / head_dim; ++h) {
            T* s = x.row(n) + h * head_dim;
            T squares = 0;
            for (Index i = 0; i < head_dim; ++i) squares += s[i] * s[i];
            norms(n, h) = std::max(std::sqrt(squares), T(1e-12));
            for (Index i = 0; i < head_dim; ++i) s[i] /= norms(n, h);
        }
    }
}

// Every slice s of head_dim elements of a row becomes scale · s · (‖s‖² + eps)^(−1/2).  x [N,
// H·head_dim]
template <class T>
void l2_scale(Index head_dim, MatrixView<T> x, double eps, double scale) {
    for (Index n = 0; n < x.rows(); ++n)
        for (T* s = x.row(n); s < x.row(n) + x.cols(); s += head_dim) {
            T squares = static_cast<T>(eps);
            for (Index i = 0; i < head_dim; ++i) squares += s[i] * s[i];
            for (Index i = 0; i < head_dim; ++i) s[i] *= static_cast<T>(scale) / std::sqrt(squares);
        }
}

// dx = m (dy − y (y·dy) / scale²) per slice, m = scale · (‖s‖² + eps)^(−1/2).
template <class T>
void l2_scale_backward(Index head_dim, MatrixView<const std::type_identity_t<T>> y,
                       MatrixView<const std::type_identity_t<T>> factors, double scale,
                       MatrixView<const std::type_identity_t<T>> dy, MatrixView<T> dx) {
    for (Index n = 0; n < dx.rows(); ++n)
        for (Index first = 0; first < dx.cols(); first += head_dim) {
            T along = 0;
            for (Index i = first; i < first + head_dim; ++i) along += y(n, i) * dy(n, i);
            along /= static_cast<T>(scale * scale);
            for (Index i = first; i < first + head_dim; ++i)
                dx(n, i) = factors(n, first / head_dim) * (dy(n, i) - y(n, i) * along);
        }
}

// dx = (dy − y (y·dy)) / m per slice; dx = dy / m where the norm was clamped (m = 1e−12), for there
// m is a constant.
template <class T>
void l2_normalize_backward(Index head_dim, MatrixView<const std::type_identity_t<T>> y,
                           MatrixView<const std::type_identity_t<T>> norms,
                           MatrixView<const std::type_identity_t<T>> dy, MatrixView<T> dx) {
    for (Index n = 0; n < dx.rows(); ++n) {
        for (Index h = 0; h < dx.cols() / head_dim; ++h) {
            const Index first = h * head_dim;
            const bool clamped = norms(n, h) <= T(1e-12);
            T projection = 0;
            for (Index i = first; i < first + head_dim; ++i) projection += y(n, i) * dy(n, i);
            for (Index i = first; i < first + head_dim; ++i)
                dx(n, i) = (dy(n, i) - (clamped ? T(0) : y(n, i) * projection)) / norms(n, h);
        }
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels::reference
