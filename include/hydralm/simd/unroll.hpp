// unroll: a loop whose index is a constant in every round, so that register tiles stay in registers
// at any -O level.
#pragma once

#include <type_traits>
#include <utility>

#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE::simd {

// f(0), f(1), …, f(Count − 1), each index a std::integral_constant<Index, i>.
template <Index Count, class F>
[[gnu::always_inline]] constexpr void unroll(const F& f) noexcept {
    [&]<Index... I>(std::integer_sequence<Index, I...>) __attribute__((always_inline)) {
        (f(std::integral_constant<Index, I>{}), ...);
    }(std::make_integer_sequence<Index, Count>{});
}

}  // namespace HYDRALM_NAMESPACE::simd
