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

// (score(c), c) of chunks first ≤ c < end; with open groups of those behind the last whole group of
// 64, and of those of the groups g with the best group_score(g).
template <Real T, class Score, class GroupScore>
std::vector<std::pair<T, Index>> scored_chunks(Index first, Index end, Index open_groups,
                                               const Score& score, const GroupScore& group_score) {
    std::vector<std::pair<T, Index>> scored, groups;
    const auto add = [&](Index from, Index to) {
        for (Index c = from; c < to; ++c) scored.emplace_back(score(c), c);
    };
    if (open_groups == 0) {
        add(first, end);
        return scored;
    }
    const Index whole = end / chunk_group;
    for (Index g = 0; g < whole; ++g) groups.emplace_back(group_score(g), g);
    for (const auto& [unused, g] : best_of(groups, open_groups))
        add(g * chunk_group, (g + 1) * chunk_group);
    add(whole * chunk_group, end);
    return scored;
}

}  // namespace HYDRALM_NAMESPACE::kernels::detail
