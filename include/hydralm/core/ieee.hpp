// Refuses flags that revoke IEEE 754: compensated sums lose their corrections, NaN passes every
// check, and equal forms lose their equal bits.
//
// -fno-math-errno and -fno-trapping-math are harmless, and most of what -ffast-math is wanted for.
#pragma once

#include <bit>
#include <cstdint>

#include "hydralm/core/abi.hpp"

#if defined(__FAST_MATH__)
#error "hydralm: -ffast-math (-Ofast): must be off; use -O3 -fno-math-errno -fno-trapping-math"
#elif defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error "hydralm: -ffinite-math-only: must be off; add -fno-finite-math-only"
#elif defined(__ASSOCIATIVE_MATH__)
#error \
    "hydralm: -fassociative-math (-funsafe-math-optimizations): must be off; add -fno-associative-math"
#elif defined(__RECIPROCAL_MATH__)
#error "hydralm: -freciprocal-math: must be off; add -fno-reciprocal-math"
#elif defined(__NO_SIGNED_ZEROS__)
#error "hydralm: -fno-signed-zeros: must be off; add -fsigned-zeros"
#endif

namespace HYDRALM_NAMESPACE::detail {

[[gnu::error("hydralm: -fassociative-math: must be off; add -fno-associative-math")]]
void refuse_associative_math();
[[gnu::error("hydralm: -freciprocal-math: must be off; add -fno-reciprocal-math")]]
void refuse_reciprocal_math();
[[gnu::error("hydralm: -fno-signed-zeros: must be off; add -fsigned-zeros")]]
void refuse_no_signed_zeros();
[[gnu::error("hydralm: -fno-honor-nans: must be off; add -fhonor-nans")]]
void refuse_no_nans();
[[gnu::error("hydralm: -fno-honor-infinities: must be off; add -fhonor-infinities")]]
void refuse_no_infinities();

static_assert(sizeof(1.0) == sizeof(double),
              "hydralm: -fsingle-precision-constant: must be off; add "
              "-fno-single-precision-constant");

inline bool equal_bits(double a, double b) noexcept {
    return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
}

// clang has no macro for these flags. But where it optimises by them, it knows what it could not
// know by the standard; a call that stays is an error. [[gnu::used]]: compiled though never called.
[[gnu::used]] inline void expect_ieee(double x) {
    if (__builtin_constant_p((x + 1.0) - x)) refuse_associative_math();
    const bool reciprocal = equal_bits(x / 3.0, x * (1.0 / 3.0));
    const bool unsigned_zero = equal_bits(x + 0.0, x);
    if (__builtin_constant_p(reciprocal)) refuse_reciprocal_math();
    if (__builtin_constant_p(unsigned_zero)) refuse_no_signed_zeros();
    if (__builtin_constant_p(x != x)) refuse_no_nans();
    if (__builtin_constant_p(x == __builtin_inf())) refuse_no_infinities();
}

}  // namespace HYDRALM_NAMESPACE::detail
