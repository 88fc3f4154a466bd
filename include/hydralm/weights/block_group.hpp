// BlockGroup: as many blocks as a vector has lanes, side by side: what is decided of every block is
// decided lane by lane.
#pragma once

#include <algorithm>
#include <array>
#include <limits>

#include "hydralm/simd/activation.hpp"
#include "hydralm/simd/transpose.hpp"
#include "hydralm/simd/words.hpp"
#include "hydralm/weights/exact_scale.hpp"

namespace HYDRALM_NAMESPACE::weights::detail {

using Lanes = simd::Batch<float>;
inline constexpr Index group_size = simd::lanes<float>;

// Something of every block of a group.
template <class T>
struct OfGroup {
    alignas(alignment) std::array<T, static_cast<std::size_t>(group_size)> values{};
    T& operator[](Index b) noexcept { return values[static_cast<std::size_t>(b)]; }
    const T& operator[](Index b) const noexcept { return values[static_cast<std::size_t>(b)]; }
};
inline Lanes load(const OfGroup<float>& x) noexcept { return simd::load(x.values.data()); }
inline OfGroup<float> stored(const Lanes& x) noexcept {
    OfGroup<float> values;
    simd::store(values.values.data(), x);
    return values;
}

// The weights of group_size blocks of equally many; zeros where there is none.
class BlockGroup {
public:
    // Of n blocks, the b-th from w + b·stride on: count weights each. n in [1, group_size].
    BlockGroup(const float* w, Index stride, Index n, Index count) noexcept : count_(count) {
        if (n == group_size && count == block_size) {
            for (Index i = 0; i < block_size; i += group_size) {
                std::array<Lanes, static_cast<std::size_t>(group_size)> square;
                for (Index b = 0; b < group_size; ++b)
                    square[static_cast<std::size_t>(b)] = simd::load(w + b * stride + i);
                simd::transpose<float>(square);
                for (Index j = 0; j < group_size; ++j)
                    simd::store(&at(i + j, 0), square[static_cast<std::size_t>(j)]);
            }
            return;
        }
        values_.fill(0);
        for (Index b = 0; b < n; ++b)
            for (Index i = 0; i < count; ++i) at(i, b) = w[b * stride + i];
    }

    // Of every block.
    Index count() const noexcept { return count_; }
    // The i-th weight of every block. i in [0, block_size).
    Lanes operator[](Index i) const noexcept { return simd::load(values_.data() + i * group_size); }

    BlockWeights block(Index b) const noexcept {
        BlockWeights w;
        w.count = count_;
        for (Index i = 0; i < count_; ++i)
            w.values[static_cast<std::size_t>(i)] =
                values_[static_cast<std::size_t>(i * group_size + b)];
        return w;
    }
    void set_block(Index b, const BlockWeights& w) noexcept {
        for (Index i = 0; i < block_size; ++i) at(i, b) = w.values[static_cast<std::size_t>(i)];
    }

    // What extreme() is of every block.
    Lanes extremes() const noexcept {
        const Lanes zero = simd::broadcast(0.0F);
        Lanes most = zero, size = zero, finite = zero;
        for (Index i = 0; i < count_; ++i) {
            const Lanes w = operator[](i), magnitude = simd::abs<float>(w);
            most = simd::select(magnitude > size, w, most);
            size = simd::max<float>(magnitude, size);
            finite = simd::fma<float>(w, zero, finite);  // once NaN, always NaN
        }
        return simd::select(finite == zero, most,
                            simd::broadcast(std::numeric_limits<float>::quiet_NaN()));
    }

    // 0 where a block, whose extreme is that of most, has no exact scale, seen at once.
    //
    // No scale of which all weights are multiples is larger than power · odd: an odd number times a
    // power of two divides another such only if both factors do, and these are the smallest of
    // each, of any weight. And 11 bits times 7 have at most 18.
    Lanes may_be_exact(const Lanes& most) const noexcept {
        const Lanes zero = simd::broadcast(0.0F),
                    none = simd::broadcast(std::numeric_limits<float>::infinity());
        simd::Words any{};
        Lanes power = none, odd = none;
        for (Index i = 0; i < count_; ++i) {
            const simd::Words bits = simd::bits_of(operator[](i)), magnitude = bits & 0x7fffffffU,
                              fraction = magnitude & 0x7fffffU;
            any |= bits;
            const Lanes size = simd::float_of(magnitude),
                        rest = simd::float_of(magnitude & (magnitude - 1U)),  // but the last bit
                last = simd::float_of(fraction == 0U ? magnitude : simd::bits_of(size - rest));
            // divided by a power of two
            const Lanes quotient = simd::float_of(magnitude - simd::bits_of(last) + 0x3f800000U);
            const auto some = size > zero;
            power = simd::select(some, simd::min<float>(last, power), power);
            odd = simd::select(some, simd::min<float>(quotient, odd), odd);
        }
        // below the normal numbers there are other quotients
        const Lanes normal = simd::broadcast(std::numeric_limits<float>::min()),
                    bound = simd::select(power < normal, none,
                                         Lanes(simd::broadcast(128.0F) * power * odd));
        const Lanes large = simd::select(simd::abs<float>(most) <= bound, most, zero);
        return simd::float_of((any & 0x3fU) == 0U ? simd::bits_of(large) : simd::Words{});
    }

private:
    float& at(Index i, Index b) noexcept {
        return values_[static_cast<std::size_t>(i * group_size + b)];
    }

    alignas(alignment) std::array<float, static_cast<std::size_t>(block_size* group_size)> values_;
    Index count_;
};

// The blocks of a group: their scales, and their other bytes in words of four, side by side.
template <class Block>
struct QuantisedGroup {
    OfGroup<std::uint16_t> scale_bits;
    std::array<simd::Words, Block::words> values;

    Block block(Index b) const noexcept {
        std::array<std::uint32_t, Block::words> bytes;
        for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = values[i][b];
        return Block::of(scale_bits[b], bytes);
    }
};

// Words of the low bytes of four, the first one lowest.
[[gnu::always_inline]] inline simd::Words word_of(const simd::Words& a, const simd::Words& b,
                                                  const simd::Words& c,
                                                  const simd::Words& d) noexcept {
    return (a & 255U) | (b & 255U) << 8 | (c & 255U) << 16 | d << 24;
}

}  // namespace HYDRALM_NAMESPACE::weights::detail
