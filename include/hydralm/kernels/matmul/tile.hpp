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
    static constexpr Index rows = 96;                           // a multiple of tile_rows
    static constexpr Index depth = 1024 / sizeof(T);            // contraction indices of one slice
    static constexpr Index x_stride = depth + 64 / sizeof(T);   // off the power of two: rows fall in different cache sets
    static constexpr Index panel_rows = PackedMatrix<T>::panel_rows;
    static constexpr Index panels = std::min<Index>(1024 / (panel_rows * static_cast<Index>(sizeof(T))), 16);
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

// sums[p][r][:] (+)= Σ_k x(r, k) · panels[p](first + k, :) for k in [0, count), in order; from zero when fresh.
template <class X, int Rows, int Panels, class Panel>
[[gnu::noinline]] void tile(const typename Panel::Scalar* x, const Panel* panels, Index first, Index count,
    typename Panel::Scalar* sums, bool fresh) noexcept {
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
            const std::array<simd::Batch<T>, width> weights{local[W / 2].load(first + k, W % 2)...};
            (multiply_add<T>(s.data() + R * width, x[R * X::row_stride + k * X::step], weights.data(), all), ...);
        }
        each_row([&](auto r) { (simd::store<T>(address(r, W), s[r * width + W]), ...); });
    }(std::make_integer_sequence<int, Rows>{}, std::make_integer_sequence<int, width>{});
}

// Panels a tile of few rows takes at once, so that at least six chains are in flight (latency 4 × up to 2 units).
template <int Rows>
inline constexpr int panels_at_once = Rows == 1 ? 4 : Rows <= 3 ? 2 : 1;

// As many tiles of Rows rows as fit into [row, rows), for all panels; panels may be read up to the next multiple of four.
template <int Rows, class Panel>
void tiles(Block<typename Panel::Scalar>& block, Index& row, Index rows, const Panel* panels, Index panel_count,
    Index first, Index count) noexcept {
    using T = typename Panel::Scalar;
    using B = Block<T>;
    if constexpr (Rows <= B::tile_rows) {
        const Index end = row + (rows - row) / Rows * Rows;
        for (Index p = 0; row < end && p < panel_count; p += panels_at_once<Rows>)
            for (Index r = row; r < end; r += Rows)
                tile<RowMajor<T>, Rows, panels_at_once<Rows>>(block.x.data() + r * B::x_stride, panels + p, first, count,
                    block.sums.data() + p * B::panel_stride + r * B::panel_rows, first == 0);
        row = end;
    }
}

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
        Index row = 0;
        [&]<int... Rows>(std::integer_sequence<int, Rows...>) {
            (tiles<Rows>(block, row, x.rows(), panels, panel_count, first, count), ...);
        }(std::integer_sequence<int, 12, 8, 6, 4, 3, 2, 1>{});
        first += count;
    } while (first < x.cols());
}

}  // namespace HYDRALM_NAMESPACE::kernels::detail
