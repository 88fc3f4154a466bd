// Retrieval attention, one head, by its formulas: the specification of the fast forms.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "hydralm/core/matrix_view.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// For every token t, with own chunk m = ⌊t/C⌋ and s_c = Σ_{j∈c} γ_j k̂_j:
//   r_c = q̂_t·s_c for c < m;  kept: the top_k largest r_c, ties to the earlier chunk, NaN last
//   p = softmax({λ r_c : c kept} ∪ {ℓ : m})
//   o_t = Σ_c p_c Σ_j softmax_j(q̂_t·k̂_j) v_j, j over chunk c, causal in m
// q (scaled by τ), k (unit), v, out [N, D]; gates [N]; selected [N, top_k], ascending, −1 behind.
template <Real T>
void retrieval_attention_reference(MatrixView<const T> q, MatrixView<const T> k,
                                   MatrixView<const T> v, const T* gates, Index chunk, Index top_k,
                                   T lambda, T local, MatrixView<T> out,
                                   MatrixView<std::int32_t> selected) {
    const Index N = q.rows(), D = q.cols();
    const auto dot = [D](const T* a, const T* b) {
        T sum(0);
        for (Index d = 0; d < D; ++d) sum += a[d] * b[d];
        return sum;
    };
    std::vector<std::vector<T>> summaries;
    for (Index t = 0; t < N; ++t) {
        if (t % chunk == 0 && t > 0) {
            std::vector<T> s(static_cast<std::size_t>(D), T(0));
            for (Index j = t - chunk; j < t; ++j)
                for (Index d = 0; d < D; ++d) s[static_cast<std::size_t>(d)] += gates[j] * k(j, d);
            summaries.push_back(std::move(s));
        }
        std::vector<std::pair<T, Index>> kept;  // routing score, chunk
        for (const auto& s : summaries)
            kept.emplace_back(dot(q.row(t), s.data()), static_cast<Index>(kept.size()));
        const auto better = [](const auto& a, const auto& b) {
            if (std::isnan(a.first) || std::isnan(b.first))
                return std::isnan(a.first) == std::isnan(b.first) ? a.second < b.second
                                                                  : std::isnan(b.first);
            return a.first > b.first || (a.first == b.first && a.second < b.second);
        };
        std::sort(kept.begin(), kept.end(), better);
        if (static_cast<Index>(kept.size()) > top_k) kept.resize(static_cast<std::size_t>(top_k));
        std::sort(kept.begin(), kept.end(),
                  [](const auto& a, const auto& b) { return a.second < b.second; });
        for (Index i = 0; i < top_k; ++i)
            selected(t, i) =
                i < static_cast<Index>(kept.size())
                    ? static_cast<std::int32_t>(kept[static_cast<std::size_t>(i)].second)
                    : -1;
        for (auto& [score, c] : kept) score *= lambda;
        kept.emplace_back(local, t / chunk);
        T largest = local, total(0);
        for (const auto& [logit, c] : kept) largest = std::max(largest, logit);
        for (const auto& [logit, c] : kept) total += std::exp(logit - largest);
        std::fill_n(out.row(t), D, T(0));
        for (const auto& [logit, c] : kept) {
            const Index first = c * chunk, last = std::min(first + chunk, t + 1);
            T highest = dot(q.row(t), k.row(first)), sum(0);
            for (Index j = first; j < last; ++j)
                highest = std::max(highest, dot(q.row(t), k.row(j)));
            for (Index j = first; j < last; ++j) sum += std::exp(dot(q.row(t), k.row(j)) - highest);
            const T p = std::exp(logit - largest) / total;
            for (Index j = first; j < last; ++j) {
                const T weight = p * std::exp(dot(q.row(t), k.row(j)) - highest) / sum;
                for (Index d = 0; d < D; ++d) out(t, d) += weight * v(j, d);
            }
        }
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels
