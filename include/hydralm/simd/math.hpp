// Element functions, each with a scalar form (the specification) and a batch form under the same
// name; those named _finite are batch forms only.
//
// Batch forms are within a few units in the last place of the scalar ones, finite wherever those
// are; results below the smallest normal numbers may be 0.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <type_traits>

#include "hydralm/simd/batch.hpp"
#include "hydralm/simd/unroll.hpp"

namespace HYDRALM_NAMESPACE::simd {

namespace detail {

// 2^(t − shift) for the t that adding shift rounded to an integer: the integer stands in the low
// bits of t.
template <Real T>
[[gnu::always_inline]] inline Batch<T> shifted_power(const Batch<T>& t) noexcept {
    using Register = typename Batch<T>::register_type;
    using Integer = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
    typedef Integer Integers __attribute__((vector_size(sizeof(Register))));
    const Register bits = t;
    return Batch<T>(Register(Integers(bits) << (std::numeric_limits<T>::digits - 1)));
}

// Minimax polynomials of 2^(x+1) on [−½, ½] and 2e^x on [−ln √2, ln √2], constant term first;
// relative error 1.9e-9, 3.1e-18.
template <Real T>
struct ExpConstants;
template <>
struct ExpConstants<float> {
    static constexpr float shift =
        0x1.8p23F + 126.0F;  // rounds to an integer n and leaves n − 1 + bias in the low bits
    static constexpr float lowest = -125.0F, highest = 128.0F;  // of the exponent of two
    static constexpr float ln2_high = 0.693359375F, ln2_low = -2.12194440e-4F;
    static constexpr std::array exp2{2.0000000011171864636F,    1.38629441177373577692F,
                                     0.48045293735647524192F,   0.111006569017840235650F,
                                     0.0192369807898724063870F, 0.0026800126555833527504F,
                                     0.00030691393712059470358F};
    static constexpr std::array exp{2.0000000011171864636F,   2.0000000730780512116F,
                                    0.99999984064679799098F,  0.33332838381445213336F,
                                    0.083336463596538051268F, 0.0167497966793734080918F,
                                    0.0027673484339349309272F};
};
template <>
struct ExpConstants<double> {
    static constexpr double shift = 0x1.8p52 + 1022.0;
    static constexpr double lowest = -1021.0, highest = 1024.0;
    static constexpr double ln2_high = 0x1.62e42fefa0000p-1, ln2_low = 0x1.cf79abc9e3b3ap-40;
    static constexpr std::array exp2{
        1.99999999999999999414,    1.38629436111989066142,     0.48045301391820314102,
        0.111008217329639809964,   0.0192362582151760299636,   0.0026667116293585636814,
        0.00030807060925858211416, 0.000030505466976204712288, 0.0000026430865750960537614,
        2.0356396939541319376E-7,  1.41482877830066672126E-8,  8.8705244311754447958E-10};
    static constexpr std::array exp{
        1.99999999999999999414,      2.0000000000000000614,     1.00000000000000357238,
        0.3333333333333232742,       0.083333333332982761168,   0.0166666666671221277172,
        0.0027777777903193643812,    0.00039682538860523409044, 0.000049602972239195390856,
        0.0000055115247425091634528, 5.5264885496164494644E-7,  4.9988398680908695036E-8};
};

template <Real T, std::size_t N>
[[gnu::always_inline]] inline Batch<T> polynomial(const std::array<T, N>& c,
                                                  const Batch<T>& x) noexcept {
    Batch<T> y(c[N - 1]);
    unroll<static_cast<Index>(N) - 1>([&](auto i) __attribute__((always_inline)) {
        y = fma(y, x, Batch<T>(c[N - 2 - static_cast<std::size_t>(i())]));
    });
    return y;
}

// y, but 0 where x < lowest; NaN stays.
template <Real T>
[[gnu::always_inline]] inline Batch<T> zero_below(T lowest, const Batch<T>& x,
                                                  const Batch<T>& y) noexcept {
    return xsimd::select(x < Batch<T>(lowest), Batch<T>(T(0)), y);
}
// y, but ∞ where x > highest; NaN stays.
template <Real T>
[[gnu::always_inline]] inline Batch<T> infinite_from(T highest, const Batch<T>& x,
                                                     const Batch<T>& y) noexcept {
    return xsimd::select(x > Batch<T>(highest), Batch<T>(std::numeric_limits<T>::infinity()), y);
}

}  // namespace detail

// 2^x where that does not overflow: the bits of exp2 for x ≤ 128 (double: 1024), of no use above.
template <Real T>
[[gnu::always_inline]] inline Batch<T> exp2_finite(const Batch<T>& x) noexcept {
    using C = detail::ExpConstants<T>;
    const Batch<T> shift(C::shift);
    const Batch<T> t = x + shift;
    const Batch<T> fraction = x - (t - shift);
    return detail::zero_below(C::lowest, x,
                              detail::polynomial(C::exp2, fraction) * detail::shifted_power<T>(t));
}

// 2^x. Batch: within 2 ULP; 0 where the result is below 2^−125 (double: 2^−1021), so exp2(−∞) = 0;
// ∞ beyond the largest exponent; NaN stays NaN.
template <Real T>
T exp2(T x) noexcept {
    return std::exp2(x);
}
template <Real T>
[[gnu::always_inline]] inline Batch<T> exp2(const Batch<T>& x) noexcept {
    return detail::infinite_from(detail::ExpConstants<T>::highest, x, exp2_finite(x));
}

// e^x where that does not overflow: the bits of exp for x ≤ 128 ln 2 (double: 1024 ln 2), of no use
// above.
template <Real T>
[[gnu::always_inline]] inline Batch<T> exp_finite(const Batch<T>& x) noexcept {
    using C = detail::ExpConstants<T>;
    const Batch<T> shift(C::shift);
    const Batch<T> t = fma(x, Batch<T>(std::numbers::log2e_v<T>), shift);
    const Batch<T> n = t - shift;
    const Batch<T> r = fma(n, Batch<T>(-C::ln2_low), fma(n, Batch<T>(-C::ln2_high), x));
    return detail::zero_below(C::lowest * std::numbers::ln2_v<T>, x,
                              detail::polynomial(C::exp, r) * detail::shifted_power<T>(t));
}

// e^x. Batch: within 2 ULP, bounded like exp2.
template <Real T>
T exp(T x) noexcept {
    return std::exp(x);
}
template <Real T>
[[gnu::always_inline]] inline Batch<T> exp(const Batch<T>& x) noexcept {
    constexpr T highest = detail::ExpConstants<T>::highest * std::numbers::ln2_v<T>;
    return detail::infinite_from(highest, x, exp_finite(x));
}

namespace detail {

// x, raised to where 1 + e^−x is ∞ already: 1/(1 + e^−x) and x/(1 + e^−x) are 0 from there down.
template <Real T>
[[gnu::always_inline]] inline Batch<T> sigmoid_argument(const Batch<T>& x) noexcept {
    return max<T>(Batch<T>(-(ExpConstants<T>::highest + 1) * std::numbers::ln2_v<T>), x);
}

// 1 + e^−x of a sigmoid_argument; exp's steps with the sign in the constants. The power of two is ∞
// where e^−x overflows; above the other end the sum is 1 whatever is added.
template <Real T>
[[gnu::always_inline]] inline Batch<T> one_plus_exp_minus(const Batch<T>& x) noexcept {
    using C = ExpConstants<T>;
    static constexpr auto polynomial_of_minus = [] {
        auto c = C::exp;
        for (std::size_t i = 1; i < c.size(); i += 2) c[i] = -c[i];
        return c;
    }();
    const Batch<T> shift(C::shift);
    const Batch<T> bounded = min<T>(Batch<T>(-C::lowest * std::numbers::ln2_v<T>), x);
    const Batch<T> t = fma(bounded, Batch<T>(-std::numbers::log2e_v<T>), shift);
    const Batch<T> n = t - shift;
    const Batch<T> r = fma(n, Batch<T>(C::ln2_low), fma(n, Batch<T>(C::ln2_high), bounded));
    return fma(polynomial(polynomial_of_minus, r), shifted_power<T>(t), Batch<T>(T(1)));
}

}  // namespace detail

// σ(x) = 1/(1 + e^{−x}), through e^{−|x|} so that nothing overflows. Batch: within 3 ULP; 0 where
// e^{−x} overflows, x < −128 ln 2 (double: −1024 ln 2).
template <Real T>
T sigmoid(T x) noexcept {
    const T e = std::exp(-std::abs(x));
    return (x >= T(0) ? T(1) : e) / (T(1) + e);
}
template <Real T>
[[gnu::always_inline]] inline Batch<T> sigmoid(const Batch<T>& x) noexcept {
    return Batch<T>(T(1)) / detail::one_plus_exp_minus(detail::sigmoid_argument(x));
}

// silu(x) = x·σ(x). Batch: within 3 ULP; −0 where e^{−x} overflows, at −∞ too.
template <Real T>
T silu(T x) noexcept {
    return x * sigmoid(x);
}
template <Real T>
[[gnu::always_inline]] inline Batch<T> silu(const Batch<T>& x) noexcept {
    const Batch<T> argument = detail::sigmoid_argument(x);
    return argument / detail::one_plus_exp_minus(argument);
}

// silu'(x) = σ(x)·(1 + x·(1 − σ(x))).
template <class V>
V silu_derivative(const V& x) noexcept {
    const V s = sigmoid(x);
    return s * (V(1) + x * (V(1) - s));
}

}  // namespace HYDRALM_NAMESPACE::simd
