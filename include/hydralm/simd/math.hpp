// Element functions, each with a scalar form (the specification) and a batch form under the same name.
//
// Batch forms are within a few units in the last place of the scalar ones over the whole range, and finite wherever the
// scalar form is.
#pragma once

#include <cmath>

#include "hydralm/simd/batch.hpp"

namespace HYDRALM_NAMESPACE::simd {

template <Real T>
T exp(T x) noexcept {
    return std::exp(x);
}
template <Real T>
Batch<T> exp(const Batch<T>& x) noexcept {
    return xsimd::exp(x);
}

// σ(x) = 1/(1 + e^{−x}), through e^{−|x|} so that nothing overflows.
template <Real T>
T sigmoid(T x) noexcept {
    const T e = std::exp(-std::abs(x));
    return (x >= T(0) ? T(1) : e) / (T(1) + e);
}
template <Real T>
Batch<T> sigmoid(const Batch<T>& x) noexcept {
    const Batch<T> e = xsimd::exp(-xsimd::abs(x));
    const Batch<T> one(T(1));
    return xsimd::select(x >= Batch<T>(T(0)), one, e) / (one + e);
}

// silu(x) = x·σ(x).
template <Real T>
T silu(T x) noexcept {
    return x * sigmoid(x);
}
template <Real T>
Batch<T> silu(const Batch<T>& x) noexcept {
    return x * sigmoid(x);
}

// silu'(x) = σ(x)·(1 + x·(1 − σ(x))).
template <class V>
V silu_derivative(const V& x) noexcept {
    const V s = sigmoid(x);
    return s * (V(1) + x * (V(1) - s));
}

// ln(1 + e^x), without overflow; softplus(−x) = −ln σ(x).
template <Real T>
T softplus(T x) noexcept {
    return (x > T(0) ? x : T(0)) + std::log1p(std::exp(-std::abs(x)));
}

}  // namespace HYDRALM_NAMESPACE::simd
