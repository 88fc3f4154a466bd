// Rows of activations as integers of 8 bits, per block of 32: the left operand of a product with
// weights of 8 or 4 bits.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "hydralm/core/matrix_view.hpp"
#include "hydralm/core/parallel.hpp"
#include "hydralm/simd/batch.hpp"
#include "hydralm/simd/byte_dot/leaf.hpp"
#include "hydralm/weights/quantised_matrix.hpp"

namespace HYDRALM_NAMESPACE::kernels::detail {

// Up to `most_rows` rows of one product, 240 KiB. As few tiles of at most 6 rows as there must be,
// of one height but for the last, each [blocks][rows of the tile] blocks of values, of scales and
// of corrections.
class QuantisedRows {
public:
    static constexpr Index most_tile_rows = 6, most_rows = 192;
    static constexpr Index capacity = 6144;  // blocks
    static_assert(weights::Q8Matrix::most_cols == capacity * weights::block_size);

    // Rows of so many columns, those of a matrix, that fit: whole tiles, where there is one.
    static constexpr Index fitting_rows(Index cols) noexcept {
        const Index rows =
            std::clamp<Index>(capacity / std::max<Index>(blocks_of(cols), 1), 1, most_rows);
        return rows < most_tile_rows ? rows : rows / most_tile_rows * most_tile_rows;
    }

    // Values s · q: s = max |x| / 127 of the block, q = x · (127 / max) rounded to nearest, ties to
    // even. A block whose 127 / max is infinite counts as 0; one with an infinity or a NaN has a
    // NaN for s. x: in [1, fitting_rows(x.cols())] rows.
    void assign(MatrixView<const float> x) noexcept {
        rows_ = x.rows();
        tile_rows_ = ceil_div(rows_, ceil_div(rows_, most_tile_rows));
        blocks_ = blocks_of(x.cols());
        parallel_for(rows_, [&](Index r) { assign_row(x, r); }, rows_ * blocks_ >= 1024);
    }

    Index rows() const noexcept { return rows_; }
    Index tile_rows() const noexcept { return tile_rows_; }
    Index tiles() const noexcept { return ceil_div(rows_, tile_rows_); }
    Index rows_of(Index tile) const noexcept {
        return std::min(tile_rows_, rows_ - tile * tile_rows_);
    }
    // Of a tile, from a block on.
    simd::ByteRows tile(Index tile, Index block) const noexcept {
        const Index at = tile * tile_rows_ * blocks_ + block * rows_of(tile);
        return {values_.data() + at * weights::block_size, scales_.data() + at,
                corrections_.data() + at};
    }

private:
    // A whole number of pairs.
    static constexpr Index blocks_of(Index cols) noexcept {
        return 2 * ceil_div(cols, 2 * weights::block_size);
    }

    void assign_row(MatrixView<const float> x, Index r) noexcept {
        const Index t = r / tile_rows_, step = rows_of(t);
        Index at = t * tile_rows_ * blocks_ + r % tile_rows_;
        for (Index first = 0; first < blocks_ * weights::block_size;
             first += weights::block_size, at += step) {
            const Index count = x.cols() - first;
            if (count >= weights::block_size) {
                assign_block(x.row(r) + first, at);
            } else {
                std::array<float, static_cast<std::size_t>(weights::block_size)> padded{};
                if (count > 0) std::copy_n(x.row(r) + first, count, padded.begin());
                assign_block(padded.data(), at);
            }
        }
    }
    void assign_block(const float* x, Index at) noexcept {
        constexpr Index size = weights::block_size;
        // magnitudes of floats are ordered as their bits are, and a NaN is above infinity
        std::int32_t most_bits = 0;
        for (Index i = 0; i < size; ++i)
            most_bits = std::max(most_bits, std::bit_cast<std::int32_t>(x[i]) & 0x7fffffff);
        const float most = std::bit_cast<float>(most_bits), inverse = 127 / most;
        constexpr float largest = std::numeric_limits<float>::max();
        const bool finite = most <= largest, counts = finite && inverse <= largest;
        scales_[static_cast<std::size_t>(at)] = counts   ? most / 127
                                                : finite ? 0.0F
                                                         : std::numeric_limits<float>::quiet_NaN();
        alignas(alignment) std::array<std::int32_t, static_cast<std::size_t>(size)> integers{};
        for (Index i = 0; counts && i < size; i += simd::lanes<float>)
            simd::store_rounded(integers.data() + i, simd::load(x + i) * simd::broadcast(inverse));
        std::int32_t sum = 0;
        for (const std::int32_t q : integers) sum += q;
        corrections_[static_cast<std::size_t>(at)] = -128 * sum;
        for (Index i = 0; i < size; ++i)
            values_[static_cast<std::size_t>(at * size + i)] =
                static_cast<std::int8_t>(integers[static_cast<std::size_t>(i)]);
    }

    alignas(alignment)
        std::array<std::int8_t, static_cast<std::size_t>(capacity* weights::block_size)> values_;
    alignas(alignment) std::array<float, static_cast<std::size_t>(capacity)> scales_;
    alignas(alignment) std::array<std::int32_t, static_cast<std::size_t>(capacity)> corrections_;
    Index rows_ = 0, tile_rows_ = 0, blocks_ = 0;
};

}  // namespace HYDRALM_NAMESPACE::kernels::detail
