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
#include <cmath>
#include <cstring>

#include "hydralm/weights/scale_search.hpp"

namespace HYDRALM_NAMESPACE::weights {

// scale = max |w| / 127, value = w / scale rounded to nearest, ties to even. 8.5 bits a weight;
// |error| ≤ scale / 2 where the scale is a normal binary16 (weights beyond 0.008 in magnitude).
struct Q8Block {
    std::uint16_t scale_bits = 0;
    std::array<std::int8_t, 32> values{};

    // w: count in [1, 32] weights; the values behind them are no matter.
    static Q8Block quantise(const float* w, Index count) noexcept {
        return detail::quantise<Q8Block>({w, count});
    }
    // The block at from, of any alignment. Field by field: values that are read as they were
    // written wait for no store.
    static Q8Block at(const std::byte* from) noexcept {
        Q8Block block;
        std::memcpy(&block.scale_bits, from, sizeof block.scale_bits);
        std::memcpy(block.values.data(), from + 2, sizeof block.values);
        return block;
    }
    static Q8Block nearest(const detail::BlockWeights& w) noexcept {
        return with_scale(w, detail::block_scale(std::abs(detail::extreme(w)) / 127));
    }
    static Q8Block with_scale(const detail::BlockWeights& w, std::uint16_t scale_bits) noexcept {
        Q8Block block{.scale_bits = scale_bits};
        const float inverse = detail::inverse(block.scale());
        if (inverse == 0) return block;
        for (std::size_t i = 0; i < block.values.size(); ++i)
            block.values[i] = static_cast<std::int8_t>(
                std::nearbyint(std::clamp(w.values[i] * inverse, -128.0F, 127.0F)));
        return block;
    }
    // Whether quantise makes this very block of all its weights, where that is seen at once: the
    // first of the candidates is its scale.
    bool is_final() const noexcept {
        std::uint8_t ends = 0, beyond = 0;
        for (const std::int8_t v : values) {
            ends |= static_cast<std::uint8_t>(v == 127) | static_cast<std::uint8_t>(v == -127);
            beyond |= static_cast<std::uint8_t>(v == -128);
        }
        return ends != 0 && beyond == 0 && scale_bits > 0 && scale_bits < 0x7c00;
    }
    // Scales with which the largest weight is ±127, …, ±1, 128 and −128. In blocks made here it is
    // the first, and scales are not negative.
    static constexpr int candidates = 129;
    static float candidate(float most, int i) noexcept {
        const float scale = std::abs(most) / static_cast<float>(i < 127 ? 127 - i : 128);
        return i < 128 ? scale : -scale;
    }
    // The first count of them.
    static bool has_values(const detail::OfBlock<float>& x, Index count) noexcept {
        return std::all_of(x.begin(), x.begin() + count, [](float value) {
            return value == std::nearbyint(value) && value >= -128 && value < 128;
        });
    }
    float scale() const noexcept { return float_from_f16(scale_bits); }
    int value(Index i) const noexcept { return values[static_cast<std::size_t>(i)]; }
};

// Values of a table, denser around 0; the scale is that of the least squared error among those a
// search meets. 4.5 bits a weight; the error is about 8 % of the RMS of normal weights.
struct Q4Block {
    static constexpr std::array<int, 16> table = detail::table;

    std::uint16_t scale_bits = 0;
    std::array<std::uint8_t, 16> nibbles{};  // low: weights 0 … 15, high: 16 … 31

    // w: count in [1, 32] weights; the values behind them are no matter.
    static Q4Block quantise(const float* w, Index count) noexcept {
        return detail::quantise<Q4Block>({w, count});
    }
    static Q4Block at(const std::byte* from) noexcept {
        Q4Block block;
        std::memcpy(&block.scale_bits, from, sizeof block.scale_bits);
        std::memcpy(block.nibbles.data(), from + 2, sizeof block.nibbles);
        return block;
    }
    static Q4Block nearest(const detail::BlockWeights& w) noexcept;
    static Q4Block with_scale(const detail::BlockWeights& w, std::uint16_t scale_bits) noexcept;
    // As Q8Block's.
    bool is_final() const noexcept {
        std::uint8_t at_first = 0;
        for (const std::uint8_t pair : nibbles)
            at_first |= static_cast<std::uint8_t>((pair & 15) == 0) |
                        static_cast<std::uint8_t>((pair & 0xf0) == 0);
        const int magnitude = scale_bits & 0x7fff;
        return at_first != 0 && magnitude > 0 && magnitude < 0x7c00;
    }
    static constexpr int candidates = 16;
    static float candidate(float most, int i) noexcept {
        return most / static_cast<float>(table[static_cast<std::size_t>(i)]);
    }
    static bool has_values(const detail::OfBlock<float>& x, Index count) noexcept {
        return std::all_of(x.begin(), x.begin() + count, [](float value) {
            return std::find(table.begin(), table.end(), value) != table.end();
        });
    }
    float scale() const noexcept { return float_from_f16(scale_bits); }
    int index(Index i) const noexcept {
        const int pair = nibbles[static_cast<std::size_t>(i % 16)];
        return i < 16 ? pair & 15 : pair >> 4;
    }
    int value(Index i) const noexcept { return table[static_cast<std::size_t>(index(i))]; }
};

static_assert(sizeof(Q8Block) == 34 && sizeof(Q4Block) == 18);

inline Q4Block Q4Block::with_scale(const detail::BlockWeights& w,
                                   std::uint16_t scale_bits) noexcept {
    Q4Block block{.scale_bits = scale_bits};
    const float inverse = detail::inverse(block.scale());
    detail::OfBlock<int> indices{};
    for (std::size_t entry = 1; entry < table.size(); ++entry)
        for (std::size_t i = 0; i < indices.size(); ++i)
            indices[i] += w.values[i] * inverse >= detail::first_of_entry(entry) ? 1 : 0;
    for (std::size_t i = 0; i < 16; ++i)
        block.nibbles[i] = static_cast<std::uint8_t>(indices[i] | indices[i + 16] << 4);
    return block;
}

inline Q4Block Q4Block::nearest(const detail::BlockWeights& w) noexcept {
    const float most = detail::extreme(w);
    if (!(std::abs(most) > 0)) return with_scale({}, detail::block_scale(most));
    detail::BlockWeights of_most = w;
    for (float& v : of_most.values) v /= most;
    return with_scale(w, detail::block_scale(detail::TableSearch(of_most).scale() * most));
}

}  // namespace HYDRALM_NAMESPACE::weights
