// QuantisedMatrix: weights W [rows, cols] in blocks of 8 or 4 bits, in the order the product reads
// them.
//
// Panels of 16 output rows, the last one padded with scales of 0. A panel goes through the inputs
// two blocks at a time, an odd last block followed by one of scale 0. Such a pair is
//   scales [2 blocks][16 rows] binary16,                     a line of 64 bytes, then
//   Q8Block: [2 blocks][8 quads][16 rows][4 inputs]          of value + 128, 1024 bytes
//   Q4Block: [8 quads][16 rows][4 inputs]                    of two table indices, 512 bytes: the
//            low four bits of the first block, the high four of the second.
// A line is the operand of one dot product of bytes, whatever the vector's width, so the order is
// the same for every instruction set; the bytes are unsigned because vpdpbusd wants them so.
#pragma once

#include <array>
#include <cstring>
#include <span>

#include "hydralm/core/matrix_view.hpp"
#include "hydralm/core/parallel.hpp"
#include "hydralm/weights/format.hpp"
#include "hydralm/weights/quantised_block.hpp"

namespace HYDRALM_NAMESPACE::weights {

// A non-owning view. Copying it copies no element; the storage outlives it.
template <class BlockType>
class QuantisedMatrix {
public:
    using Scalar = float;  // of what it is multiplied with, and of the sums
    using Element = std::uint8_t;
    using Block = BlockType;
    static constexpr Index panel_rows = 16;
    static constexpr Index pair_cols = 2 * block_size;
    static constexpr Index most_cols = 57'344;  // of what a product can take
    static constexpr bool four_bits = std::is_same_v<Block, Q4Block>;
    static constexpr Format format = four_bits ? Format::q4 : Format::q8;
    static constexpr Index pair_bytes = 64 + (four_bits ? 512 : 1024);

    QuantisedMatrix() = default;
    // data: storage_size(rows, cols) bytes that pack or pack_blocks has filled, 64-byte aligned.
    QuantisedMatrix(const Element* data, Index rows, Index cols) noexcept
        : data_(data), rows_(rows), cols_(cols) {}

    // Bytes of the storage, padding included. rows ≥ 0, cols in [0, most_cols].
    static constexpr Index storage_size(Index rows, Index cols) noexcept {
        return ceil_div(rows, panel_rows) * ceil_div(cols, pair_cols) * pair_bytes;
    }
    // Of one row.
    static constexpr Index blocks_of(Index cols) noexcept { return ceil_div(cols, block_size); }

    // Packs w [rows, cols], each block quantised by itself. storage: storage_size(w.rows(),
    // w.cols()) bytes, all written; apart from w. Allocates nothing; parallel over panels.
    static QuantisedMatrix pack(MatrixView<const float> w, Element* storage) noexcept {
        return pack_each(w.rows(), w.cols(), storage,
                         [&](Index first, Index n, Index b, Block* out) {
                             const Index column = b * block_size,
                                         count = std::min(block_size, w.cols() - column);
                             Block::quantise(w.row(first) + column, w.stride(), n, count, out);
                         });
    }
    // Packs blocks as they are: [rows, blocks_of(cols)].
    static QuantisedMatrix pack_blocks(const Block* blocks, Index rows, Index cols,
                                       Element* storage) noexcept {
        return pack_each(rows, cols, storage, [&](Index first, Index n, Index b, Block* out) {
            for (Index r = 0; r < n; ++r) out[r] = blocks[(first + r) * blocks_of(cols) + b];
        });
    }

    // Panel by panel: f(first, n, b, out) writes block b of rows [first, first + n) to out[0, n).
    template <class F>
    static QuantisedMatrix pack_each(Index rows, Index cols, Element* storage,
                                     const F& f) noexcept {
        const QuantisedMatrix result(storage, rows, cols);
        const Index pairs = result.pairs(), blocks = blocks_of(cols);
        parallel_for(
            result.panels(),
            [&](Index panel) {
                const Index first = panel * panel_rows, n = std::min(panel_rows, rows - first);
                Element* to = storage + panel * pairs * pair_bytes;
                std::array<std::array<Block, static_cast<std::size_t>(panel_rows)>, 2> made{};
                for (Index b = 0; b < 2 * pairs; b += 2, to += pair_bytes) {
                    f(first, n, b, made[0].data());
                    if (b + 1 < blocks) f(first, n, b + 1, made[1].data());
                    else made[1].fill({});
                    for (std::size_t r = 0; r < made[0].size(); ++r)
                        put(made[0][r], made[1][r], static_cast<Index>(r), to);
                }
            },
            rows * cols > 100'000);
        return result;
    }

    // Block b of row r, bit for bit what was packed. 0 ≤ r < rows(), 0 ≤ b < blocks_of(cols()).
    Block block(Index r, Index b) const noexcept {
        const Element* from = pair(r, b);
        Block result;
        std::memcpy(&result.scale_bits, from + scale_at(r, b), sizeof result.scale_bits);
        for (Index i = 0; i < block_size; ++i) {
            const int stored = from[value_at(r, b, i)];
            const auto at = static_cast<std::size_t>(four_bits ? i % 16 : i);
            if constexpr (!four_bits) {
                result.values[at] = static_cast<std::int8_t>(stored - 128);
            } else {
                const int index = stored >> b % 2 * 4 & 15;
                result.nibbles[at] =
                    static_cast<std::uint8_t>(result.nibbles[at] | index << i / 16 * 4);
            }
        }
        return result;
    }

    // Writes W, row-major: scale · value, exactly rounded. out: [rows, cols].
    void unpack(MatrixView<float> out) const noexcept {
        for (Index r = 0; r < rows_; ++r) copy_row(r, out.row(r));
    }
    // Row r of W (an embedding) to out[0 … cols).
    void copy_row(Index r, float* out) const noexcept {
        for (Index first = 0; first < cols_; first += block_size) {
            const Block values = block(r, first / block_size);
            for (Index i = 0; i < std::min(block_size, cols_ - first); ++i)
                out[first + i] = values.scale() * static_cast<float>(values.value(i));
        }
    }
    float at(Index r, Index c) const noexcept {
        const Block values = block(r, c / block_size);
        return values.scale() * static_cast<float>(values.value(c % block_size));
    }

    const Element* data() const noexcept { return data_; }
    Index rows() const noexcept { return rows_; }
    Index cols() const noexcept { return cols_; }
    Index panels() const noexcept { return ceil_div(rows_, panel_rows); }
    Index pairs() const noexcept { return ceil_div(cols_, pair_cols); }  // of every panel
    // Where the i-th panel begins.
    const Element* panel(Index i) const noexcept { return data_ + i * pairs() * pair_bytes; }

private:
    // From the begin of a pair: of the scale of a row's block, and of its i-th value.
    static constexpr Index scale_at(Index r, Index b) noexcept {
        return (b % 2 * panel_rows + r % panel_rows) * 2;
    }
    static constexpr Index value_at(Index r, Index b, Index i) noexcept {
        return 64 + (four_bits ? 0 : b % 2 * 512) + i / 4 * 64 + r % panel_rows * 4 + i % 4;
    }
    const Element* pair(Index r, Index b) const noexcept {
        return panel(r / panel_rows) + b / 2 * pair_bytes;
    }

    // The two blocks of row r of a pair.
    static void put(const Block& first, const Block& second, Index r, Element* pair) noexcept {
        std::memcpy(pair + scale_at(r, 0), &first.scale_bits, sizeof first.scale_bits);
        std::memcpy(pair + scale_at(r, 1), &second.scale_bits, sizeof second.scale_bits);
        // four values of a row at a time: a word of each of the lines
        const auto word = [](const auto& from, Index i) {
            std::uint32_t values;
            std::memcpy(&values, from.data() + i, sizeof values);
            return values;
        };
        const auto put_word = [to = pair + value_at(r, 0, 0)](Index line, std::uint32_t values) {
            std::memcpy(to + line * 64, &values, sizeof values);
        };
        if constexpr (four_bits) {
            constexpr std::uint32_t low = 0x0f0f0f0fU;
            for (Index quad = 0; quad < 4; ++quad) {
                const auto a = word(first.nibbles, 4 * quad), b = word(second.nibbles, 4 * quad);
                put_word(quad, (a & low) | (b & low) << 4);
                put_word(quad + 4, (a >> 4 & low) | (b & ~low));
            }
        } else {
            constexpr std::uint32_t plus_128 = 0x80808080U;
            for (Index quad = 0; quad < 8; ++quad) {
                put_word(quad, word(first.values, 4 * quad) ^ plus_128);
                put_word(quad + 8, word(second.values, 4 * quad) ^ plus_128);
            }
        }
    }

    const Element* data_ = nullptr;
    Index rows_ = 0;
    Index cols_ = 0;
};

using Q8Matrix = QuantisedMatrix<Q8Block>;
using Q4Matrix = QuantisedMatrix<Q4Block>;

}  // namespace HYDRALM_NAMESPACE::weights
