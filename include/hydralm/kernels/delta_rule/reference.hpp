// The gated delta rule, token by token, in plain loops: the specification of the fast forms beside
// it.
//
// Matches SPEC.md §3 with the state transposed: S here is [Dk, Dv], row = key index, column = value
// index.
#pragma once

#include <cmath>

#include "hydralm/kernels/delta_rule/input.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// For every token t, with S the state before it and α = e^g:
//   u = β (v − α Sᵀ k)      S ← α S + k uᵀ      o = Sᵀ q
//
//   input   N tokens of one head, any N ≥ 0
//   state   [D, D], read and overwritten
//   out     [N, D], written; aliases nothing
// No allocation, no errors. 7 D² FLOP per token. Source: arXiv 2412.06464, section 3.
template <Real T, Index D>
void gated_delta_reference(const GatedDeltaInput<T, D>& input, MatrixView<T, D> state,
                           MatrixView<T, D> out) noexcept {
    for (Index t = 0; t < input.tokens(); ++t) {
        const T alpha = std::exp(input.log_decay[t]);
        LocalArray<T, D> u{};
        for (Index i = 0; i < D; ++i)
            for (Index j = 0; j < D; ++j) u[j] += alpha * state(i, j) * input.k(t, i);
        for (Index j = 0; j < D; ++j) u[j] = input.beta[t] * (input.v(t, j) - u[j]);
        for (Index j = 0; j < D; ++j) out(t, j) = 0;
        for (Index i = 0; i < D; ++i) {
            for (Index j = 0; j < D; ++j) {
                state(i, j) = alpha * state(i, j) + input.k(t, i) * u[j];
                out(t, j) += state(i, j) * input.q(t, i);
            }
        }
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels
