// matmul_gradient: the weight gradient of y = x·Wᵀ. The input gradient is matmul with the
// transposed weights: dx = dy·W = matmul(dy, weights::PackedMatrix<T>::pack_transposed(W, …), dx).
//
// Fast form of reference::matmul_gradient. Each element of dw is one chain of multiply-adds over
// the rows in order, added to dw at the end: the same bits whatever the number of threads. Error:
// |dw − exact| ≤ (M + 2)·ε·(Σ|dy·x| + |dw|) per element.
#pragma once

#include <cstring>

#include "hydralm/kernels/matmul/product.hpp"

namespace HYDRALM_NAMESPACE::kernels {
namespace detail {

// The first min(width, Size) elements of from, zeros behind them up to Size.
template <Index Size, Real T>
void copy_padded(const T* from, Index width, T* to) noexcept {
    if (width >= Size) {
        std::memcpy(to, from, Size * sizeof(T));
    } else {
        std::copy_n(from, width, to);
        std::fill(to + width, to + Size, T(0));
    }
}

// block.sums[p][o][:] = Σ_m dy(m, o) · x(m, panel p). dy: [M, outputs ≤ Block::rows]; x: [M, ≤
// panels of columns].
template <Real T>
void accumulate_outer(MatrixView<const T> dy, MatrixView<const T> x, Block<T>& block) noexcept {
    using B = Block<T>;
    using Panel = typename weights::PackedMatrix<T>::Panel;
    alignas(alignment) std::array<T, B::depth * B::panel_rows>
        strip;  // one panel's columns of a slice of x, zero padded
    const Index outputs = dy.cols(), tiles = ceil_div(outputs, B::tile_rows);
    Index first = 0;
    do {
        const Index count = std::min(B::depth, dy.rows() - first);
        // dy by tiles of outputs, interleaved by row: [tiles, count, tile_rows]
        for (Index m = 0; m < count; ++m)
            for (Index o = 0; o < outputs; o += B::tile_rows)
                copy_padded<B::tile_rows>(dy.row(first + m) + o, outputs - o,
                                          block.x.data() + o * B::depth + m * B::tile_rows);
        for (Index column = 0, p = 0; column < x.cols(); column += B::panel_rows, ++p) {
            for (Index m = 0; m < count; ++m)
                copy_padded<B::panel_rows>(x.row(first + m) + column, x.cols() - column,
                                           strip.data() + m * B::panel_rows);
            const Panel panel{strip.data()};
            for (Index t = 0; t < tiles; ++t) {
                // each tile asks for one cache line per row: of the next panel's columns, or of
                // dy's next slice
                constexpr Index line = 64 / sizeof(T), panel_lines = B::panel_rows / line + 1;
                const bool of_x = t < panel_lines;
                const T* ahead =
                    of_x ? x.row(first) + column + B::panel_rows + t * line
                         : dy.row(first + count) + (p + (t - panel_lines) * B::panels) * line;
                tile<Interleaved<T>, B::tile_rows, 1>(
                    block.x.data() + t * B::tile_rows * B::depth, &panel, 0, count,
                    block.sums.data() + p * B::panel_stride + t * B::tile_rows * B::panel_rows,
                    first == 0, Ahead{ahead, (of_x ? x.stride() : dy.stride()) * Index{sizeof(T)}});
            }
        }
        first += count;
    } while (first < dy.rows());
}

}  // namespace detail

// dw += dyᵀ·x.
// dy: [M, out]; x: [M, in]; dw: [out, in] row-major, read and written; it overlaps neither. M ≥ 0.
// Allocates nothing (260 KiB of stack); parallel over blocks of dw when large. 2·M·in·out
// operations.
template <Real T>
void matmul_gradient(MatrixView<const std::type_identity_t<T>> dy,
                     MatrixView<const std::type_identity_t<T>> x, MatrixView<T> dw) noexcept {
    using B = detail::Block<T>;
    if (dy.rows() == 0) return;
    const auto partition =
        detail::Partition::of<T>(dw.rows(), dy.rows(), ceil_div(dw.cols(), B::panel_rows), 1);
    partition.run([&](Index row, Index rows, Index slot, Index slots) {
        B block;
        const Index column = slot * B::panel_rows;
        const Index columns = std::min(slots * B::panel_rows, dw.cols() - column);
        detail::accumulate_outer<T>(dy.middle_cols(row, rows), x.middle_cols(column, columns),
                                    block);
        for (Index r = 0; r < rows; ++r)
            detail::finish_row<T, 1>(block, r, slots, column, dw.cols(),
                                     (in(dw) + acc).template bind<T>(row + r), dw.row(row + r));
    });
}

}  // namespace HYDRALM_NAMESPACE::kernels
