// transpose: a square of lanes × lanes elements in registers, by log₂ lanes rounds of shuffles.
#pragma once

#include <array>
#include <utility>

#include "hydralm/simd/batch.hpp"
#include "hydralm/simd/unroll.hpp"

namespace HYDRALM_NAMESPACE::simd {
namespace detail {

// Swaps the off-diagonal blocks of Half × Half in every square of twice that size.
template <Real T, Index Half>
[[gnu::always_inline]] inline void transpose_blocks(Batch<T>* x) noexcept {
    if constexpr (Half > 0) {
        using Register = typename Batch<T>::register_type;
        [&]<Index... L>(std::integer_sequence<Index, L...>) __attribute__((always_inline)) {
            unroll<lanes<T>>([&](auto i) __attribute__((always_inline)) {
                if constexpr ((i & Half) == 0) {
                    const Register a = x[i];
                    const Register b = x[i + Half];
                    x[i] = Batch<T>(__builtin_shufflevector(
                        a, b, ((L & Half) == 0 ? L : L - Half + lanes<T>)...));
                    x[i + Half] = Batch<T>(__builtin_shufflevector(
                        a, b, ((L & Half) == 0 ? L + Half : L + lanes<T>)...));
                }
            });
        }(std::make_integer_sequence<Index, lanes<T>>{});
        transpose_blocks<T, Half / 2>(x);
    }
}

}  // namespace detail

// Element l of batch i becomes element i of batch l.
template <Real T>
[[gnu::always_inline]] inline void transpose(
    std::array<Batch<T>, static_cast<std::size_t>(lanes<T>)>& x) noexcept {
    detail::transpose_blocks<T, lanes<T> / 2>(x.data());
}

}  // namespace HYDRALM_NAMESPACE::simd
