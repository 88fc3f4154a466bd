// IEEE 754 binary16 by its bits.
#pragma once

#include <bit>
#include <cstdint>

#include "hydralm/core/abi.hpp"

namespace HYDRALM_NAMESPACE {

// Exact; the payload of a NaN is kept.
constexpr float float_from_f16(std::uint16_t half) noexcept {
    constexpr std::uint32_t exponent_mask = 0x7c00U << 13;
    constexpr float smallest_normal = 0x1p-14F;
    const std::uint32_t magnitude = (half & 0x7fffU) << 13;
    const std::uint32_t exponent = magnitude & exponent_mask;
    const std::uint32_t rebiased = magnitude + ((127U - 15U) << 23);
    const std::uint32_t special = rebiased + ((128U - 16U) << 23);  // infinity, NaN
    const float subnormal = std::bit_cast<float>(rebiased + (1U << 23)) - smallest_normal;
    const std::uint32_t finite = exponent == 0 ? std::bit_cast<std::uint32_t>(subnormal) : rebiased;
    const std::uint32_t bits = exponent == exponent_mask ? special : finite;
    return std::bit_cast<float>(bits | (half & 0x8000U) << 16);
}

// Nearest binary16, ties to even; infinity from 65520 on; a NaN becomes quiet.
constexpr std::uint16_t f16_from(float x) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t sign = bits >> 16 & 0x8000U, magnitude = bits & 0x7fffffffU;
    std::uint32_t half = 0;
    if (magnitude > 0x7f800000U) {
        half = 0x7e00U | (magnitude >> 13 & 0x3ffU);
    } else if (magnitude >= 0x477ff000U) {  // 65520
        half = 0x7c00U;
    } else if (magnitude < 0x38800000U) {  // 2⁻¹⁴: beside 1/2 a float has steps of 2⁻²⁴
        half = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) - 0x3f000000U;
    } else {
        half = (magnitude - ((127U - 15U) << 23) + 0xfffU + (magnitude >> 13 & 1U)) >> 13;
    }
    return static_cast<std::uint16_t>(sign | half);
}

}  // namespace HYDRALM_NAMESPACE
