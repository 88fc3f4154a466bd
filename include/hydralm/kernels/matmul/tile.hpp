// The register tile of the product, and the block of rows × panels that is built from it.
//
// A tile holds Rows × Panels × 2 vectors of sums in registers and walks the contraction index in order: per step it loads
// the panels' vectors, broadcasts one value of each row, and does one multiply-add per sum. Every output element is one
// chain of simd::fma over the contraction index, whatever tile it falls in: its bits depend on nothing else. Sums of a
// block wait in L1/L2 between slices of the contraction, which keeps the order and fits both operands in cache.
#pragma once

#include <algorithm>
#include <array>
#include <utility>

#include "hydralm/core/matrix_view.hpp"
#include "hydralm/kernels/matmul/packed_matrix.hpp"
#include "hydralm/simd/batch.hpp"

namespace HYDRALM_NAMESPACE::kernels::detail {

// Sizes of a block. x and sums together are about 200 KiB of stack, half of a small L2.
template <Real T>
struct Block {
    // 12 × 2 sums + 2 weights + 1 value on 32 registers; 6 × 2 on 16.
    static constexpr int tile_rows = simd::registers >= 32 ? 12 : 6;
    static constexpr Index rows = 72;                           // a multiple of tile_rows
    static constexpr Index depth = 1024 / sizeof(T);            // contraction indices of one slice
    static constexpr Index x_stride = depth + 64 / sizeof(T);   // off the power of two: rows fall in different cache sets
    static constexpr Index panel_rows = PackedMatrix<T>::panel_rows;
    static constexpr Index panels = 2048 / (panel_rows * static_cast<Index>(sizeof(T)));
    static constexpr Index panel_stride = rows * panel_rows;    // between the sums of two panels

    alignas(alignment) std::array<T, rows * x_stride> x;            // [rows, depth], a slice of the left operand
    alignas(alignment) std::array<T, panels * panel_stride> sums;  // [panels, rows, panel_rows]
};

// Layout of the left operand of a tile: value (row, k) lies at row·row_stride + k·step.
template <Index RowStride, Index Step>
struct Layout {
    static constexpr Index row_stride = RowStride, step = Step;
};
template <Real T>
using RowMajor = Layout<Block<T>::x_stride, 1>;
template <Real T>
using Interleaved = Layout<1, Block<T>::tile_rows>;

template <Real T, int... W>
[[gnu::always_inline]] inline void multiply_add(simd::Batch<T>* sums, T value, const simd::Batch<T>* weights,
    std::integer_sequence<int, W...>) noexcept {
    const simd::Batch<T> v = simd::broadcast(value);
    ((sums[W] = simd::fma<T>(v, weights[W], sums[W])), ...);
}

// Asks for bytes [share·size/shares, (share + 1)·size/shares) of [p, p + size) in L2, so that what the next slice or panel
// needs arrives while this one is computed on. Reads nothing, and p need not be valid.
inline void prefetch_share(const void* p, Index size, Index share, Index shares) noexcept {
    constexpr Index line = 64;
    const char* bytes = static_cast<const char*>(p);
    for (Index at = share * size / shares / line * line; at < (share + 1) * size / shares; at += line)
        __builtin_prefetch(bytes + at, 0, 2);
}

// sums[p][r][:] (+)= Σ_k x(r, k) · panels[p](first + k, :) for k in [0, count), in order; from zero when fresh.
template <class X, int Rows, int Panels, class Panel>
[[gnu::noinline]] void tile(const typename Panel::Scalar* x, const Panel* panels, Index first, Index count,
    typename Panel::Scalar* sums, bool fresh, const char* ahead, Index ahead_step) noexcept {
    using T = typename Panel::Scalar;
    using B = Block<T>;
    constexpr int width = 2 * Panels;
    [&]<int... R, int... W>(std::integer_sequence<int, R...>, std::integer_sequence<int, W...> all) {
        std::array<simd::Batch<T>, Rows * width> s;
        const auto address = [sums](int r, int w) {
            return sums + (w / 2) * B::panel_stride + r * B::panel_rows + (w % 2) * simd::lanes<T>;
        };
        const auto each_row = [&](auto&& f) { (f(std::integral_constant<int, R>{}), ...); };
        if (fresh) s.fill(simd::broadcast(T(0)));
        else each_row([&](auto r) { ((s[r * width + W] = simd::load<T>(address(r, W))), ...); });
        std::array<Panel, Panels> local;
        std::copy_n(panels, Panels, local.begin());
        for (Index k = 0; k < count; ++k) {
            if constexpr (Panels == 1) {
                for (Index line = 0; line < Panel::column_bytes; line += 64) __builtin_prefetch(ahead + line, 0, 2);
                ahead += ahead_step;
            }
            const std::array<simd::Batch<T>, width> weights{local[W / 2].load(first + k, W % 2)...};
            (multiply_add<T>(s.data() + R * width, x[R * X::row_stride + k * X::step], weights.data(), all), ...);
        }
        each_row([&](auto r) { (simd::store<T>(address(r, W), s[r * width + W]), ...); });
    }(std::make_integer_sequence<int, Rows>{}, std::make_integer_sequence<int, width>{});
}

// Panels a tile takes at once: one row alone takes four, to have chains and streams enough in flight.
template <int Rows>
inline constexpr int panels_at_once = Rows == 1 ? 4 : 1;

// One slice of the contraction: x copied to block.x, sums accumulated for all panels.
template <class Panel>
struct Slice {
    using T = typename Panel::Scalar;
    using B = Block<T>;

    MatrixView<const T> x;  // whole rows
    const Panel* panels;    // may be read up to the next multiple of four
    Index panel_count, first, count;
    B& block;

    // As many tiles of Rows rows as fit into [row, x.rows()), for all panels; moves row behind them.
    template <int Rows>
    void tiles(Index& row) const noexcept {
        if constexpr (Rows <= B::tile_rows) {
            constexpr Index step = panels_at_once<Rows>;
            const Index start = row, fit = (x.rows() - row) / Rows;
            row += fit * Rows;
            const Index next = first + count, next_count = std::min(B::depth, x.cols() - next);
            for (Index p = 0; fit > 0 && p < panel_count; p += step)
                for (Index t = 0; t < fit; ++t) {
                    const Index r = start + t * Rows;
                    for (Index i = r; next_count > 0 && i < r + Rows; ++i)
                        prefetch_share(x.row(i) + next, next_count * Index{sizeof(T)}, p / step, ceil_div(panel_count, step));
                    const bool last = p + step >= panel_count;
                    const char* ahead = static_cast<const char*>(
                        panels[last ? 0 : p + step].address((last ? next : first) + t * count / fit));
                    const Index ahead_step = ceil_div(Panel::column_bytes, fit);
                    tile<RowMajor<T>, Rows, step>(block.x.data() + r * B::x_stride, panels + p, first, count,
                        block.sums.data() + p * B::panel_stride + r * B::panel_rows, first == 0, ahead, ahead_step);
                }
        }
    }
};

// block.sums[p][r][:] = Σ_k x(r, k) · panels[p](k, :). x: [≤ Block::rows, depth]; panels: an array of Block::panels of
// which panel_count hold, followed by copies of the last up to a multiple of four.
template <class Panel>
void accumulate(MatrixView<const typename Panel::Scalar> x, const Panel* panels, Index panel_count,
    Block<typename Panel::Scalar>& block) noexcept {
    using T = typename Panel::Scalar;
    using B = Block<T>;
    Index first = 0;
    do {
        const Index count = std::min(B::depth, x.cols() - first);
        for (Index r = 0; r < x.rows(); ++r) std::copy_n(x.row(r) + first, count, block.x.data() + r * B::x_stride);
        const Slice<Panel> slice{x, panels, panel_count, first, count, block};
        Index row = 0;
        [&]<int... Rows>(std::integer_sequence<int, Rows...>) {
            (slice.template tiles<Rows>(row), ...);
        }(std::integer_sequence<int, 12, 8, 6, 4, 3, 2, 1>{});
        first += count;
    } while (first < x.cols());
}

}  // namespace HYDRALM_NAMESPACE::kernels::detail
