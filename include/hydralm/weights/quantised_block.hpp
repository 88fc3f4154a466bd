// Q8Block and Q4Block: 32 weights of one row in few bits, as a checkpoint holds them.
//
// A weight is scale · value(i), an integer in [−128, 127] times a binary16. Q8Block is GGUF's Q8_0,
// Q4Block its IQ4_NL: the bytes are the same. Both need weights of less than 8·10⁶ in magnitude,
// where the scale ends. A block with an infinity or a NaN has a NaN as its scale: products with it
// are NaN. Weights that are a block's already are kept exactly, in the one form that quantising
// gives them: what was quantised once, and unpacked, is quantised to the same bits.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <span>

#include "hydralm/core/binary16.hpp"
#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE::weights {

inline constexpr Index block_size = 32;

namespace detail {

using BlockValues = std::array<float, static_cast<std::size_t>(block_size)>;
// The weights of a block that there are, block_size of them at most: what stands behind them has no
// say in its scale.
using BlockWeights = std::span<const float>;

// The element of largest magnitude, the first of them, with its sign. NaN when one is not finite.
inline float extreme(BlockWeights w) noexcept {
    float most = 0;
    bool finite = true;
    for (const float v : w) {
        if (std::abs(v) > std::abs(most)) most = v;
        finite &= std::abs(v) <= std::numeric_limits<float>::max();
    }
    return finite ? most : std::numeric_limits<float>::quiet_NaN();
}
// The largest scale there is, at most; a NaN stays one. No negative zero.
inline std::uint16_t block_scale(float scale) noexcept {
    constexpr float largest = 65504;
    const std::uint16_t bits = f16_from(scale > largest    ? largest
                                        : scale < -largest ? -largest
                                                           : scale);
    return (bits & 0x7fffU) == 0 ? std::uint16_t{0} : bits;
}
// 0 where there is none.
inline float inverse(float scale) noexcept {
    const float one_over = 1 / scale;
    return std::abs(one_over) <= std::numeric_limits<float>::max() ? one_over : 0.0F;
}

// The scale with which a block has these very weights: of those that make the largest one a value
// of the block, the first that is a binary16 and does the same for all. 0 where there is none.
template <class Block>
float exact_scale(BlockWeights w) noexcept {
    const float most = extreme(w);
    std::uint32_t bits = 0;
    for (const float x : w) bits |= std::bit_cast<std::uint32_t>(x);
    if ((bits & 0x3fU) != 0 || most == 0) return 0;  // 11 bits times 7 have at most 18
    for (int i = 0; i < Block::candidates; ++i) {
        const float scale = Block::candidate(most, i);
        const auto fits = [scale](float x) {
            const float quotient = x / scale;
            return std::abs(quotient) <= 128 && Block::has_value(quotient) && quotient * scale == x;
        };
        if (scale != 0 && float_from_f16(f16_from(scale)) == scale &&
            std::all_of(w.begin(), w.end(), fits))
            return scale;
    }
    return 0;
}

// Weights that are a block's already as they are, others as Block::nearest: in either case in the
// form that exact_scale finds for what is kept.
template <class Block>
Block quantise(BlockWeights w) noexcept {
    float scale = exact_scale<Block>(w);
    if (scale != 0) return Block::with_scale(w, f16_from(scale));
    const Block block = Block::nearest(w);
    BlockValues values{};
    for (std::size_t i = 0; i < w.size(); ++i)
        values[i] = block.scale() * static_cast<float>(block.value(static_cast<Index>(i)));
    const auto kept = BlockWeights(values).first(w.size());
    scale = exact_scale<Block>(kept);
    return scale == 0 ? block : Block::with_scale(kept, f16_from(scale));  // 0: of zeros, or NaN
}

}  // namespace detail

// scale = max |w| / 127, value = w / scale rounded to nearest, ties to even. 8.5 bits a weight;
// |error| ≤ scale / 2 where the scale is a normal binary16 (weights beyond 0.008 in magnitude).
struct Q8Block {
    std::uint16_t scale_bits = 0;
    std::array<std::int8_t, 32> values{};

    // w: count in [1, 32] weights; the values behind them are no matter.
    static Q8Block quantise(const float* w, Index count) noexcept {
        return detail::quantise<Q8Block>({w, static_cast<std::size_t>(count)});
    }
    static Q8Block nearest(detail::BlockWeights w) noexcept {
        return with_scale(w, detail::block_scale(std::abs(detail::extreme(w)) / 127));
    }
    static Q8Block with_scale(detail::BlockWeights w, std::uint16_t scale_bits) noexcept {
        Q8Block block{.scale_bits = scale_bits};
        const float inverse = detail::inverse(block.scale());
        for (std::size_t i = 0; i < w.size(); ++i)
            block.values[i] = static_cast<std::int8_t>(
                std::nearbyint(std::clamp(inverse == 0 ? 0.0F : w[i] * inverse, -128.0F, 127.0F)));
        return block;
    }
    // Scales with which the largest weight is ±127, …, ±1, 128 and −128. In blocks made here it is
    // the first, and scales are not negative.
    static constexpr int candidates = 129;
    static float candidate(float most, int i) noexcept {
        const float scale = std::abs(most) / static_cast<float>(i < 127 ? 127 - i : 128);
        return i < 128 ? scale : -scale;
    }
    static bool has_value(float value) noexcept {
        return value == std::nearbyint(value) && value >= -128 && value < 128;
    }
    float scale() const noexcept { return float_from_f16(scale_bits); }
    int value(Index i) const noexcept { return values[static_cast<std::size_t>(i)]; }
};

// Values of a table, denser around 0; the scale is that of the least squared error among those a
// search meets. 4.5 bits a weight; the error is about 8 % of the RMS of normal weights.
struct Q4Block {
    static constexpr std::array<int, 16> table{-127, -104, -83, -65, -49, -35, -22, -10,
                                               1,    13,   25,  38,  53,  69,  89,  113};

    std::uint16_t scale_bits = 0;
    std::array<std::uint8_t, 16> nibbles{};  // low: weights 0 … 15, high: 16 … 31

    // w: count in [1, 32] weights; the values behind them are no matter.
    static Q4Block quantise(const float* w, Index count) noexcept {
        return detail::quantise<Q4Block>({w, static_cast<std::size_t>(count)});
    }
    static Q4Block nearest(detail::BlockWeights w) noexcept;
    static Q4Block with_scale(detail::BlockWeights w, std::uint16_t scale_bits) noexcept;
    static constexpr int candidates = 16;
    static float candidate(float most, int i) noexcept {
        return most / static_cast<float>(table[static_cast<std::size_t>(i)]);
    }
    static bool has_value(float value) noexcept {
        return std::find(table.begin(), table.end(), value) != table.end();
    }
    float scale() const noexcept { return float_from_f16(scale_bits); }
    int index(Index i) const noexcept {
        const int pair = nibbles[static_cast<std::size_t>(i % 16)];
        return i < 16 ? pair & 15 : pair >> 4;
    }
    int value(Index i) const noexcept { return table[static_cast<std::size_t>(index(i))]; }
};

static_assert(sizeof(Q8Block) == 34 && sizeof(Q4Block) == 18);

namespace detail {

using TableIndices = std::array<int, static_cast<std::size_t>(block_size)>;

// Of the nearest table entry to each w · inverse, the higher one in the middle; of those behind,
// that of 0.
inline TableIndices nearest_entries(BlockWeights w, float inverse) noexcept {
    TableIndices indices{};
    std::fill(indices.begin() + static_cast<Index>(w.size()), indices.end(), 8);
    for (std::size_t entry = 1; entry < Q4Block::table.size(); ++entry) {
        const float middle =
            0.5F * static_cast<float>(Q4Block::table[entry - 1] + Q4Block::table[entry]);
        for (std::size_t i = 0; i < w.size(); ++i) indices[i] += w[i] * inverse >= middle ? 1 : 0;
    }
    return indices;
}

// The scale of least squared error for these indices, Σ w·v / Σ v², and by how much it is below
// Σ w².
struct TableFit {
    double scale, gain;
};
inline TableFit fit_table(BlockWeights w, const TableIndices& indices) noexcept {
    double product = 0, square = 0;  // of exact products: the same whether fused or not
    for (std::size_t i = 0; i < w.size(); ++i) {
        const double v = Q4Block::table[static_cast<std::size_t>(indices[i])];
        product += static_cast<double>(w[i]) * v;
        square += v * v;
    }
    return {product / square, product * (product / square)};  // no entry is 0
}

}  // namespace detail

inline Q4Block Q4Block::with_scale(detail::BlockWeights w, std::uint16_t scale_bits) noexcept {
    Q4Block block{.scale_bits = scale_bits};
    const auto indices = detail::nearest_entries(w, detail::inverse(block.scale()));
    for (std::size_t i = 0; i < 16; ++i)
        block.nibbles[i] = static_cast<std::uint8_t>(indices[i] | indices[i + 16] << 4);
    return block;
}

// The largest weight is put at and around either end of the table, in 2 × 17 steps of 1.5; the best
// of them is fitted twice more.
inline Q4Block Q4Block::nearest(detail::BlockWeights w) noexcept {
    const float most = detail::extreme(w);
    if (!(std::abs(most) > 0)) return with_scale({}, detail::block_scale(most));
    detail::BlockValues values{};  // the largest 1, so that squares neither vanish nor overflow
    for (std::size_t i = 0; i < w.size(); ++i) values[i] = w[i] / most;
    const auto v = detail::BlockWeights(values).first(w.size());
    detail::TableFit best{0, -1};
    const auto consider = [&](float inverse) {
        const auto fit = detail::fit_table(v, detail::nearest_entries(v, inverse));
        if (fit.gain > best.gain) best = fit;
    };
    for (const int end : {table.front(), table.back()})
        for (int step = -8; step <= 8; ++step)
            consider(static_cast<float>(end) + 1.5F * static_cast<float>(step));
    for (int again = 0; again < 2; ++again)
        consider(detail::inverse(static_cast<float>(best.scale)));
    return with_scale(w, detail::block_scale(static_cast<float>(best.scale) * most));
}

}  // namespace HYDRALM_NAMESPACE::weights
