// Newton–Schulz: a matrix with the same singular vectors whose singular values are near 1.
//
//   X ← G / (‖G‖_F + 1e-7);  five times:  A = X Xᵀ,  X ← a X + (b A + c A²) X
//   (a, b, c) = (3.4445, −4.7750, 2.0315);  on Gᵀ when G is tall
//
// Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024).
#pragma once

#include <cmath>

#include "hydralm/core/arena.hpp"
#include "hydralm/kernels/matmul/matmul.hpp"
#include "hydralm/training/gradient_clip.hpp"

namespace HYDRALM_NAMESPACE {

template <Real T>
constexpr Index newton_schulz_workspace_bytes(Index rows, Index cols) noexcept {
    const Index m = std::min(rows, cols), n = std::max(rows, cols);
    using Packed = weights::PackedMatrix<T>;
    return 2 * arena_bytes<T>(m * n) + 3 * arena_bytes<T>(m * m) +
           arena_bytes<T>(std::max({Packed::storage_size(m, n), Packed::storage_size(n, m),
                                    Packed::storage_size(m, m)}));
}

// matrix [rows, cols] in place; zero stays zero. No allocation, no errors. Cost: 5 (4 m² n + 2 m³)
// FLOP, m ≤ n the two extents.
template <Real T>
void newton_schulz(MatrixView<T> matrix, Arena& arena) noexcept {
    const Arena::Scope scope(arena);
    const bool tall = matrix.rows() > matrix.cols();
    const Index m = std::min(matrix.rows(), matrix.cols()),
                n = std::max(matrix.rows(), matrix.cols());
    MatrixView<T> x(arena.take<T>(m * n), m, n), next(arena.take<T>(m * n), m, n);
    const MatrixView<T> a(arena.take<T>(m * m), m, m), a2(arena.take<T>(m * m), m, m),
        b(arena.take<T>(m * m), m, m);
    using Packed = weights::PackedMatrix<T>;
    T* const packed = arena.take<T>(std::max(
        {Packed::storage_size(m, n), Packed::storage_size(n, m), Packed::storage_size(m, m)}));
    if (tall) x.eigen() = matrix.eigen().transpose();
    else x.eigen() = matrix.eigen();
    const double norm =
        gradient_norm<T>(std::span<const T>(x.data(), static_cast<std::size_t>(m * n)));
    scale_gradient<T>(std::span<T>(x.data(), static_cast<std::size_t>(m * n)), 1.0 / (norm + 1e-7));
    for (int i = 0; i < 5; ++i) {
        // matmul(u, pack(w)) is u wᵀ; A is symmetric.
        kernels::matmul(MatrixView<const T>(x), Packed::pack(MatrixView<const T>(x), packed), a);
        kernels::matmul(MatrixView<const T>(a), Packed::pack(MatrixView<const T>(a), packed), a2);
        out(b) = -4.7750 * in(a) + 2.0315 * in(a2);
        kernels::matmul(MatrixView<const T>(b),
                        Packed::pack_transposed(MatrixView<const T>(x), packed), next);
        out(x) = 3.4445 * in(x) + in(next);
    }
    if (tall) matrix.eigen() = x.eigen().transpose();
    else matrix.eigen() = x.eigen();
}

}  // namespace HYDRALM_NAMESPACE
