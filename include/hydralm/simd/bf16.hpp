// bfloat16 in batches of float: values rounded to it, and pairs of it spread out.
#pragma once

#include <cstdint>

#include "hydralm/simd/words.hpp"

namespace HYDRALM_NAMESPACE::simd {

// The nearest bfloat16 of every lane, ties to even, as a float; a NaN becomes quiet. The bits of
// bf16_from (core/bfloat16.hpp).
[[gnu::always_inline]] inline Batch<float> round_to_bf16(const Batch<float>& x) noexcept {
    const detail::FloatRegister value = x;
    const auto bits = Words(value);
    const auto rounded = bits + 0x7fffU + (bits >> 16 & 1U);
    const auto is_nan = Words((bits & 0x7fffffffU) > 0x7f800000U);  // all ones, or 0
    const auto chosen = (rounded & ~is_nan) | ((bits | 0x400000U) & is_nan);
    return Batch<float>(detail::FloatRegister(chosen & 0xffff0000U));
}

// Two bfloat16 of every lane of 32 bits, as floats: exact.
struct Bf16Pairs {
    Batch<float> even, odd;  // the lower half of the lane, and the upper
};
// From lanes<float> pairs at p. p: aligned to alignof(std::uint32_t).
[[gnu::always_inline]] inline Bf16Pairs load_bf16_pairs(const std::uint16_t* p) noexcept {
    Words pairs;
    std::memcpy(&pairs, p, sizeof pairs);
    return {Batch<float>(detail::FloatRegister(pairs << 16)),
            Batch<float>(detail::FloatRegister(pairs & 0xffff0000U))};
}

// The other way round: elements 2j and 2j + 1 of a and b, one behind the other, rounded, as lane j.
[[gnu::always_inline]] inline Batch<float> bf16_pairs(const Batch<float>& a,
                                                      const Batch<float>& b) noexcept {
    const detail::FloatRegister x = round_to_bf16(a), y = round_to_bf16(b);
    return [&]<Index... L>(std::integer_sequence<Index, L...>) __attribute__((always_inline)) {
        const detail::FloatRegister even = __builtin_shufflevector(x, y, (2 * L)...),
                                    odd = __builtin_shufflevector(x, y, (2 * L + 1)...);
        const auto words = Words(even) >> 16 | Words(odd);
        return Batch<float>(detail::FloatRegister(words));
    }(std::make_integer_sequence<Index, lanes<float>>{});
}

}  // namespace HYDRALM_NAMESPACE::simd
