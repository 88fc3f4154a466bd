// Gradients of the gated delta rule, token by token in plain loops: the oracle of the chunkwise
// backward pass.
#pragma once

#include <cmath>
#include <type_traits>
#include <vector>

#include "hydralm/kernels/delta_rule/input.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// What the backward forms write, one head; views may be slices of wider buffers.
//   q, k        [N, D];  v  [N, V];  log_decay  [N], or [N, D] of a ChannelDecay;  beta  [N]
template <Real T, Index D, Index V = D, class Decay = HeadDecay<T>>
struct GatedDeltaGradients {
    static constexpr bool per_channel = GatedDeltaInput<T, D, V, Decay>::per_channel;

    MatrixView<T, D> q;
    MatrixView<T, D> k;
    MatrixView<T, V> v;
    std::conditional_t<per_channel, MatrixView<T, D>, StridedSpan<T>> log_decay;
    StridedSpan<T> beta;

    // That of GatedDeltaInput::decay.
    constexpr T& decay(Index t, Index i) const noexcept {
        if constexpr (per_channel) return log_decay(t, i);
        else return log_decay[t];
    }
};

// Backwards in t, with S̄ = e^g S_{t−1}, e = v − S̄ᵀk, δ = β e, and dS the gradient of S_t:
//   dq = S do     dS += q doᵀ     η = dSᵀ k     dβ = η·e     dv = β η     dk = dS δ − S̄ dv
//   dS̄ = dS − k dvᵀ     dg = ⟨dS̄, S̄⟩     dS ← e^g dS̄
// With a decay for every key channel, that of a channel is the product of its rows of dS̄ and S̄.
//   input       N tokens of one head
//   state       [D, V], before the first token
//   dout        [N, V]
//   dstate      [D, V]: in, the gradient of the final state; out, of the first
//   gradients   written; alias nothing
// Allocates (N + 1) D V numbers; throws std::bad_alloc. Source: README.md.
template <Real T, Index D, Index V, class Decay = HeadDecay<T>>
void gated_delta_backward_reference(const GatedDeltaInput<T, D, V, Decay>& input,
                                    MatrixView<const T, V> state, MatrixView<const T, V> dout,
                                    MatrixView<T, V> dstate,
                                    const GatedDeltaGradients<T, D, V, Decay>& gradients) {
    const Index N = input.tokens(), keys = input.k.cols(), values = input.v.cols();
    std::vector<T> states(static_cast<std::size_t>((N + 1) * keys * values));
    const auto S = [&](Index t) {
        return MatrixView<T>(states.data() + t * keys * values, keys, values);
    };
    std::vector<T> faded(static_cast<std::size_t>(keys));  // α of a token
    const auto fade = [&](Index t) {
        for (Index i = 0; i < keys; ++i)
            faded[static_cast<std::size_t>(i)] = std::exp(input.decay(t, i));
    };
    const auto alpha = [&](Index i) { return faded[static_cast<std::size_t>(i)]; };
    for (Index i = 0; i < keys; ++i)
        for (Index j = 0; j < values; ++j) S(0)(i, j) = state(i, j);
    // e of every token, left where dv will be
    for (Index t = 0; t < N; ++t) {
        fade(t);
        for (Index j = 0; j < values; ++j) {
            T e = input.v(t, j);
            for (Index i = 0; i < keys; ++i) e -= alpha(i) * S(t)(i, j) * input.k(t, i);
            gradients.v(t, j) = e;
            for (Index i = 0; i < keys; ++i)
                S(t + 1)(i, j) = alpha(i) * S(t)(i, j) + input.k(t, i) * input.beta[t] * e;
        }
    }
    for (Index t = N; t-- > 0;) {
        fade(t);
        const T beta = input.beta[t];
        T dbeta = 0;
        for (Index i = 0; i < keys; ++i)
            gradients.q(t, i) = gradients.k(t, i) = gradients.decay(t, i) = 0;
        for (Index j = 0; j < values; ++j) {  // columns of S do not see each other
            const T e = gradients.v(t, j);
            T eta = 0;
            for (Index i = 0; i < keys; ++i) {
                gradients.q(t, i) += S(t + 1)(i, j) * dout(t, j);
                dstate(i, j) += input.q(t, i) * dout(t, j);
                eta += dstate(i, j) * input.k(t, i);
            }
            dbeta += eta * e;
            for (Index i = 0; i < keys; ++i) {
                const T decayed = alpha(i) * S(t)(i, j);
                gradients.k(t, i) += dstate(i, j) * beta * e - decayed * beta * eta;
                const T d = dstate(i, j) - input.k(t, i) * beta * eta;
                gradients.decay(t, i) += d * decayed;
                dstate(i, j) = alpha(i) * d;
            }
            gradients.v(t, j) = beta * eta;
        }
        gradients.beta[t] = dbeta;
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels
