// Rows of activations as integers of 8 bits, per block of 32: the left operand of a product with
// weights of 8 or 4 bits.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "hydralm/core/arena.hpp"
#include "hydralm/core/matrix_view.hpp"
#include "hydralm/core/parallel.hpp"
#include "hydralm/simd/batch.hpp"
#include "hydralm/simd/byte_dot/leaf.hpp"
#include "hydralm/weights/quantised_matrix.hpp"

namespace HYDRALM_NAMESPACE::kernels::detail {

// Rows of one product, in memory of another's. As few tiles of at most 6 rows as there must be, of
// one height but for the last, each [blocks][rows of the tile] blocks of values, of scales and of
// corrections.
class QuantisedRows {
public:
    static constexpr Index most_tile_rows = 6, most_rows = 96;
    // In an arena; on the stack; and there, of few rows: 240, 70 and 25 KiB. All multiples of 16.
    static constexpr Index most_blocks = 6144, stack_blocks = 1792, few_blocks = 640;
    static_assert(weights::Q8Matrix::most_cols == stack_blocks * weights::block_size);

    // memory: bytes(blocks), aligned.
    QuantisedRows(std::byte* memory, Index blocks) noexcept
        : capacity_(blocks),
          values_(reinterpret_cast<std::int8_t*>(memory)),
          scales_(reinterpret_cast<float*>(memory + blocks * weights::block_size)),
          corrections_(reinterpret_cast<std::int32_t*>(scales_ + blocks)) {}

    // Of so many blocks.
    static constexpr Index bytes(Index blocks) noexcept {
        return blocks * (weights::block_size + Index{sizeof(float)} + Index{sizeof(std::int32_t)});
    }
    // The blocks that rows of so many columns are best given: all they have, or as many as pay.
    static constexpr Index wanted_blocks(Index rows, Index cols) noexcept {
        return std::min(most_blocks, round_up(std::min(rows, most_rows) * blocks_of(cols), 16));
    }
    // How many of so many rows to take at a time: all where they fit, else whole tiles, evenly.
    Index rows_at_once(Index rows, Index cols) const noexcept {
        const Index fit =
            std::clamp<Index>(capacity_ / std::max<Index>(blocks_of(cols), 1), 1, most_rows);
        if (rows <= fit) return rows;
        if (fit < most_tile_rows) return fit;
        const Index whole = fit / most_tile_rows * most_tile_rows;
        return std::min(whole, round_up(ceil_div(rows, ceil_div(rows, whole)), most_tile_rows));
    }

    // Values s · q: s = max |x| / 127 of the block, q = x · (127 / max) rounded to nearest, ties to
    // even. A block whose 127 / max is infinite counts as 0; one with an infinity or a NaN has a
    // NaN for s. x: at least 1 row, and no more than there is memory for.
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
        return {values_ + at * weights::block_size, scales_ + at, corrections_ + at};
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
        scales_[at] = counts ? most / 127 : finite ? 0.0F : std::numeric_limits<float>::quiet_NaN();
        alignas(alignment) std::array<std::int32_t, static_cast<std::size_t>(size)> integers{};
        for (Index i = 0; counts && i < size; i += simd::lanes<float>)
            simd::store_rounded(integers.data() + i, simd::load(x + i) * simd::broadcast(inverse));
        std::int32_t sum = 0;
        for (const std::int32_t q : integers) sum += q;
        corrections_[at] = -128 * sum;
        std::int8_t* const values = values_ + at * size;
        for (Index i = 0; i < size; ++i)
            values[i] = static_cast<std::int8_t>(integers[static_cast<std::size_t>(i)]);
    }

    Index capacity_;
    std::int8_t* values_;
    float* scales_;
    std::int32_t* corrections_;
    Index rows_ = 0, tile_rows_ = 0, blocks_ = 0;
};

template <Index Blocks, class F>
[[gnu::noinline]] void with_rows_on_stack(const F& f) noexcept {
    alignas(alignment) LocalArray<std::byte, QuantisedRows::bytes(Blocks)> memory;
    f(QuantisedRows(memory, Blocks));
}

// f(rows): with all that they want of the arena, where there is one that has it, or they are few;
// else with less.
template <class F>
void with_quantised_rows(Index rows, Index cols, Arena* arena, const F& f) noexcept {
    const Index blocks = QuantisedRows::wanted_blocks(rows, cols);
    if (blocks <= QuantisedRows::few_blocks) {
        with_rows_on_stack<QuantisedRows::few_blocks>(f);
    } else if (arena != nullptr && arena->left() >= QuantisedRows::bytes(blocks)) {
        const Arena::Scope scope(*arena);
        f(QuantisedRows(arena->take<std::byte>(QuantisedRows::bytes(blocks)), blocks));
    } else {
        with_rows_on_stack<QuantisedRows::stack_blocks>(f);
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels::detail

namespace HYDRALM_NAMESPACE::kernels {

// What products of so many rows with weights of 8 or 4 bits of at most so many columns use of an
// arena.
constexpr Index quantised_workspace_bytes(Index rows, Index cols) noexcept {
    using Rows = detail::QuantisedRows;
    const Index blocks = Rows::wanted_blocks(rows, cols);
    return blocks <= Rows::few_blocks ? 0 : Rows::bytes(blocks);
}

}  // namespace HYDRALM_NAMESPACE::kernels
