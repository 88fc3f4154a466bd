// bfloat16 by its bits: the upper half of a float.
#pragma once

#include <bit>
#include <cstdint>

#include "hydralm/core/abi.hpp"

namespace HYDRALM_NAMESPACE {

// Exact; the payload of a NaN is kept.
constexpr float float_from_bf16(std::uint16_t bits) noexcept {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

// Nearest bfloat16, ties to even; a NaN becomes quiet.
constexpr std::uint16_t bf16_from(float x) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    if (x != x) return static_cast<std::uint16_t>(bits >> 16 | 0x40U);
    return static_cast<std::uint16_t>((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
}
// Rounds once: the float between is rounded to odd.
constexpr std::uint16_t bf16_from(double x) noexcept {
    const auto nearest = static_cast<float>(x);
    const double back = static_cast<double>(nearest);
    if (x != x || back == x) return bf16_from(nearest);
    const bool beyond = (back < 0 ? -back : back) > (x < 0 ? -x : x);
    return bf16_from(
        std::bit_cast<float>((std::bit_cast<std::uint32_t>(nearest) - (beyond ? 1U : 0U)) | 1U));
}

}  // namespace HYDRALM_NAMESPACE
