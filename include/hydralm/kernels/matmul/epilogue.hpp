// What a product does with its finished sums before they leave the registers: an expression over
// the accumulator.
//
//   matmul(x, W, y, acc + in(bias));           matmul(x, W, y, y + acc);
//   matmul(x, W, U, y, silu(acc) * acc2);      // of the two products at once
//
// A matrix in it stands for its element at the output's row and column, a row for the one at the
// output's column.
#pragma once

#include <array>

#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE {
namespace detail {

// A place with the sums of the products there.
template <class Place, Real T, std::size_t Products>
struct Sums : Place {
    std::array<simd::Batch<T>, Products> sums;
};

template <std::size_t I>
struct BoundAccumulator {
    template <class At>
    [[gnu::always_inline]] auto operator()(const At& at) const noexcept {
        static_assert(
            requires { at.sums; },
            "hydralm: acc: is a sum of a product; use it in the epilogue of matmul");
        if constexpr (requires { at.sums; }) {
            static_assert(I < std::tuple_size_v<decltype(at.sums)>,
                          "hydralm: acc2: is the sum of a second product; give matmul two weight "
                          "matrices");
            return std::get<I>(at.sums);
        }
    }
};

// y[column, …) = epilogue of count ≤ lanes sums.
template <Real T, std::size_t Products, class Epilogue>
[[gnu::always_inline]] inline void finish(Index column, Index count,
                                          const std::array<simd::Batch<T>, Products>& sums,
                                          const Epilogue& epilogue, T* y) noexcept {
    const auto at = [&]<class Place>(Place place) __attribute__((always_inline)) {
        const simd::Batch<T> result = epilogue(Sums<Place, T, Products>{place, sums});
        store(y, result, place);
    };
    if (count == simd::lanes<T>) at(Whole{column});
    else at(Part{column, count});
}

}  // namespace detail

// The finished sum of the first or the second product at the output's place.
template <std::size_t I>
struct Accumulator {
    using Scalar = void;
    static constexpr int rank = 1, views = 0;
    static constexpr Index extent = any_extent;
    static constexpr bool zero_padded = false;

    template <Real T>
    [[gnu::always_inline]] auto bind(Index) const noexcept {
        return detail::BoundAccumulator<I>{};
    }
    template <class F>
    void each_view(const F&) const noexcept {}
};
inline constexpr Accumulator<0> acc{};
inline constexpr Accumulator<1> acc2{};

}  // namespace HYDRALM_NAMESPACE
