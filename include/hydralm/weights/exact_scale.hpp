// The scale of a block of weights (quantised_block.hpp) that keeps them exactly, where there is
// one.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "hydralm/core/binary16.hpp"
#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE::weights {

inline constexpr Index block_size = 32;

namespace detail {

template <class T>
using OfBlock = std::array<T, static_cast<std::size_t>(block_size)>;

// The weights of a block, zeros behind those there are: they have no say in its scale.
struct BlockWeights {
    alignas(alignment) OfBlock<float> values{};
    Index count = 0;
};

// Magnitudes of floats are ordered as these are, and a NaN is above infinity.
inline std::int32_t magnitude_bits(float x) noexcept {
    return std::bit_cast<std::int32_t>(x) & 0x7fffffff;
}
// The weight of largest magnitude, the first of them. NaN when one is not finite.
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

// The scale with which a block has these very weights: of those that make the largest one a value
// of the block, the first that is a binary16 and does the same for all. 0 where there is none.
template <class Block>
float exact_scale(const BlockWeights& w) noexcept {
    const float most = extreme(w);
    if (!(std::abs(most) > 0)) return 0;
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

}  // namespace detail
}  // namespace HYDRALM_NAMESPACE::weights
