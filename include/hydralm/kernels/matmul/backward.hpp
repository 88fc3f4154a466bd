// matmul_gradient: the weight gradient of y = x·Wᵀ. The input gradient is matmul with the
// transposed weights: dx = dy·W = matmul(dy, weights::PackedMatrix<T>::pack_transposed(W, …), dx).
//
// Fast form of reference::matmul_gradient. Each element of dw is one chain of multiply-adds over
// the rows in order, added to dw at the end: the same bits whatever the number of threads. Error:
// |dw − exact| ≤ (M + 2)·ε·(Σ|dy·x| + |dw|) per element.
#pragma once

#include "hydralm/kernels/matmul/product.hpp"

namespace HYDRALM_NAMESPACE::kernels {
namespace detail {

// Adjacent columns of a row-major matrix as a panel, its rows the contraction.
template <Real T>
struct RowsPanel {
    using Scalar = T;
    static constexpr Index column_bytes = weights::PackedMatrix<T>::Panel::column_bytes;

    const T* data;
    Index stride;

    simd::Batch<T> load(Index row, Index half) const noexcept {
        return simd::load(data + row * stride + half * simd::lanes<T>);
    }
};

// One slice of the contraction, rows [first, first + count), count ≤ Block::depth. Both operands
// are read where they lie.
template <Real T>
struct OuterSlice {
    using B = Block<T>;
    static constexpr Index panel_rows = B::panel_rows;

    MatrixView<const T> dy, x;  // whole columns
    Index first, count;
    T* sums;  // [outputs, sums_stride]

    // As many tiles of Rows outputs as fit into [output, dy.cols()), for all panels; moves output
    // behind them.
    template <int Rows>
    void tiles(Index& output) const noexcept {
        if constexpr (Rows <= B::tile_rows) {
            const Index start = output, fit = (dy.cols() - output) / Rows;
            output += fit * Rows;
            for (Index column = 0; fit > 0 && column < x.cols(); column += panel_rows) {
                if (column + panel_rows <= x.cols())
                    add<Rows>(start, fit, column, first, count,
                              {x.row(first) + column, x.stride()});
                else add_padded<Rows>(start, fit, column);
            }
        }
    }

private:
    // The last columns of x, which are no whole panel: copied, zeros behind them, some rows at a
    // time.
    template <int Rows>
    void add_padded(Index start, Index fit, Index column) const noexcept {
        constexpr Index strip_rows = 32;
        const Index columns = x.cols() - column, end = first + count;
        alignas(alignment) LocalArray<T, strip_rows * panel_rows> strip{};
        for (Index row = first; row < end; row += strip_rows) {
            const Index rows = std::min(strip_rows, end - row);
            for (Index m = 0; m < rows; ++m)
                std::copy_n(x.row(row + m) + column, columns, strip + m * panel_rows);
            add<Rows>(start, fit, column, row, rows, {strip, panel_rows});
        }
    }

    // Rows [row, row + rows) of the columns from column on, which panel holds, into fit tiles of
    // outputs. Each tile asks for one cache line per row: of the next panel's columns, or of dy's
    // next slice.
    template <int Rows>
    void add(Index start, Index fit, Index column, Index row, Index rows,
             const RowsPanel<T>& panel) const noexcept {
        constexpr Index line = 64 / sizeof(T), panel_lines = panel_rows / line + 1;
        for (Index t = 0; t < fit; ++t) {
            const Index output = start + t * Rows;
            const bool of_x = t < panel_lines;
            const T* ahead = of_x
                                 ? x.row(row) + column + panel_rows + t * line
                                 : dy.row(row + count) +
                                       (column / panel_rows + (t - panel_lines) * B::panels) * line;
            tile<Rows, 1>(ColumnMajor<T>{dy.row(row) + output, dy.stride()}, &panel, 0, rows,
                          sums + output * B::sums_stride + column, row == 0,
                          Ahead{ahead, (of_x ? x.stride() : dy.stride()) * Index{sizeof(T)}});
        }
    }
};

// sums[o][p][:] = Σ_m dy(m, o) · x(m, panel p). dy: [M ≥ 1, outputs]; x: [M, ≤ Block::panels of
// columns].
template <Real T>
void accumulate_outer(MatrixView<const T> dy, MatrixView<const T> x, T* sums) noexcept {
    for (Index first = 0; first < dy.rows(); first += Block<T>::depth) {
        const Index count = std::min(Block<T>::depth, dy.rows() - first);
        const OuterSlice<T> slice{dy, x, first, count, sums};
        Index output = 0;
        for_tile_rows([&]<int Rows>() { slice.template tiles<Rows>(output); });
    }
}

}  // namespace detail

// dw += dyᵀ·x.
// dy: [M, out]; x: [M, in]; dw: [out, in] row-major, read and written; it overlaps neither. M ≥ 0.
// Allocates nothing (80 KiB of stack); parallel over blocks of dw when large. 2·M·in·out
// operations.
template <Real T>
void matmul_gradient(MatrixView<const std::type_identity_t<T>> dy,
                     MatrixView<const std::type_identity_t<T>> x, MatrixView<T> dw) noexcept {
    using B = detail::Block<T>;
    constexpr Index most_rows = 48;  // that share one read of x
    if (dy.rows() == 0) return;
    const auto partition = detail::Partition::of<T>(dw.rows(), most_rows, dy.rows(),
                                                    ceil_div(dw.cols(), B::panel_rows), 1);
    partition.run([&](Index row, Index rows, Index slot, Index slots) {
        alignas(alignment) LocalArray<T, most_rows * B::sums_stride> sums;
        const Index column = slot * B::panel_rows;
        const Index columns = std::min(slots * B::panel_rows, dw.cols() - column);
        detail::accumulate_outer<T>(dy.middle_cols(row, rows), x.middle_cols(column, columns),
                                    sums);
        for (Index r = 0; r < rows; ++r)
            detail::finish_row<T, 1>(sums + r * B::sums_stride, slots, column, dw.cols(),
                                     (in(dw) + acc).template bind<T>(row + r), dw.row(row + r));
    });
}

}  // namespace HYDRALM_NAMESPACE::kernels
