// Reductions of an expression to a number, without writing it: sum, dot, mean of squares, maximum.
//
// The order is fixed: four partial batches, then the lanes. It depends on the length only, not on
// alignment or threads. A sum of n terms is within (n/(4·lanes) + log₂ lanes + 3)·ε·Σ|term|,
// the terms' own rounding beside it.
#pragma once

#include <limits>

#include "hydralm/simd/expression/check.hpp"
#include "hydralm/simd/expression/function.hpp"

namespace HYDRALM_NAMESPACE {
namespace detail {

// The terms of a reduction: their scalar, their row length and, bound, their batches.
template <class X>
struct Terms {
    using E = operand_t<X>;
    using T = typename E::Scalar;
    static_assert(E::extent != any_extent,
                  "hydralm: reduction: the length is not known; give one operand as view(p, n)");
    static_assert(E::rank != 2,
                  "hydralm: reduction: takes a row; call it for each row of a matrix");

    E e;

    // The common size of the sized operands.
    [[gnu::always_inline]] Index size() const {
        if constexpr (E::extent >= 0) {
            check(E::extent);
            return E::extent;
        } else {
            Index n = -1;
            e.each_view([&](const auto& x)
                            __attribute__((always_inline)) { n = n < 0 ? x.size() : n; });
            check(n);
            return n;
        }
    }

private:
    [[gnu::always_inline]] void check(Index n) const {
        e.each_view([&](const auto& x) __attribute__((always_inline)) {
            if (x.size() != n) [[unlikely]]
                throw_sizes(region(RowView<const T>(nullptr, n)), region(x));
        });
    }
};

// The first count lanes of x, zeros behind them.
template <Real T>
simd::Batch<T> keep_first(const simd::Batch<T>& x, Index count) noexcept {
    alignas(alignment) Lanes<T> buffer;
    simd::store<T>(buffer.data(), x);
    return simd::load_partial<T>(buffer.data(), count);
}

template <Real T, bool ZeroPadded, class Bound>
[[gnu::always_inline]] inline T sum_row(Index n, const Bound& f) noexcept {
    using Batch = simd::Batch<T>;
    constexpr Index lanes = simd::lanes<T>;
    Batch s0(T(0)), s1(T(0)), s2(T(0)), s3(T(0));
    Index i = 0;
    for (; i + 4 * lanes <= n; i += 4 * lanes) {
        s0 = s0 + f(Whole{i});
        s1 = s1 + f(Whole{i + lanes});
        s2 = s2 + f(Whole{i + 2 * lanes});
        s3 = s3 + f(Whole{i + 3 * lanes});
    }
    for (; i + lanes <= n; i += lanes) s0 = s0 + f(Whole{i});
    if (i < n) {
        const Batch rest = f(Part{i, n - i});
        s1 = s1 + (ZeroPadded ? rest : keep_first<T>(rest, n - i));
    }
    return simd::reduce_add<T>((s0 + s1) + (s2 + s3));
}

template <Real T, class Bound>
[[gnu::always_inline]] inline T max_row(Index n, const Bound& f) noexcept {
    using Batch = simd::Batch<T>;
    constexpr Index lanes = simd::lanes<T>;
    const auto larger = [](const Batch& x, const Batch& m)
                            __attribute__((always_inline)) { return simd::max<T>(x, m); };
    const Batch lowest(-std::numeric_limits<T>::infinity());
    Batch m0 = lowest, m1 = lowest, m2 = lowest, m3 = lowest;
    Index i = 0;
    for (; i + 4 * lanes <= n; i += 4 * lanes) {
        m0 = larger(f(Whole{i}), m0);
        m1 = larger(f(Whole{i + lanes}), m1);
        m2 = larger(f(Whole{i + 2 * lanes}), m2);
        m3 = larger(f(Whole{i + 3 * lanes}), m3);
    }
    for (; i + lanes <= n; i += lanes) m0 = larger(f(Whole{i}), m0);
    T largest = simd::reduce_max<T>(larger(larger(m0, m1), larger(m2, m3)));
    if (i < n) {
        alignas(alignment) Lanes<T> rest;
        simd::store<T>(rest.data(), f(Part{i, n - i}));
        for (std::size_t k = 0; k < static_cast<std::size_t>(n - i); ++k)
            largest = rest[k] > largest ? rest[k] : largest;
    }
    return largest;
}

}  // namespace detail

// Σ_i x_i of a row; 0 of none. Throws Error where two operands differ in size; sizes that the types
// know are compared by the compiler. No allocation. Cost: one load for each input.
template <detail::Elements X>
[[gnu::always_inline]] inline auto sum(const X& x) {
    const detail::Terms<X> terms{operand(x)};
    using T = typename detail::Terms<X>::T;
    return detail::sum_row<T, detail::operand_t<X>::zero_padded>(terms.size(),
                                                                 terms.e.template bind<T>(0));
}
// Σ_i a_i b_i.
template <class A, class B>
    requires detail::Operands<A, B>
[[gnu::always_inline]] inline auto dot(const A& a, const B& b) {
    return sum(a * b);
}
// Σ_i x_i² / n, NaN of none.
template <detail::Elements X>
[[gnu::always_inline]] inline auto mean_of_squares(const X& x) {
    const detail::Terms<X> terms{operand(x)};
    using T = typename detail::Terms<X>::T;
    return sum(square(x)) / static_cast<T>(terms.size());
}
// The largest x_i; NaN is passed over; −∞ where there is nothing else.
template <detail::Elements X>
[[gnu::always_inline]] inline auto max(const X& x) {
    const detail::Terms<X> terms{operand(x)};
    using T = typename detail::Terms<X>::T;
    return detail::max_row<T>(terms.size(), terms.e.template bind<T>(0));
}

}  // namespace HYDRALM_NAMESPACE
