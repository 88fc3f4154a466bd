// sum_each: the horizontal sums of as many batches as a batch has lanes, in one batch.
//
// A tree of shuffles that halves the number of batches in every stage: 3 (lanes − 1) operations for
// lanes sums, where one sum after the other takes lanes · log₂ lanes of them and a store each. The
// order of summation depends on the width alone.
#pragma once

#include <array>
#include <utility>

#include "hydralm/simd/batch.hpp"

namespace HYDRALM_NAMESPACE::simd {
namespace detail {

// Every segment of Segment lanes of a and of b folded in half: lanes of a's segments alternate with
// those of b's.
template <Real T, Index Segment>
[[gnu::always_inline]] inline Batch<T> fold(const Batch<T>& a, const Batch<T>& b) noexcept {
    using Register = typename Batch<T>::register_type;
    const Register ra = a;
    const Register rb = b;
    constexpr Index half = Segment / 2;
    return [&]<Index... L>(std::integer_sequence<Index, L...>) __attribute__((always_inline)) {
        const Register low =
            __builtin_shufflevector(ra, rb, (L % Segment < half ? L : L - half + lanes<T>)...);
        const Register high =
            __builtin_shufflevector(ra, rb, (L % Segment < half ? L + half : L + lanes<T>)...);
        return Batch<T>(low) + Batch<T>(high);
    }(std::make_integer_sequence<Index, lanes<T>>{});
}

template <Real T, Index Segment>
[[gnu::always_inline]] inline Batch<T> sum_segments(const Batch<T>* x) noexcept {
    if constexpr (Segment == 1) {
        return x[0];
    } else {
        return [&]<std::size_t... I>(std::index_sequence<I...>) __attribute__((always_inline)) {
            const Batch<T> folded[] = {fold<T, Segment>(x[I], x[I + Segment / 2])...};
            return sum_segments<T, Segment / 2>(folded);
        }(std::make_index_sequence<static_cast<std::size_t>(Segment / 2)>{});
    }
}

}  // namespace detail

// Lane i of the result is the sum over the lanes of x[i].
template <Real T>
[[gnu::always_inline]] inline Batch<T> sum_each(
    const std::array<Batch<T>, static_cast<std::size_t>(lanes<T>)>& x) noexcept {
    return detail::sum_segments<T, lanes<T>>(x.data());
}

}  // namespace HYDRALM_NAMESPACE::simd
