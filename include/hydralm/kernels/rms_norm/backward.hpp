// Gradient of RMS normalisation. Matches reference::rms_norm_backward; error as the forward form's,
// relative to the largest element of the row, and for dweight to Σ_n |dy x r|.
//
// Rows are taken in blocks of a fixed height, each with a partial dweight of its own, added in the
// order of the blocks: the same bits for any number of threads.
#pragma once

#include <algorithm>
#include <span>
#include <type_traits>

#include "hydralm/core/arena.hpp"
#include "hydralm/kernels/rms_norm/forward.hpp"

namespace HYDRALM_NAMESPACE::kernels {

inline constexpr Index rms_norm_backward_block = 64;  // rows that share one partial dweight

// Bytes of workspace that rms_norm_backward takes for N rows of d elements.
template <Real T>
constexpr Index rms_norm_backward_workspace_bytes(Index rows, Index d) noexcept {
    return arena_bytes<T>(ceil_div(rows, rms_norm_backward_block) * d);
}

namespace detail {

// One row: dx = residual + …, partial += dy x r. residual may be null.
template <Real T>
void rms_norm_backward_row(Index d, const T* x, const T* weight, double eps, const T* dy,
                           const T* residual, T* dx, T* partial) noexcept {
    const T r = inverse_rms(d, x, eps);
    const auto v = in(x), w = in(weight), g = in(dy);
    const T projection = sum(view(x, d) * w * g);
    const T pull = r * (r * (r * projection / static_cast<T>(d)));  // r³ may leave T
    out(d, partial) += g * v * r;
    const auto gradient = r * w * g - v * pull;
    if (residual == nullptr) out(d, dx) = gradient;
    else out(d, dx) = in(residual) + gradient;
}

}  // namespace detail

// dx[n,i] = residual[n,i] + r_n w[i] dy[n,i] − x[n,i] (r_n³/d) Σ_j x[n,j] w[j] dy[n,j],
// dweight[i] += Σ_n dy[n,i] x[n,i] r_n,     r_n as in rms_norm, computed again from x.
//
// x, dy, dx [N,d], weight, dweight [d]; residual [N,d], or an empty view for zero: the gradient
// that reaches x past the norm. Writes dx, adds to dweight. dx may be dy or residual (dx = residual
// accumulates); dx may be x; no other overlap. Takes rms_norm_backward_workspace_bytes<T>(N, d) of
// workspace, gives them back. No errors. Cost: 10 operations an element; 3 reads and 1 write of a
// row.
template <Real T>
void rms_norm_backward(MatrixView<const std::type_identity_t<T>> x,
                       std::span<const std::type_identity_t<T>> weight, double eps,
                       MatrixView<const std::type_identity_t<T>> dy, MatrixView<T> dx,
                       std::span<std::type_identity_t<T>> dweight, Arena& workspace,
                       MatrixView<const std::type_identity_t<T>> residual = {}) noexcept {
    constexpr Index height = rms_norm_backward_block;
    const Index rows = dx.rows(), d = dx.cols(), blocks = ceil_div(rows, height);
    const Arena::Scope scope(workspace);
    T* partials = workspace.take<T>(blocks * d);
    parallel_for(
        blocks,
        [&](Index block) {
            T* partial = partials + block * d;
            std::fill_n(partial, d, T(0));
            for (Index n = block * height; n < std::min((block + 1) * height, rows); ++n) {
                const T* passed = residual.data() == nullptr ? nullptr : residual.row(n);
                detail::rms_norm_backward_row<T>(d, x.row(n), weight.data(), eps, dy.row(n), passed,
                                                 dx.row(n), partial);
            }
        },
        rows * d > Index{1} << 14);
    for (Index block = 0; block < blocks; ++block)
        out(d, dweight.data()) += in(partials + block * d);
}

}  // namespace HYDRALM_NAMESPACE::kernels
