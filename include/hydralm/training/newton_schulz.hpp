// Newton–Schulz: a matrix with the same singular vectors whose singular values are near 1.
//
//   X ← G / (‖G‖_F + 1e-7);  five times:  A = X Xᵀ,  X ← a X + (b A + c A²) X
//   (a, b, c) = (3.4445, −4.7750, 2.0315);  on Gᵀ when G is tall
//
// Each of the five multiplies X from the left by Z = a I + b A + c A², so that the next A is Z A Z,
// and X need be read only twice: for the first A, and for Q X, Q the product of the five Z. All of
// them are polynomials of the first A: symmetric [m, m], m the shorter extent, and they commute, so
// half of each product is computed and mirrored. Where few singular values are large, Q is up to
// a⁵ = 485 beside them: in float the result is within 0.005 of its largest element.
//
// Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024).
#pragma once

#include <algorithm>
#include <utility>

#include "hydralm/core/arena.hpp"
#include "hydralm/core/parallel.hpp"
#include "hydralm/kernels/matmul/matmul.hpp"
#include "hydralm/training/gradient_clip.hpp"

namespace HYDRALM_NAMESPACE {

namespace detail {

// y = epilogue of x·wᵀ, of which it is known that it is symmetric: strips of rows up to the
// diagonal are computed, the rest is mirrored. x, w: [m, k]; y: [m, m]. epilogue(first, rows,
// cols): that of y's rows [first, first + rows) and columns [0, cols). Parallel over strips.
template <Real T, class EpilogueOf>
void symmetric_product(MatrixView<const T> x, const weights::PackedMatrix<T>& w, MatrixView<T> y,
                       const EpilogueOf& epilogue) noexcept {
    constexpr Index strip = 48;
    const Index m = x.rows(), strips = ceil_div(m, strip);
    parallel_for(strips, [&](Index i) {
        const Index first = (strips - 1 - i) * strip, rows = std::min(strip, m - first);
        const Index end = first + rows;
        const MatrixView<T> mine = y.middle_rows(first, rows).middle_cols(0, end);
        // Panels lie one behind the other: the first of them are a matrix too.
        kernels::matmul(x.middle_rows(first, rows),
                        weights::PackedMatrix<T>(w.data(), end, w.cols()), mine,
                        epilogue(first, rows, end));
        for (Index c0 = 0; c0 < first; c0 += 16)
            for (Index r = 0; r < rows; ++r)
                for (Index c = c0; c < std::min(first, c0 + 16); ++c) y(c, first + r) = mine(r, c);
    });
}

template <Real T>
void symmetric_product(MatrixView<const T> x, const weights::PackedMatrix<T>& w,
                       MatrixView<T> y) noexcept {
    symmetric_product(x, w, y, [](Index, Index, Index) { return acc; });
}

}  // namespace detail

template <Real T>
constexpr Index newton_schulz_workspace_bytes(Index rows, Index cols) noexcept {
    const Index m = std::min(rows, cols), n = std::max(rows, cols);
    using Packed = weights::PackedMatrix<T>;
    return arena_bytes<T>(m * n) + 4 * arena_bytes<T>(m * m) +
           2 * arena_bytes<T>(Packed::storage_size(m, m)) +
           arena_bytes<T>(std::max(Packed::storage_size(m, n), Packed::storage_size(n, m)));
}

// matrix [rows, cols] in place; zero stays zero. No allocation, no errors; the same bits for any
// number of threads. Cost: 3 m² n + 17 m³ FLOP, m ≤ n the two extents.
template <Real T>
void newton_schulz(MatrixView<T> matrix, Arena& arena) noexcept {
    const Arena::Scope scope(arena);
    const bool tall = matrix.rows() > matrix.cols();
    const Index m = std::min(matrix.rows(), matrix.cols()),
                n = std::max(matrix.rows(), matrix.cols());
    const auto square = [&] { return MatrixView<T>(arena.take<T>(m * m), m, m); };
    const MatrixView<T> x(arena.take<T>(m * n), m, n), a = square(), z = square();
    MatrixView<T> q = square(), other = square();
    using Packed = weights::PackedMatrix<T>;
    T* const packed_a = arena.take<T>(Packed::storage_size(m, m));
    T* const packed_z = arena.take<T>(Packed::storage_size(m, m));
    T* const packed_x =
        arena.take<T>(std::max(Packed::storage_size(m, n), Packed::storage_size(n, m)));
    if (tall) x.eigen() = matrix.eigen().transpose();
    else x.eigen() = matrix.eigen();
    const double norm =
        gradient_norm<T>(std::span<const T>(x.data(), static_cast<std::size_t>(m * n)));
    scale_gradient<T>(std::span<T>(x.data(), static_cast<std::size_t>(m * n)), 1.0 / (norm + 1e-7));
    // matmul(u, pack(w)) is u wᵀ, and pack_transposed of a symmetric matrix is its pack, but
    // faster.
    detail::symmetric_product<T>(x, Packed::pack(x, packed_x), a);
    for (int i = 0; i < 5; ++i) {
        const Packed a_right = Packed::pack_transposed(a, packed_a);
        detail::symmetric_product<T>(a, a_right, z, [&](Index first, Index rows, Index cols) {
            return -4.7750 * in(a.middle_rows(first, rows).middle_cols(0, cols)) + 2.0315 * acc;
        });
        z.eigen().diagonal().array() += T(3.4445);
        const Packed z_right = Packed::pack_transposed(z, packed_z);
        if (i == 0) {
            q.eigen() = z.eigen();
        } else {
            detail::symmetric_product<T>(q, z_right, other);
            std::swap(q, other);
        }
        if (i == 4) break;
        detail::symmetric_product<T>(z, a_right, other);
        detail::symmetric_product<T>(other, z_right, a);
    }
    kernels::matmul(MatrixView<const T>(q), Packed::pack_transposed(x, packed_x), x);
    if (tall) matrix.eigen() = x.eigen().transpose();
    else matrix.eigen() = x.eigen();
}

}  // namespace HYDRALM_NAMESPACE
