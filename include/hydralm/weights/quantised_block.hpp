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
#include <cstring>

#include "hydralm/weights/table_search.hpp"

namespace HYDRALM_NAMESPACE::weights {

namespace detail {

template <class Block, class F>
void quantise(const float* w, Index stride, Index n, Index count, const F& put) noexcept;
template <class Block>
void quantise(const float* w, Index stride, Index n, Index count, Block* out) noexcept;

}  // namespace detail

// scale = max |w| / 127, value = w / scale rounded to nearest, ties to even. 8.5 bits a weight;
// |error| ≤ scale / 2 where the scale is a normal binary16 (weights beyond 0.008 in magnitude).
struct Q8Block {
    static constexpr std::size_t words = 8;  // of four values
    using Words = std::array<std::uint32_t, words>;

    std::uint16_t scale_bits = 0;
    std::array<std::int8_t, 32> values{};

    static Q8Block of(std::uint16_t scale_bits, const Words& bytes) noexcept {
        return {scale_bits, std::bit_cast<std::array<std::int8_t, 32>>(bytes)};
    }
    Words bytes() const noexcept { return std::bit_cast<Words>(values); }

    // w: count in [1, 32] weights; the values behind them are no matter.
    static Q8Block quantise(const float* w, Index count) noexcept {
        Q8Block block;
        quantise(w, 0, 1, count, &block);
        return block;
    }
    // n blocks, the b-th of count weights from w + b·stride on, to out[0, n).
    static void quantise(const float* w, Index stride, Index n, Index count,
                         Q8Block* out) noexcept {
        detail::quantise(w, stride, n, count, out);
    }
    // The block at from, of any alignment. Field by field: values that are read as they were
    // written wait for no store.
    static Q8Block at(const std::byte* from) noexcept {
        Q8Block block;
        std::memcpy(&block.scale_bits, from, sizeof block.scale_bits);
        std::memcpy(block.values.data(), from + 2, sizeof block.values);
        return block;
    }
    // The scales of a group with these extremes, where wanted is not 0, of the nearest blocks.
    static detail::OfGroup<float> nearest_scales(const detail::BlockGroup&,
                                                 const detail::Lanes& most,
                                                 const detail::Lanes&) noexcept {
        return detail::stored(simd::abs<float>(most) / simd::broadcast(127.0F));
    }
    // The values nearest to w · inverse: of blocks with scales of 1 / inverse.
    static std::array<simd::Words, words> nearest_values(const detail::BlockGroup& w,
                                                         const detail::Lanes& inverse) noexcept {
        const auto value = [&](Index i) {
            const detail::Lanes least = simd::broadcast(-128.0F), most = simd::broadcast(127.0F);
            return simd::rounded(simd::min<float>(simd::max<float>(w[i] * inverse, least), most));
        };
        std::array<simd::Words, words> values;
        for (Index i = 0; i < block_size; i += 4)
            values[static_cast<std::size_t>(i / 4)] =
                detail::word_of(value(i), value(i + 1), value(i + 2), value(i + 3));
        return values;
    }
    // Not 0 where a block of these values is seen to be final, its largest weight being most.
    static detail::Lanes are_final(const std::array<simd::Words, words>&,
                                   const detail::Lanes& most) noexcept {
        const detail::Lanes none = simd::broadcast(0.0F), value = simd::abs<float>(most);
        return simd::select((value > simd::broadcast(126.5F)) & (value < simd::broadcast(127.5F)),
                            value, none);
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

    static constexpr std::size_t words = 4;
    using Words = std::array<std::uint32_t, words>;

    std::uint16_t scale_bits = 0;
    std::array<std::uint8_t, 16> nibbles{};  // low: weights 0 … 15, high: 16 … 31

    static Q4Block of(std::uint16_t scale_bits, const Words& bytes) noexcept {
        return {scale_bits, std::bit_cast<std::array<std::uint8_t, 16>>(bytes)};
    }
    Words bytes() const noexcept { return std::bit_cast<Words>(nibbles); }

    // As Q8Block's.
    static Q4Block quantise(const float* w, Index count) noexcept {
        Q4Block block;
        quantise(w, 0, 1, count, &block);
        return block;
    }
    static void quantise(const float* w, Index stride, Index n, Index count,
                         Q4Block* out) noexcept {
        detail::quantise(w, stride, n, count, out);
    }
    static Q4Block at(const std::byte* from) noexcept {
        Q4Block block;
        std::memcpy(&block.scale_bits, from, sizeof block.scale_bits);
        std::memcpy(block.nibbles.data(), from + 2, sizeof block.nibbles);
        return block;
    }
    static detail::OfGroup<float> nearest_scales(const detail::BlockGroup& w,
                                                 const detail::Lanes& most,
                                                 const detail::Lanes& wanted) noexcept {
        const auto of_largest = detail::TableSearch(w, most, wanted).scales();
        auto scales = detail::stored(most);
        for (Index b = 0; b < detail::group_size; ++b) scales[b] *= of_largest[b];
        return scales;
    }
    static std::array<simd::Words, words> nearest_values(const detail::BlockGroup& w,
                                                         const detail::Lanes& inverse) noexcept {
        const auto pair = [&](Index i) {
            return detail::nearest_entry(w[i] * inverse) |
                   detail::nearest_entry(w[i + 16] * inverse) << 4;
        };
        std::array<simd::Words, words> values;
        for (Index i = 0; i < 16; i += 4)
            values[static_cast<std::size_t>(i / 4)] =
                detail::word_of(pair(i), pair(i + 1), pair(i + 2), pair(i + 3));
        return values;
    }
    static detail::Lanes are_final(const std::array<simd::Words, words>& values,
                                   const detail::Lanes& most) noexcept {
        const simd::Words entry = detail::nearest_entry(most),
                          all = values[0] & values[1] & values[2] & values[3],
                          any = values[0] | values[1] | values[2] | values[3];
        const auto below_8 = (all & 0x88888888U) != 0x88888888U, not_1 = (any & 0x66666666U) != 0U;
        const auto final = (entry == 0U) | ((entry == 15U) & below_8) | ((entry == 1U) & not_1);
        return simd::float_of(simd::Words(final) & 0x3f800000U);
    }
    // As Q8Block's. 113 and 104 divide no other entry, so where one of them is the largest and
    // there is another, weights are no multiples of an earlier candidate. Entry 8 may stand behind
    // the weights.
    bool is_final() const noexcept {
        std::uint8_t first = 0, second = 0, last = 0, below_8 = 0, not_1 = 0;
        for (const std::uint8_t pair : nibbles) {
            const auto low = static_cast<std::uint8_t>(pair << 4),
                       high = static_cast<std::uint8_t>(pair & 0xf0);
            first |= static_cast<std::uint8_t>(low == 0) | static_cast<std::uint8_t>(high == 0);
            second |=
                static_cast<std::uint8_t>(low == 0x10) | static_cast<std::uint8_t>(high == 0x10);
            last |=
                static_cast<std::uint8_t>(low == 0xf0) | static_cast<std::uint8_t>(high == 0xf0);
            below_8 |= static_cast<std::uint8_t>(~pair & 0x88);
            not_1 |= static_cast<std::uint8_t>(pair & 0x66);
        }
        const int magnitude = scale_bits & 0x7fff;
        return (first != 0 || (last != 0 && below_8 != 0) || (second != 0 && not_1 != 0)) &&
               magnitude > 0 && magnitude < 0x7c00;
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

namespace detail {

// Weights that are a block's already as they are, others with the nearest scale; in either case in
// the form that exact_scale finds for what is kept. Of the first n blocks of a group.
template <class Block>
QuantisedGroup<Block> quantise(BlockGroup w, Index n) noexcept {
    const Lanes most = w.extremes();
    const OfGroup<float> extremes = stored(most), may_be_exact = stored(w.may_be_exact(most));
    OfGroup<float> exact, wanted;
    bool search = false;
    for (Index b = 0; b < group_size; ++b) {
        exact[b] = may_be_exact[b] == 0 ? 0 : exact_scale<Block>(w.block(b));
        wanted[b] = std::abs(extremes[b]) > 0 && exact[b] == 0 ? 1.0F : 0.0F;
        search |= wanted[b] != 0;
        if (!(std::abs(extremes[b]) > 0)) w.set_block(b, {});
    }
    OfGroup<float> scales = extremes;
    if (search) scales = Block::nearest_scales(w, most, load(wanted));
    QuantisedGroup<Block> result;
    OfGroup<float> inverses;
    const auto put = [&] {
        for (Index b = 0; b < group_size; ++b) {
            result.scale_bits[b] = block_scale(exact[b] != 0 ? exact[b] : scales[b]);
            inverses[b] = inverse(float_from_f16(result.scale_bits[b]));
        }
        result.values = Block::nearest_values(w, load(inverses));
    };
    put();
    const OfGroup<float> final = stored(Block::are_final(result.values, most * load(inverses)));
    bool other_form = false;
    for (Index b = 0; b < n; ++b) {
        if (exact[b] != 0 || final[b] != 0) continue;
        const BlockWeights kept = weights_of(result.block(b), w.count());
        exact[b] = exact_scale<Block>(kept);
        if (exact[b] == 0) continue;  // of zeros, or NaN
        w.set_block(b, kept);
        other_form = true;
    }
    if (other_form) put();
    return result;
}

// n blocks, the b-th of count weights from w + b·stride on: put(first, group) is given the blocks
// from the first on, group_size of them or those there are.
template <class Block, class F>
void quantise(const float* w, Index stride, Index n, Index count, const F& put) noexcept {
    for (Index b = 0; b < n; b += group_size) {
        const Index size = std::min(group_size, n - b);
        put(b, quantise<Block>(BlockGroup(w + b * stride, stride, size, count), size));
    }
}
template <class Block>
void quantise(const float* w, Index stride, Index n, Index count, Block* out) noexcept {
    quantise<Block>(w, stride, n, count, [&](Index first, const QuantisedGroup<Block>& group) {
        for (Index b = first; b < std::min(n, first + group_size); ++b)
            out[b] = group.block(b - first);
    });
}

}  // namespace detail
}  // namespace HYDRALM_NAMESPACE::weights
