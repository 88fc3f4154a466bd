// Which chunks of the past a query reads, in plain loops: the specification of chunk_search.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "hydralm/core/paged_past.hpp"

namespace HYDRALM_NAMESPACE::kernels::detail {

// The best of scored (score, number): the most largest, ties to the smaller number, NaN last; by
// number.
template <Real T>
std::vector<std::pair<T, Index>> best_of(std::vector<std::pair<T, Index>> scored, Index most) {
    const auto better = [](const auto& a, const auto& b) {
        if (std::isnan(a.first) || std::isnan(b.first))
            return std::isnan(a.first) == std::isnan(b.first) ? a.second < b.second
                                                              : std::isnan(b.first);
        return a.first > b.first || (a.first == b.first && a.second < b.second);
    };
    std::sort(scored.begin(), scored.end(), better);
    if (static_cast<Index>(scored.size()) > most) scored.resize(static_cast<std::size_t>(most));
    std::sort(scored.begin(), scored.end(),
              [](const auto& a, const auto& b) { return a.second < b.second; });
    return scored;
}

// (score(height, n), n) of the nodes first ≤ n < end of a height, 0 that of chunks. With open
// groups of those behind the last whole node of the next height, and of those in the nodes there
// with the best scores, open_nodes of them, found alike. Of the last height, of all.
template <Real T, class Score>
std::vector<std::pair<T, Index>> scored_nodes(Index height, Index first, Index end,
                                              Index open_groups, const Score& score) {
    std::vector<std::pair<T, Index>> scored;
    const auto add = [&](Index from, Index to) {
        for (Index n = from; n < to; ++n) scored.emplace_back(score(height, n), n);
    };
    if (open_groups == 0 || height + 1 == tree_heights) {
        add(first, end);
        return scored;
    }
    const Index above = end / chunk_group;
    for (const auto& [unused, n] :
         best_of(scored_nodes<T>(height + 1, 0, above, open_groups, score),
                 open_nodes(height + 1, open_groups)))
        add(n * chunk_group, (n + 1) * chunk_group);
    add(above * chunk_group, end);
    return scored;
}

// The same of chunks.
template <Real T, class Score>
std::vector<std::pair<T, Index>> scored_chunks(Index first, Index end, Index open_groups,
                                               const Score& score) {
    return scored_nodes<T>(0, first, end, open_groups, score);
}

}  // namespace HYDRALM_NAMESPACE::kernels::detail
