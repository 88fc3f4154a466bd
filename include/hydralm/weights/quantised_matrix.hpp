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
        return pack_each(
            w.rows(), w.cols(), storage, [&](Index first, Index n, Index b, Across& out) {
                const Index column = b * block_size,
                            count = std::min(block_size, w.cols() - column);
                detail::quantise<Block>(w.row(first) + column, w.stride(), n, count,
                                        [&](Index r, const detail::QuantisedGroup<Block>& group) {
                                            out.put(r, n, group);
                                        });
            });
    }
    // Packs blocks as they are: [rows, blocks_of(cols)].
    static QuantisedMatrix pack_blocks(const Block* blocks, Index rows, Index cols,
                                       Element* storage) noexcept {
        return pack_each(rows, cols, storage, [&](Index first, Index n, Index b, Across& out) {
            for (Index r = 0; r < n; ++r) out.put(r, blocks[(first + r) * blocks_of(cols) + b]);
        });
    }

    // A block of every row of a panel: scales, and words of four bytes.
    class Across {
    public:
        void put(Index r, const Block& block) noexcept {
            const auto bytes = block.bytes();
            scales_[static_cast<std::size_t>(r)] = block.scale_bits;
            for (std::size_t i = 0; i < Block::words; ++i)
                words_[i][static_cast<std::size_t>(r)] = bytes[i];
        }
        // Of all rows, that of row r at at[r] + offset, of any alignment.
        void put(const std::byte* const* at, Index offset) noexcept {
            constexpr Index lanes = detail::group_size, all = Block::words;
            for (Index r = 0; r < panel_rows; ++r)
                std::memcpy(&scales_[static_cast<std::size_t>(r)], at[r] + offset, 2);
            for (Index first = 0; first < panel_rows; first += lanes)
                for (Index word = 0; word < all; word += lanes) {
                    constexpr Index n = std::min(lanes, all);
                    std::array<detail::Lanes, static_cast<std::size_t>(lanes)> square;
                    for (Index i = 0; i < lanes; ++i)
                        square[static_cast<std::size_t>(i)] = simd::float_of(
                            simd::load_words(at[first + i] + offset + 2 + 4 * word, n));
                    simd::transpose<float>(square);
                    for (Index i = 0; i < n; ++i)
                        std::memcpy(&words_[static_cast<std::size_t>(word + i)]
                                           [static_cast<std::size_t>(first)],
                                    &square[static_cast<std::size_t>(i)], sizeof square[0]);
                }
        }
        // f(r) for every row whose block is not seen to be final.
        template <class F>
        void for_others(const F& f) const noexcept {
            for (Index first = 0; first < panel_rows; first += detail::group_size) {
                std::array<simd::Words, Block::words> values;
                for (std::size_t i = 0; i < values.size(); ++i)
                    std::memcpy(&values[i], &words_[i][static_cast<std::size_t>(first)],
                                sizeof values[i]);
                const simd::Words final = Block::are_final(values);
                for (Index i = 0; i < detail::group_size; ++i)
                    if (final[i] == 0 ||
                        !Block::is_final_scale(scales_[static_cast<std::size_t>(first + i)]))
                        f(first + i);
            }
        }
        // Of rows from r on that are less than n.
        void put(Index r, Index n, const detail::QuantisedGroup<Block>& group) noexcept {
            if (n - r < detail::group_size) {
                for (Index i = 0; i < n - r; ++i) put(r + i, group.block(i));
                return;
            }
            std::memcpy(&scales_[static_cast<std::size_t>(r)], &group.scale_bits[0],
                        sizeof group.scale_bits.values);
            for (std::size_t i = 0; i < Block::words; ++i)
                std::memcpy(&words_[i][static_cast<std::size_t>(r)], &group.values[i],
                            sizeof group.values[i]);
        }

    private:
        friend QuantisedMatrix;
        template <class T>
        using Line = std::array<T, static_cast<std::size_t>(panel_rows)>;

        alignas(alignment) std::array<Line<std::uint32_t>, Block::words> words_{};
        Line<std::uint16_t> scales_{};
    };

    // Panel by panel: f(first, n, b, out) puts block b of rows [first, first + n) to rows [0, n).
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
                Across even, odd;
                for (Index b = 0; b < 2 * pairs; b += 2, to += pair_bytes) {
                    f(first, n, b, even);
                    if (b + 1 < blocks) f(first, n, b + 1, odd);
                    else odd = {};
                    put(even, odd, to);
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

    static void put(const Across& first, const Across& second, Element* pair) noexcept {
        std::memcpy(pair, first.scales_.data(), 32);
        std::memcpy(pair + 32, second.scales_.data(), 32);
        Element* line = pair + 64;
        const auto put_line = [&](const auto& word) {
            for (std::size_t r = 0; r < panel_rows; ++r, line += 4) {
                const std::uint32_t values = word(r);
                std::memcpy(line, &values, sizeof values);
            }
        };
        if constexpr (four_bits) {
            constexpr std::uint32_t low = 0x0f0f0f0fU;
            for (std::size_t i = 0; i < Block::words; ++i)
                put_line([&](std::size_t r) {
                    return (first.words_[i][r] & low) | (second.words_[i][r] & low) << 4;
                });
            for (std::size_t i = 0; i < Block::words; ++i)
                put_line([&](std::size_t r) {
                    return (first.words_[i][r] >> 4 & low) | (second.words_[i][r] & ~low);
                });
        } else {
            constexpr std::uint32_t plus_128 = 0x80808080U;
            for (const Across* block : {&first, &second})
                for (const auto& words : block->words_)
                    put_line([&](std::size_t r) { return words[r] ^ plus_128; });
        }
    }

    const Element* data_ = nullptr;
    Index rows_ = 0;
    Index cols_ = 0;
};

using Q8Matrix = QuantisedMatrix<Q8Block>;
using Q4Matrix = QuantisedMatrix<Q4Block>;

}  // namespace HYDRALM_NAMESPACE::weights
