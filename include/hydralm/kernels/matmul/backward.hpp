// matmul_gradient: the weight gradient of y = x·Wᵀ. The input gradient is matmul with the transposed weights:
// dx = dy·W = matmul(dy, PackedMatrix<T>::pack_transposed(W, …), dx).
//
// Fast form of reference::matmul_gradient. Each element of dw is one chain of multiply-adds over the rows in order, added
// to dw at the end: the same bits whatever the number of threads.
// Error: |dw − exact| ≤ (M + 2)·ε·(Σ|dy·x| + |dw|) per element.
#pragma once

#include "hydralm/kernels/matmul/product.hpp"

namespace HYDRALM_NAMESPACE::kernels {
namespace detail {

// block.sums[p][o][:] = Σ_m dy(m, o) · x(m, panel p). dy: [M, outputs ≤ Block::rows]; x: [M, ≤ panels of columns].
template <Real T>
void accumulate_outer(MatrixView<const T> dy, MatrixView<const T> x, Block<T>& block) noexcept {
    using B = Block<T>;
    using Panel = typename PackedMatrix<T>::Panel;
    alignas(alignment) std::array<T, B::depth * B::panel_rows> strip;  // one panel's columns of a slice of x, zero padded
    const Index outputs = dy.cols(), tiles = ceil_div(outputs, B::tile_rows);
    Index first = 0;
    do {
        const Index count = std::min(B::depth, dy.rows() - first);
        // dy by tiles of outputs, interleaved by row: [tiles, count, tile_rows], zero padded
        for (Index t = 0; t < tiles; ++t) {
            const Index o = t * B::tile_rows, width = std::min<Index>(B::tile_rows, outputs - o);
            T* to = block.x.data() + o * B::depth;
            for (Index m = 0; m < count; ++m, to += B::tile_rows) {
                std::copy_n(dy.row(first + m) + o, width, to);
                std::fill(to + width, to + B::tile_rows, T(0));
            }
        }
        for (Index column = 0, p = 0; column < x.cols(); column += B::panel_rows, ++p) {
            const Index width = std::min(B::panel_rows, x.cols() - column);
            for (Index m = 0; m < count; ++m) {
                T* to = strip.data() + m * B::panel_rows;
                std::copy_n(x.row(first + m) + column, width, to);
                std::fill(to + width, to + B::panel_rows, T(0));
            }
            const Panel panel{strip.data()};
            for (Index t = 0; t < tiles; ++t)
                tile<Interleaved<T>, B::tile_rows, 1>(block.x.data() + t * B::tile_rows * B::depth, &panel, 0, count,
                    block.sums.data() + p * B::panel_stride + t * B::tile_rows * B::panel_rows, first == 0);
        }
        first += count;
    } while (first < dy.rows());
}

}  // namespace detail

// dw += dyᵀ·x.
// dy: [M, out]; x: [M, in]; dw: [out, in] row-major, read and written; it overlaps neither. M ≥ 0. Allocates nothing
// (230 KiB of stack); parallel over blocks of dw when large. 2·M·in·out operations.
template <Real T>
void matmul_gradient(MatrixView<const std::type_identity_t<T>> dy, MatrixView<const std::type_identity_t<T>> x,
    MatrixView<T> dw) noexcept {
    using B = detail::Block<T>;
    const auto partition = detail::Partition::of<T>(dw.rows(), dy.rows(), ceil_div(dw.cols(), B::panel_rows), 1);
    partition.run([&](Index row, Index rows, Index slot, Index slots) {
        B block;
        const Index column = slot * B::panel_rows;
        const Index columns = std::min(slots * B::panel_rows, dw.cols() - column);
        detail::accumulate_outer<T>(dy.middle_cols(row, rows), x.middle_cols(column, columns), block);
        detail::for_each_vector<T>(
            rows, slots, column, dw.cols(), [&](Index r, Index c, Index count, Index at) {
                T* out = dw.row(row + r) + c;
                detail::store_some<T>(out, Add{}(simd::load<T>(block.sums.data() + at), out, c, count), count);
            });
    });
}

}  // namespace HYDRALM_NAMESPACE::kernels
