// Retrieval attention, one head, by its formulas: the specification of the fast forms.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "hydralm/core/matrix_view.hpp"
#include "hydralm/kernels/chunk_search/reference.hpp"
#include "hydralm/kernels/retrieval/head.hpp"

namespace HYDRALM_NAMESPACE::kernels {
// For every token t, with own chunk m = ⌊t/C⌋ and s_c = Σ_{j∈c} γ_j k̂_j:
//   r_c = q̂_t·s_c for c < m;  kept: the top_k largest r_c, ties to the earlier chunk, NaN last
//   p = softmax({λ r_c : c kept} ∪ {ℓ : m})
//   o_t = Σ_c p_c Σ_j softmax_j(q̂_t·k̂_j) v_j, j over chunk c, causal in m
// With open groups only chunks after the last whole group of 64, and those of the groups with the
// largest q̂_t·Σ_{c∈g} s_c, have a score; of groups, alike, those after the last whole node of 64,
// and those of the best nodes; and so on (chunk_search/reference.hpp). In bounded memory (E exact
// chunks, P pooled) the chunks c < m − E give Σ_j v_j / C instead, and those before m − E − P are
// one, under the number of the last of them: means of s_c and Σ_j v_j / C with weights (1 −
// 1/P)^age over their sum. q (scaled by τ), k (unit), v, out [N, D]; gates [N]; selected [N,
// top_k], ascending, −1 behind.
template <Real T>
void retrieval_attention_reference(MatrixView<const T> q, MatrixView<const T> k,
                                   MatrixView<const T> v, const T* gates, Index chunk, Index top_k,
                                   T lambda, T local, MatrixView<T> out,
                                   MatrixView<std::int32_t> selected, const PastBounds& bounds = {},
                                   Index open_groups = 0) {
    using Row = std::vector<T>;
    const Index N = q.rows(), D = q.cols();
    const auto dot = [D](const T* a, const T* b) {
        T sum(0);
        for (Index d = 0; d < D; ++d) sum += a[d] * b[d];
        return sum;
    };
    std::array<std::vector<Row>, tree_heights> nodes;  // sums of 64^height summaries
    std::vector<Row>&summaries = nodes[0], means, far_summaries, far_means;
    const auto row = [](const std::vector<Row>& rows, Index i) {
        return rows[static_cast<std::size_t>(i)].data();
    };
    const auto decayed = [&](const std::vector<Row>& rows) {
        Row mean(static_cast<std::size_t>(D), T(0));
        T weight(1), total(0);
        for (auto x = rows.rbegin(); x != rows.rend(); ++x) {
            for (std::size_t d = 0; d < mean.size(); ++d) mean[d] += weight * (*x)[d];
            total += weight;
            weight *= T(1) - T(1) / static_cast<T>(bounds.pooled_chunks);
        }
        for (T& x : mean) x /= total;
        return mean;
    };
    for (Index t = 0; t < N; ++t) {
        const Index m = t / chunk;
        if (t % chunk == 0 && t > 0) {
            Row s(static_cast<std::size_t>(D), T(0)), mean = s;
            for (Index j = t - chunk; j < t; ++j)
                for (Index d = 0; d < D; ++d) {
                    s[static_cast<std::size_t>(d)] += gates[j] * k(j, d);
                    mean[static_cast<std::size_t>(d)] += v(j, d) / static_cast<T>(chunk);
                }
            summaries.push_back(std::move(s));
            for (std::size_t h = 1; h < nodes.size(); ++h) {
                if (m % node_chunks(static_cast<Index>(h)) != 0) break;
                Row& sum = nodes[h].emplace_back(static_cast<std::size_t>(D), T(0));
                for (auto x = nodes[h - 1].end() - chunk_group; x != nodes[h - 1].end(); ++x)
                    for (std::size_t d = 0; d < sum.size(); ++d) sum[d] += (*x)[d];
            }
            means.push_back(std::move(mean));
            if (bounds.bounded()) far_summaries.push_back(decayed(summaries));
            if (bounds.bounded()) far_means.push_back(decayed(means));
        }
        const Index exact = bounds.first_exact(m), scored = bounds.first_scored(m);
        auto kept = detail::scored_chunks<T>(scored, m, open_groups, [&](Index height, Index i) {
            return dot(q.row(t), row(nodes[static_cast<std::size_t>(height)], i));
        });
        if (scored > 0)
            kept.emplace_back(dot(q.row(t), row(far_summaries, scored - 1)), scored - 1);
        kept = detail::best_of(kept, top_k);
        for (Index i = 0; i < top_k; ++i)
            selected(t, i) =
                i < static_cast<Index>(kept.size())
                    ? static_cast<std::int32_t>(kept[static_cast<std::size_t>(i)].second)
                    : -1;
        for (auto& [logit, c] : kept) logit *= lambda;
        kept.emplace_back(local, m);
        T largest = local, total(0);
        for (const auto& [logit, c] : kept) largest = std::max(largest, logit);
        for (const auto& [logit, c] : kept) total += std::exp(logit - largest);
        std::fill_n(out.row(t), D, T(0));
        for (const auto& [logit, c] : kept) {
            const T p = std::exp(logit - largest) / total;
            if (c < exact) {
                const T* const value = row(c < scored ? far_means : means, c);
                for (Index d = 0; d < D; ++d) out(t, d) += p * value[d];
                continue;
            }
            const Index first = c * chunk, last = std::min(first + chunk, t + 1);
            T highest = dot(q.row(t), k.row(first)), sum(0);
            for (Index j = first; j < last; ++j)
                highest = std::max(highest, dot(q.row(t), k.row(j)));
            for (Index j = first; j < last; ++j) sum += std::exp(dot(q.row(t), k.row(j)) - highest);
            for (Index j = first; j < last; ++j) {
                const T weight = p * std::exp(dot(q.row(t), k.row(j)) - highest) / sum;
                for (Index d = 0; d < D; ++d) out(t, d) += weight * v(j, d);
            }
        }
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels
