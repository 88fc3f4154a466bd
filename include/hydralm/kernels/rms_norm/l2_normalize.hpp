// Heads scaled to unit length, and the gradient. Matches reference::l2_normalize and its backward
// form.
//
// Error: at most (D/(4·lanes) + log₂ lanes + 8)/2 units in the last place; the gradient's is
// relative to the largest element of its slice before the division by the norm. Slices are
// independent of each other bit for bit.
#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "hydralm/core/matrix_view.hpp"
#include "hydralm/kernels/for_rows.hpp"
#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE::kernels {

inline constexpr double l2_norm_floor = 1e-12;

namespace detail {
template <Index D>
concept HeadDim = D > 0 && D % 4 == 0;
}  // namespace detail

// Every slice s of D elements of a row becomes s / m, m = max(‖s‖₂, 1e−12).
//
// x [N, H·D], any strides; norms [N,H] receives m, what the gradient needs, or is an empty view. In
// place. ‖s‖² must not overflow. No allocation, no errors. Cost: 1 read and 1 write of x.
template <Index D, Real T>
void l2_normalize(MatrixView<T> x, MatrixView<std::type_identity_t<T>> norms = {}) noexcept {
    static_assert(detail::HeadDim<D>,
                  "hydralm: head_dim: must be a multiple of 4; choose d_model / n_heads so");
    const Index heads = x.cols() / D;
    for_rows(x.rows(), x.cols(), [&](Index first, Index count) {
        for (Index n = first; n < first + count; ++n) {
            for (Index h = 0; h < heads; ++h) {
                T* s = x.row(n) + h * D;
                const T m =
                    std::max(std::sqrt(sum(square(view<D>(s)))), static_cast<T>(l2_norm_floor));
                out<D>(s) *= T(1) / m;
                if (norms.data() != nullptr) norms(n, h) = m;
            }
        }
    });
}

// Every slice s of head_dim elements of a row becomes scale · s · (‖s‖² + eps)^(−1/2): the ε within
// the root, as published models have it. In place; factors [N,H] receives what s was multiplied by,
// which the gradient needs, or is an empty view. Otherwise as l2_normalize.
template <Real T>
void l2_scale(Index head_dim, MatrixView<T> x, double eps, double scale,
              MatrixView<std::type_identity_t<T>> factors = {}) noexcept {
    const Index heads = x.cols() / head_dim;
    for_rows(x.rows(), x.cols(), [&](Index first, Index count) {
        for (Index n = first; n < first + count; ++n)
            for (Index h = 0; h < heads; ++h) {
                T* const s = x.row(n) + h * head_dim;
                const T squares = sum(square(view(s, head_dim))) + static_cast<T>(eps);
                const T m = static_cast<T>(scale) / std::sqrt(squares);
                out(head_dim, s) *= m;
                if (factors.data() != nullptr) factors(n, h) = m;
            }
    });
}

// dx = m (dy − y (y·dy) / scale²) per slice, m its factor.
//
// y, dy, dx [N, H·head_dim]; y and factors [N,H] as l2_scale left them. Writes dx, which may be dy
// or y. No allocation, no errors. Cost: 4 operations an element, 2 reads and 1 write.
template <Real T>
void l2_scale_backward(Index head_dim, MatrixView<const std::type_identity_t<T>> y,
                       MatrixView<const std::type_identity_t<T>> factors, double scale,
                       MatrixView<const std::type_identity_t<T>> dy, MatrixView<T> dx) noexcept {
    const Index heads = dx.cols() / head_dim;
    for_rows(dx.rows(), 2 * dx.cols(), [&](Index first, Index count) {
        for (Index n = first; n < first + count; ++n)
            for (Index h = 0; h < heads; ++h) {
                const Index at = h * head_dim;
                const auto u = in(y.row(n) + at), g = in(dy.row(n) + at);
                const T along =
                    dot(view(y.row(n) + at, head_dim), g) / static_cast<T>(scale * scale);
                out(head_dim, dx.row(n) + at) = (g - u * along) * factors(n, h);
            }
    });
}

// dx = (dy − y (y·dy)) / m per slice; dx = dy / m where the norm was clamped, for there m is a
// constant.
//
// y, dy, dx [N, H·D]; y and norms [N,H] as l2_normalize left them. Writes dx, which may be dy or y.
// No allocation, no errors. Cost: 4 operations an element, 2 reads and 1 write.
template <Index D, Real T>
void l2_normalize_backward(MatrixView<const std::type_identity_t<T>> y,
                           MatrixView<const std::type_identity_t<T>> norms,
                           MatrixView<const std::type_identity_t<T>> dy,
                           MatrixView<T> dx) noexcept {
    static_assert(detail::HeadDim<D>,
                  "hydralm: head_dim: must be a multiple of 4; choose d_model / n_heads so");
    const Index heads = dx.cols() / D;
    for_rows(dx.rows(), 2 * dx.cols(), [&](Index first, Index count) {
        for (Index n = first; n < first + count; ++n) {
            for (Index h = 0; h < heads; ++h) {
                const T* unit = y.row(n) + h * D;
                const T* incoming = dy.row(n) + h * D;
                const T m = norms(n, h);
                const bool clamped = m <= static_cast<T>(l2_norm_floor);
                const T along = clamped ? T(0) : dot(view<D>(unit), in(incoming));
                const auto u = in(unit), g = in(incoming);
                out<D>(dx.row(n) + h * D) = (g - u * along) * (T(1) / m);
            }
        }
    });
}

}  // namespace HYDRALM_NAMESPACE::kernels
