// More element functions: logarithms and activations, scalar (the specification) and batch under
// one name, as in simd/math.hpp.
#pragma once

#include <cmath>
#include <numbers>

#include "hydralm/simd/math.hpp"

namespace HYDRALM_NAMESPACE::simd {

// √x and |x|, exactly rounded.
template <Real T>
[[gnu::always_inline]] inline Batch<T> sqrt(const Batch<T>& x) noexcept {
    return xsimd::sqrt(x);
}
template <Real T>
[[gnu::always_inline]] inline Batch<T> abs(const Batch<T>& x) noexcept {
    return xsimd::abs(x);
}

// ln x. Batch: within 1 ULP; −∞ at 0, NaN below.
template <Real T>
T log(T x) noexcept {
    return std::log(x);
}
template <Real T>
Batch<T> log(const Batch<T>& x) noexcept {
    return xsimd::log(x);
}

// ln(1 + e^x), without overflow; softplus(−x) = −ln σ(x). Batch: within 2 ULP.
template <Real T>
T softplus(T x) noexcept {
    return (x > T(0) ? x : T(0)) + std::log1p(std::exp(-std::abs(x)));
}
template <Real T>
Batch<T> softplus(const Batch<T>& x) noexcept {
    const Batch<T> zero(T(0));
    return select(x > zero, x, zero) + xsimd::log1p(exp_finite(-xsimd::abs(x)));
}

// tanh x. Batch: within 2 ULP.
template <Real T>
T tanh(T x) noexcept {
    return std::tanh(x);
}
template <Real T>
Batch<T> tanh(const Batch<T>& x) noexcept {
    return xsimd::tanh(x);
}

// x Φ(x) = x erfc(−x/√2)/2 (Hendrycks & Gimpel, arXiv 1606.08415). Batch: within
// 4 ULP of |x|, in double 32.
template <Real T>
T gelu(T x) noexcept {
    return T(0.5) * x * std::erfc(-x / std::numbers::sqrt2_v<T>);
}
template <Real T>
Batch<T> gelu(const Batch<T>& x) noexcept {
    return Batch<T>(T(0.5)) * x * xsimd::erfc(x * Batch<T>(-T(1) / std::numbers::sqrt2_v<T>));
}

}  // namespace HYDRALM_NAMESPACE::simd
