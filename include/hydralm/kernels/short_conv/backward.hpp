// Gradients of the causal depthwise convolution, a batch of channels at a time, from the last token
// to the first.
//
// Matches central differences of short_conv_reference: 1e-8 in double, 1e-4 in float. The order of
// every sum is fixed.
#pragma once

#include "hydralm/core/arena.hpp"
#include "hydralm/kernels/short_conv/forward.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// f'(s) = 1: the derivative of NoActivation.
struct NoActivationDerivative {
    template <class V>
    constexpr V operator()(const V&) const noexcept {
        return V(1);
    }
};

// Bytes of arena that short_conv_backward takes and gives back.
template <Real T>
constexpr Index short_conv_backward_workspace_bytes(Index taps) noexcept {
    return 2 * arena_bytes<T>(taps * simd::lanes<T>);
}

// With z the cache followed by x, s_t = b + Σ_j w_j z_{t−K+1+j}, y = f(s) and δ_t = dy_t · f'(s_t):
//   dw_j += Σ_t δ_t z_{t−K+1+j}      db += Σ_t δ_t      dz_i = Σ_j w_j δ_{i+K−1−j}
//   x           [N, C], and cache [K − 1, C] as it was before the forward pass
//   weight      [K, C]; bias [C] or null
//   dy          [N, C]
//   dcache      [K − 1, C]: in, the gradient of the cache the forward pass left; out, of what it
//               found
//   dx          [N, C], written; may be dy
//   dweight     [K, C], added to; dbias [C], added to, or null
//   derivative  f', from batches to batches, such as simd::silu_derivative
// No allocation, no errors. Cost: 6 K FLOP and f' per element.
template <Real T, class Derivative = NoActivationDerivative>
void short_conv_backward(
    MatrixView<const std::type_identity_t<T>> x, MatrixView<const std::type_identity_t<T>> cache,
    MatrixView<const std::type_identity_t<T>> weight, const std::type_identity_t<T>* bias,
    MatrixView<const std::type_identity_t<T>> dy, MatrixView<std::type_identity_t<T>> dcache,
    MatrixView<T> dx, MatrixView<std::type_identity_t<T>> dweight, std::type_identity_t<T>* dbias,
    Arena& arena, const Derivative& derivative = {}) noexcept {
    using Batch = simd::Batch<T>;
    constexpr Index lanes = simd::lanes<T>;
    const Arena::Scope scope(arena);
    const Index taps = weight.rows();
    const Index N = x.rows();
    T* const later = arena.take<T>(taps * lanes);  // row i: δ_{t+i} of this batch of channels
    T* const sums = arena.take<T>(taps * lanes);   // row j: Σ δ_t z_{t−K+1+j}
    for (Index c = 0; c < x.cols(); c += lanes) {
        const Index count = std::min(lanes, x.cols() - c);
        const auto get = [&](const T* p) {
            return count == lanes ? simd::load<T>(p) : simd::load_partial<T>(p, count);
        };
        const auto put = [&](T* p, const Batch& v) {
            if (count == lanes) simd::store<T>(p, v);
            else simd::store_partial<T>(p, v, count);
        };
        const auto z = [&](Index t) {
            return get(t < 0 ? cache.row(taps - 1 + t) + c : x.row(t) + c);
        };
        std::fill_n(later, taps * lanes, T(0));
        std::fill_n(sums, taps * lanes, T(0));
        const Batch b = bias != nullptr ? get(bias + c) : Batch(T(0));
        Batch db(T(0));
        for (Index t = N - 1; t > -taps; --t) {
            std::copy_backward(later, later + (taps - 1) * lanes, later + taps * lanes);
            Batch delta(T(0));
            if (t >= 0) {
                Batch s = b;
                for (Index j = 0; j < taps; ++j)
                    s = simd::fma(get(weight.row(j) + c), z(t - taps + 1 + j), s);
                delta = get(dy.row(t) + c) * derivative(s);
                db = db + delta;
                for (Index j = 0; j < taps; ++j)
                    simd::store<T>(sums + j * lanes, simd::fma(delta, z(t - taps + 1 + j),
                                                               simd::load<T>(sums + j * lanes)));
            }
            simd::store<T>(later, delta);
            const Index left =
                t - (N - taps + 1);  // row t is row `left` of the cache that forward left
            Batch dz = left >= 0 ? get(dcache.row(left) + c) : Batch(T(0));
            for (Index j = 0; j < taps; ++j)
                dz = simd::fma(get(weight.row(j) + c),
                               simd::load<T>(later + (taps - 1 - j) * lanes), dz);
            put(t >= 0 ? dx.row(t) + c : dcache.row(taps - 1 + t) + c, dz);
        }
        for (Index j = 0; j < taps; ++j)
            put(dweight.row(j) + c, get(dweight.row(j) + c) + simd::load<T>(sums + j * lanes));
        if (dbias != nullptr) put(dbias + c, get(dbias + c) + db);
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels
