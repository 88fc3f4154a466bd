// Rotation of queries and keys by a table of cosines and sines, and back.
//
// Matches rotary_reference within 2 ULP of the larger of a pair. A row's bits depend on that row
// alone.
#pragma once

#include <type_traits>

#include "hydralm/core/matrix_view.hpp"
#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE::kernels {
namespace detail {

// The first 2·half elements of every head of head_dim.
template <bool Inverse, Real T>
[[gnu::always_inline]] inline void rotate(Index head_dim, Index half, MatrixView<T> x,
                                          MatrixView<const T> table) noexcept {
    for (Index n = 0; n < x.rows(); ++n) {
        const auto c = in(table.row(n)), sine = in(table.row(n) + half);
        const auto s = [&] {
            if constexpr (Inverse) return -sine;
            else return sine;
        }();
        for (T* p = x.row(n); p < x.row(n) + x.cols(); p += head_dim) {
            const auto a = in(p), b = in(p + half);
            out(half, p, p + half) = values(fma(a, c, -(b * s)), fma(b, c, a * s));
        }
    }
}

template <Index D, bool Inverse, Real T>
void rotate(MatrixView<T> x, MatrixView<const T> table) noexcept {
    static_assert(
        D >= 4 && D % 4 == 0,
        "hydralm: head_dim: must be a multiple of 4; choose n_heads so that d_model / n_heads is");
    rotate<Inverse, T>(D, D / 2, x, table);
}

}  // namespace detail

// (a, b) ← (a cos θ − b sin θ, b cos θ + a sin θ) for the pairs (j, j + D/2) of every head of every
// row.
//   x      [N, H·D], in place; any number of heads
//   table  [N, D] of the rows' positions, from rotary_table
// No allocation. Cost: one read and one write of x. Source: SPEC.md §4; arXiv 2104.09864.
template <Index D, Real T, Index Cols>
void rotary_apply(MatrixView<T, Cols> x, std::type_identity_t<MatrixView<const T>> table) noexcept {
    detail::rotate<D, false, T>(x, table);
}

// The same for heads whose size, a multiple of 2, is read at run time, and of which the first R ≤
// head_dim elements turn, in the pairs (j, j + R/2); table [N, R], R even.
template <Real T>
void rotary_apply(Index head_dim, MatrixView<T> x,
                  std::type_identity_t<MatrixView<const T>> table) noexcept {
    detail::rotate<false, T>(head_dim, table.cols() / 2, x, table);
}

// The inverse rotation, which is also what the gradient needs: dx = rotary_apply_inverse(dy).
template <Index D, Real T, Index Cols>
void rotary_apply_inverse(MatrixView<T, Cols> x,
                          std::type_identity_t<MatrixView<const T>> table) noexcept {
    detail::rotate<D, true, T>(x, table);
}
template <Real T>
void rotary_apply_inverse(Index head_dim, MatrixView<T> x,
                          std::type_identity_t<MatrixView<const T>> table) noexcept {
    detail::rotate<true, T>(head_dim, table.cols() / 2, x, table);
}

}  // namespace HYDRALM_NAMESPACE::kernels
