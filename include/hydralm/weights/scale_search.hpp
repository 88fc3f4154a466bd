// How the scale of a block of weights is found (quantised_block.hpp): one that keeps them exactly,
// or one of least squared error for values of a table.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "hydralm/core/binary16.hpp"
#include "hydralm/simd/sum_each.hpp"

namespace HYDRALM_NAMESPACE::weights {

inline constexpr Index block_size = 32;

namespace detail {

template <class T>
using OfBlock = std::array<T, static_cast<std::size_t>(block_size)>;

// The weights of a block, zeros behind those there are: they have no say in its scale.
struct BlockWeights {
    alignas(alignment) OfBlock<float> values{};
    Index count = 0;

    BlockWeights() = default;
    BlockWeights(const float* w, Index n) noexcept : count(n) { std::copy_n(w, n, values.begin()); }
};

// Magnitudes of floats are ordered as these are, and a NaN is above infinity.
inline std::int32_t magnitude_bits(float x) noexcept {
    return std::bit_cast<std::int32_t>(x) & 0x7fffffff;
}

// The element of largest magnitude, the first of them, with its sign. NaN when one is not finite.
inline float extreme(const BlockWeights& w) noexcept {
    std::int32_t most = 0;
    for (const float v : w.values) most = std::max(most, magnitude_bits(v));
    if (most >= 0x7f800000) return std::numeric_limits<float>::quiet_NaN();
    return *std::find_if(w.values.begin(), w.values.end(),
                         [most](float v) { return magnitude_bits(v) == most; });
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

// No scale of which all weights are multiples is larger. An odd number times a power of two divides
// another such only if both factors do: the smallest of each, of any weight, bound it.
inline float largest_divisor(const BlockWeights& w) noexcept {
    constexpr float none = std::numeric_limits<float>::infinity();
    float power = none, odd = none;
    for (const float v : w.values) {
        const std::int32_t bits = magnitude_bits(v);
        const float size = std::bit_cast<float>(bits);
        const float rest = std::bit_cast<float>(bits & (bits - 1));  // without its last bit
        const float last = (bits & 0x7fffff) == 0 ? size : size - rest;
        power = std::min(power, bits == 0 ? none : last);
        odd = std::min(odd, bits == 0 ? none : size / last);
    }
    return power * odd;
}

// The scale with which a block has these very weights: of those that make the largest one a value
// of the block, the first that is a binary16 and does the same for all. 0 where there is none.
template <class Block>
float exact_scale(const BlockWeights& w) noexcept {
    const float most = extreme(w);
    std::int32_t bits = 0;
    for (const float x : w.values) bits |= std::bit_cast<std::int32_t>(x);
    // 11 bits times 7 have at most 18
    if ((bits & 0x3f) != 0 || !(std::abs(most) > 0)) return 0;
    if (std::abs(most) > 128 * largest_divisor(w)) return 0;
    for (int i = 0; i < Block::candidates; ++i) {
        const float scale = Block::candidate(most, i);
        constexpr std::int32_t below_f16 = 0x1fff;
        if (scale == 0 || (std::bit_cast<std::int32_t>(scale) & below_f16) != 0 ||
            float_from_f16(f16_from(scale)) != scale)
            continue;
        OfBlock<float> quotients;
        int other = 0;
        for (std::size_t j = 0; j < quotients.size(); ++j) {
            quotients[j] = w.values[j] / scale;
            other |= quotients[j] * scale != w.values[j] ? 1 : 0;
        }
        if (other == 0 && Block::has_values(quotients, w.count)) return scale;
    }
    return 0;
}

// What a block keeps of its first count weights.
template <class Block>
BlockWeights weights_of(const Block& block, Index count) noexcept {
    BlockWeights w;
    w.count = count;
    for (Index i = 0; i < count; ++i)
        w.values[static_cast<std::size_t>(i)] = block.scale() * static_cast<float>(block.value(i));
    return w;
}

// Weights that are a block's already as they are, others as Block::nearest: in either case in the
// form that exact_scale finds for what is kept.
template <class Block>
Block quantise(const BlockWeights& w) noexcept {
    float scale = exact_scale<Block>(w);
    if (scale != 0) return Block::with_scale(w, f16_from(scale));
    const Block block = Block::nearest(w);
    if (block.is_final()) return block;
    const BlockWeights kept = weights_of(block, w.count);
    scale = exact_scale<Block>(kept);
    return scale == 0 ? block : Block::with_scale(kept, f16_from(scale));  // 0: of zeros, or NaN
}

// The values of 4 bits, GGUF's IQ4_NL.
inline constexpr std::array<int, 16> table{-127, -104, -83, -65, -49, -35, -22, -10,
                                           1,    13,   25,  38,  53,  69,  89,  113};

// From where on an entry of the table is the nearest one: the middle between it and the one before.
constexpr float first_of_entry(std::size_t entry) noexcept {
    return 0.5F * static_cast<float>(table[entry - 1] + table[entry]);
}

// Weights of which the largest is 1, so that squares neither vanish nor overflow, and the search
// for a scale of the table: with the factor c, w is kept as the entry v nearest to c·w. The best
// scale for these entries is Σ w·v / Σ v², and the squared error then Σ w² − (Σ w·v)² / Σ v².
class TableSearch {
public:
    explicit TableSearch(const BlockWeights& w) noexcept : w_(w) {}

    // The largest weight is put at and around either end of the table, in 2 × 17 steps of 1.5; the
    // best of them is fitted twice more.
    float scale() noexcept {
        estimate();
        const float least = *std::max_element(gains_.begin(), gains_.end()) - uncertain();
        for (int i = 0; i < factors; ++i)
            if (gains_[static_cast<std::size_t>(i)] >= least) consider(factor(i));
        for (int again = 0; again < 2; ++again)
            if (!consider(inverse(static_cast<float>(best_scale_)))) break;
        return static_cast<float>(best_scale_);
    }

private:
    using Batch = simd::Batch<float>;
    static constexpr Index lanes = simd::lanes<float>;
    static constexpr int steps = 17, factors = 2 * steps, middle = steps / 2;
    static constexpr Index padded = round_up(factors, lanes);

    static float factor(int i) noexcept {
        const int end = i < steps ? table.front() : table.back();
        return static_cast<float>(end) + 1.5F * static_cast<float>(i % steps - middle);
    }
    [[gnu::always_inline]] static Batch nearest(const Batch& x) noexcept {
        Batch entry = simd::broadcast(static_cast<float>(table[0]));
#pragma GCC unroll 16
        for (std::size_t i = 1; i < table.size(); ++i)
            entry = simd::select(x >= simd::broadcast(first_of_entry(i)),
                                 simd::broadcast(static_cast<float>(table[i])), entry);
        return entry;
    }
    // Of Σ v², what comes from behind the weights: 1 each.
    float behind() const noexcept { return static_cast<float>(block_size - w_.count); }

    // The entries of all weights at the first and the last factor of half an end. They are
    // neighbours, or one: c·w grows by an eighth at most, middles of entries by a fifth at least.
    // So what lies between is decided by their own middle.
    struct Entries {
        alignas(alignment) OfBlock<float> lower, between, upper;
    };
    void find_entries(Entries& entries, int first) const noexcept {
        const Batch c = simd::broadcast(factor(first)), d = simd::broadcast(factor(first + middle));
        for (Index j = 0; j < block_size; j += lanes) {
            const Batch w = simd::load(w_.values.data() + j);
            const Batch a = nearest(w * c), b = nearest(w * d);
            simd::store(entries.lower.data() + j, simd::min<float>(a, b));
            simd::store(entries.upper.data() + j, simd::max<float>(a, b));
            simd::store(entries.between.data() + j, Batch(simd::broadcast(0.5F) * (a + b)));
        }
    }
    // gains = (Σ w·v)² / Σ v² of every factor, in float.
    void estimate() noexcept {
        Entries entries;
        std::array<Batch, static_cast<std::size_t>(lanes)> products, squares;
        for (Index i = 0; i < padded; ++i) {
            const int n = static_cast<int>(std::min<Index>(i, factors - 1)), step = n % steps;
            if (step == 0) find_entries(entries, n);
            if (step == middle + 1) find_entries(entries, n - 1);
            const Batch c = simd::broadcast(factor(n));
            Batch product = simd::broadcast(0.0F), square = product;
            for (Index j = 0; j < block_size; j += lanes) {
                const Batch w = simd::load(w_.values.data() + j);
                const Batch v = simd::select(w * c >= simd::load(entries.between.data() + j),
                                             simd::load(entries.upper.data() + j),
                                             simd::load(entries.lower.data() + j));
                product = simd::fma(w, v, product);
                square = simd::fma(v, v, square);
            }
            products[static_cast<std::size_t>(i % lanes)] = product;
            squares[static_cast<std::size_t>(i % lanes)] = square;
            if (i % lanes < lanes - 1) continue;
            product = simd::sum_each<float>(products);
            square = simd::sum_each<float>(squares) - simd::broadcast(behind());
            simd::store(gains_.data() + i + 1 - lanes, Batch(product * product / square));
        }
    }
    // By how much two estimates of one gain differ at most. Σ v² is exact; twelve roundings of Σ
    // w·v of 2⁻²⁴ Σ |w·v| ≤ 2⁻²⁴ (Σ w² Σ v²)^½ each are less than 2⁻¹⁹ Σ w² of the gain.
    float uncertain() const noexcept {
        float squares = 0;
        for (const float w : w_.values) squares += w * w;
        return squares * 0x1p-16F;
    }
    // Whether it is better than the best one, in double: of exact products, the same fused or not.
    bool consider(float c) noexcept {
        OfBlock<float> entries;
        for (Index j = 0; j < block_size; j += lanes)
            simd::store(entries.data() + j,
                        nearest(simd::load(w_.values.data() + j) * simd::broadcast(c)));
        if (entries == best_entries_) return false;
        double product = 0;
        float square = -behind();
        for (std::size_t i = 0; i < entries.size(); ++i) {
            product += static_cast<double>(w_.values[i]) * static_cast<double>(entries[i]);
            square += entries[i] * entries[i];
        }
        const double scale = product / static_cast<double>(square), gain = product * scale;
        if (!(gain > best_gain_)) return false;
        best_entries_ = entries;
        best_scale_ = scale;
        best_gain_ = gain;
        return true;
    }

    const BlockWeights& w_;
    alignas(alignment) std::array<float, static_cast<std::size_t>(padded)> gains_;
    OfBlock<float> best_entries_{};
    double best_scale_ = 0, best_gain_ = -1;
};

}  // namespace detail
}  // namespace HYDRALM_NAMESPACE::weights
