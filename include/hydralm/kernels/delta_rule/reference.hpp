// The gated delta rule, token by token, in plain loops: the specification of the fast forms beside
// it.
//
// Matches SPEC.md §3 with the state transposed: S here is [Dk, Dv], row = key index, column = value
// index.
#pragma once

#include <cmath>

#include "hydralm/kernels/delta_rule/input.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// For every token t, with S the state before it and α = e^g, a number or a vector [D] that every
// column of S is multiplied by:
//   u = β (v − (α S)ᵀ k)      S ← α S + k uᵀ      o = Sᵀ q
//
//   input   N tokens of one head, any N ≥ 0
//   state   [D, V], read and overwritten
//   out     [N, V], written; aliases nothing
// No allocation, no errors. 7 D V FLOP per token. Source: arXiv 2412.06464, section 3; a vector α:
// arXiv 2510.26692.
template <Real T, Index D, Index V, class Decay = HeadDecay<T>>
void gated_delta_reference(const GatedDeltaInput<T, D, V, Decay>& input, MatrixView<T, V> state,
                           MatrixView<T, V> out) noexcept {
    for (Index t = 0; t < input.tokens(); ++t) {
        for (Index i = 0; i < state.rows(); ++i) {
            const T alpha = std::exp(input.decay(t, i));
            for (Index j = 0; j < state.cols(); ++j) state(i, j) *= alpha;
        }
        for (Index j = 0; j < state.cols(); ++j) {  // columns of S do not see each other
            T u = 0;
            for (Index i = 0; i < state.rows(); ++i) u += state(i, j) * input.k(t, i);
            u = input.beta[t] * (input.v(t, j) - u);
            out(t, j) = 0;
            for (Index i = 0; i < state.rows(); ++i) {
                state(i, j) += input.k(t, i) * u;
                out(t, j) += state(i, j) * input.q(t, i);
            }
        }
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels
