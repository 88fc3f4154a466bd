// Sliding-window attention of one head in plain loops: the specification of the fast forms.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "hydralm/core/matrix_view.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// o_i = Σ_j p_ij v_j,  p_ij = exp(s_ij − ℓ_i),  s_ij = q_i·k_j/√D,  ℓ_i = ln Σ_j exp(s_ij),
// j ∈ (P + i − W, P + i].
//   q               [N, D]
//   keys, values    [P + N, D]: P ≥ 0 tokens before the first query, oldest first, one per query
//   window          W ≥ 1
//   out             [N, D], written; aliases nothing
//   log_sum_exp     ℓ [N], written; or null
// No allocation. Source: SPEC.md §4.
template <Real T>
void window_attention_reference(MatrixView<const T> q, MatrixView<const T> keys,
                                MatrixView<const T> values, Index window, MatrixView<T> out,
                                T* log_sum_exp = nullptr) noexcept {
    const Index past = keys.rows() - q.rows(), D = q.cols();
    const T scale = T(1) / std::sqrt(static_cast<T>(D));
    for (Index i = 0; i < q.rows(); ++i) {
        const Index first = std::max<Index>(0, past + i - window + 1);
        const auto score = [&](Index j) {
            T s = 0;
            for (Index d = 0; d < D; ++d) s += q(i, d) * keys(j, d);
            return s * scale;
        };
        T largest = -std::numeric_limits<T>::infinity(), sum = 0;
        for (Index j = first; j <= past + i; ++j) largest = std::max(largest, score(j));
        for (Index j = first; j <= past + i; ++j) sum += std::exp(score(j) - largest);
        for (Index d = 0; d < D; ++d) {
            T o = 0;
            for (Index j = first; j <= past + i; ++j)
                o += std::exp(score(j) - largest) * values(j, d);
            out(i, d) = o / sum;
        }
        if (log_sum_exp != nullptr) log_sum_exp[i] = largest + std::log(sum);
    }
}

// Gradients of window_attention_reference, given dout = ∂L/∂out:
//   Δ_i = dout_i·o_i,  ds_ij = p_ij (dout_i·v_j − Δ_i),
//   dq_i = Σ_j ds_ij k_j/√D,  dk_j = Σ_i ds_ij q_i/√D,  dv_j = Σ_i p_ij dout_i.
// out and log_sum_exp are the forward's; dq [N, D], dkeys, dvalues [P + N, D] are written.
template <Real T>
void window_attention_backward_reference(MatrixView<const T> q, MatrixView<const T> keys,
                                         MatrixView<const T> values, Index window,
                                         MatrixView<const T> out, const T* log_sum_exp,
                                         MatrixView<const T> dout, MatrixView<T> dq,
                                         MatrixView<T> dkeys, MatrixView<T> dvalues) noexcept {
    const Index past = keys.rows() - q.rows(), D = q.cols();
    const T scale = T(1) / std::sqrt(static_cast<T>(D));
    const auto dot = [D](MatrixView<const T> a, Index i, MatrixView<const T> b, Index j) {
        T sum = 0;
        for (Index d = 0; d < D; ++d) sum += a(i, d) * b(j, d);
        return sum;
    };
    for (Index j = 0; j < keys.rows(); ++j)
        for (Index d = 0; d < D; ++d) dkeys(j, d) = dvalues(j, d) = 0;
    for (Index i = 0; i < q.rows(); ++i) {
        for (Index d = 0; d < D; ++d) dq(i, d) = 0;
        const T delta = dot(dout, i, out, i);
        for (Index j = std::max<Index>(0, past + i - window + 1); j <= past + i; ++j) {
            const T p = std::exp(dot(q, i, keys, j) * scale - log_sum_exp[i]);
            const T ds = p * (dot(dout, i, values, j) - delta) * scale;
            for (Index d = 0; d < D; ++d) {
                dq(i, d) += ds * keys(j, d);
                dkeys(j, d) += ds * q(i, d);
                dvalues(j, d) += p * dout(i, d);
            }
        }
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels
