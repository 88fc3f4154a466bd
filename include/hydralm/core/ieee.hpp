// Refuses flags that revoke IEEE 754: compensated sums lose their corrections, NaN passes every
// check, and equal forms lose their equal bits.
//
// -fno-math-errno and -fno-trapping-math are harmless, and most of what -ffast-math is wanted for.
#pragma once

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
#endif

namespace HYDRALM_NAMESPACE::detail {

[[gnu::error("hydralm: -fassociative-math: must be off; add -fno-associative-math")]]
void refuse_associative_math();
[[gnu::error("hydralm: -fno-honor-nans: must be off; add -fhonor-nans")]]
void refuse_no_nans();
[[gnu::error("hydralm: -fno-honor-infinities: must be off; add -fhonor-infinities")]]
void refuse_no_infinities();

// clang has no macro for these flags. But where it optimises by them, it knows what it could not
// know by the standard; a call that stays is an error. [[gnu::used]]: compiled though never called.
[[gnu::used]] inline void expect_ieee(double x) {
    if (__builtin_constant_p((x + 1.0) - x)) refuse_associative_math();
    if (__builtin_constant_p(x != x)) refuse_no_nans();
    if (__builtin_constant_p(x == __builtin_inf())) refuse_no_infinities();
}

}  // namespace HYDRALM_NAMESPACE::detail
