// Rows of numbers kept in int16 with a scale each: half the bytes of float.
//
//   scale = max |x| / 32767, q = x / scale rounded to nearest, x' = q · scale
//
// so that |x' − x| ≤ scale / 2, and rounding to T. Unlike bf16, whose error is a part of each
// number, the error is a part of the largest of the row, whose numbers are of one size in the delta
// rule's state (docs/resting-state-report.md).
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// x [n] = q [n] · scale. No allocation, no errors.
template <Real T>
void widen_int16(Index n, const std::int16_t* q, T scale, T* x) noexcept {
    for (Index i = 0; i < n; ++i) x[i] = static_cast<T>(q[i]) * scale;
}

// Rounds x [n], in place, to what int16 can keep, and returns the scale: x is then what widen_int16
// makes of q [n] and it, to the bit. A row whose largest number is below 32767 of the smallest
// normal T becomes zeros; one with an infinity or a NaN becomes NaN whole, so that neither is
// lost. Any n ≥ 0 and alignment; x and q do not overlap. |x| ≤ max / 2 of T. No allocation, no
// errors. Cost: x is read twice and written once.
template <Real T>
T round_to_int16(Index n, T* x, std::int16_t* q) noexcept {
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    constexpr T most = 32767;
    // As integers, magnitudes have the same order, with infinity and NaN above all numbers.
    Bits magnitude = 0;
    for (Index i = 0; i < n; ++i)
        magnitude = std::max(magnitude, std::bit_cast<Bits>(x[i]) & (~Bits{0} >> 1));
    const T largest = std::bit_cast<T>(magnitude);
    T scale(0);
    if (largest >= most * std::numeric_limits<T>::min()) scale = largest / most;
    if (!(largest <= std::numeric_limits<T>::max())) scale = std::numeric_limits<T>::quiet_NaN();
    if (scale > T(0)) {
        const T inverse = most / largest;
        // Numbers of this size have no digits behind the point: adding it rounds.
        constexpr T whole = T(3) * static_cast<T>(Bits{1} << (std::numeric_limits<T>::digits - 2));
        for (Index i = 0; i < n; ++i)
            q[i] = static_cast<std::int16_t>(
                static_cast<std::int32_t>((x[i] * inverse + whole) - whole));
    } else {
        std::fill_n(q, n, std::int16_t{0});
    }
    widen_int16(n, q, scale, x);
    return scale;
}

}  // namespace HYDRALM_NAMESPACE::kernels
