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

// Not 0 where one of four bytes, of eight halves of them, is.
template <class Word>
Word zero_bytes(const Word& x) noexcept {
    return (x - 0x01010101U) & ~x & 0x80808080U;
}
template <class Word>
Word zero_nibbles(const Word& x) noexcept {
    return (x - 0x11111111U) & ~x & 0x88888888U;
}

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
        return detail::stored(simd::divide<float>(simd::abs<float>(most), simd::broadcast(127.0F)));
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
    // Whether quantise makes this very block of all its weights, where that is seen at once: the
    // first of the candidates is its scale.
    bool is_final() const noexcept { return is_final_scale(scale_bits) && are_final(bytes()) != 0; }
    static constexpr bool is_final_scale(std::uint16_t bits) noexcept {
        return bits > 0 && bits < 0x7c00;
    }
    // Not 0 where a block of these values and such a scale is. Word: std::uint32_t of one block,
    // simd::Words of many.
    template <class Word>
    static Word are_final(const std::array<Word, words>& values) noexcept {
        Word ends{}, beyond{};
        for (const Word& four : values) {
            ends |= detail::zero_bytes<Word>(four ^ 0x7f7f7f7fU) |
                    detail::zero_bytes<Word>(four ^ 0x81818181U);
            beyond |= detail::zero_bytes<Word>(four ^ 0x80808080U);
        }
        return Word(ends != 0U) & Word(beyond == 0U);
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
    // As Q8Block's. 113 and 104 divide no other entry, so where one of them is the largest and
    // there is another, weights are no multiples of an earlier candidate. Entry 8 may stand behind
    // the weights.
    bool is_final() const noexcept { return is_final_scale(scale_bits) && are_final(bytes()) != 0; }
    static constexpr bool is_final_scale(std::uint16_t bits) noexcept {
        return (bits & 0x7fffU) > 0 && (bits & 0x7fffU) < 0x7c00U;
    }
    template <class Word>
    static Word are_final(const std::array<Word, words>& values) noexcept {
        Word first{}, second{}, last{}, below_8{}, not_1{};
        for (const Word& eight : values) {
            first |= detail::zero_nibbles<Word>(eight);
            second |= detail::zero_nibbles<Word>(eight ^ 0x11111111U);
            last |= detail::zero_nibbles<Word>(~eight);
            below_8 |= ~eight & 0x88888888U;
            not_1 |= eight & 0x66666666U;
        }
        return Word(first != 0U) | (Word(last != 0U) & Word(below_8 != 0U)) |
               (Word(second != 0U) & Word(not_1 != 0U));
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
// the form that exact_scale finds for what is kept. Of the first n blocks of a group, of which
// weights that are not finite, or that take another form, are overwritten. (By value, g++ would put
// it on armv7's stack with less than its alignment.)
template <class Block>
QuantisedGroup<Block> quantise(BlockGroup& w, Index n) noexcept {
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
    const simd::Words final = Block::are_final(result.values);
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
        BlockGroup group(w + b * stride, stride, size, count);
        put(b, quantise<Block>(group, size));
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
