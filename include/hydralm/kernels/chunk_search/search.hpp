// The chunks of the past that a query scores highest, by vectors that stand for them: r_c = q·s_c.
//
// Scores exist for 32 queries and 64 chunks at a time; a query keeps its best in order. In two
// levels, vectors that stand for 64 chunks choose the groups whose chunks are scored. A query's
// result does not depend on how many are searched together. Matches chunk_search/reference.hpp
// wherever rounding leaves the order of the scores.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include "hydralm/core/arena.hpp"
#include "hydralm/core/matrix_view.hpp"
#include "hydralm/core/paged_past.hpp"
#include "hydralm/kernels/small_product.hpp"
#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE::kernels {
namespace detail {

inline constexpr Index search_rows = 32;  // queries that share a product

// The best so far of one query, best first: chunks, or groups of them.
template <Real T>
struct BestChunks {
    Index top_k;
    T* scores;
    std::int32_t* chunks;
    Index count = 0;

    static bool better(T a, T b) noexcept { return a > b || (std::isnan(b) && !std::isnan(a)); }

    // A chunk with this score, later than all before.
    void add(T score, Index chunk) noexcept {
        if (count == top_k && !better(score, scores[top_k - 1])) return;
        Index i = count < top_k ? count++ : top_k - 1;
        for (; i > 0 && better(score, scores[i - 1]); --i) {
            scores[i] = scores[i - 1];
            chunks[i] = chunks[i - 1];
        }
        scores[i] = score;
        chunks[i] = static_cast<std::int32_t>(chunk);
    }
    // Chunks first, first + 1, … with these scores, later than all before.
    void add(Index n, const T* score, Index first) noexcept {
        constexpr Index block = 16;  // most hold nothing better
        for (Index c = 0; c < n; c += block) {
            const Index end = std::min(n, c + block);
            if (count == top_k && !std::isnan(scores[top_k - 1]) &&
                !(max(view(score + c, end - c)) > scores[top_k - 1]))
                continue;
            for (Index i = c; i < end; ++i) add(score[i], first + i);
        }
    }
    void sort_by_chunk() noexcept {
        for (Index i = 1; i < count; ++i)
            for (Index j = i; j > 0 && chunks[j] < chunks[j - 1]; --j) {
                std::swap(chunks[j], chunks[j - 1]);
                std::swap(scores[j], scores[j - 1]);
            }
        std::fill(chunks + count, chunks + top_k, -1);
        std::fill(scores + count, scores + top_k, T(0));
    }
};

// Scratch that a search in two levels takes for so many rows: the groups that a query opens, and
// all of them by group.
template <Real T>
struct OpenGroups {
    struct Read {
        std::int32_t group, query;
    };
    T* scores;             // [rows, open]
    std::int32_t* groups;  // [rows, open]
    Read* reads;           // [rows · open]
    T* queries;            // [rows, width]

    static constexpr Index bytes(Index rows, Index width) noexcept {
        const Index most = rows * most_open_groups;
        return arena_bytes<T>(most) + arena_bytes<std::int32_t>(most) + arena_bytes<Read>(most) +
               arena_bytes<T>(rows * width);
    }
    OpenGroups(Arena& arena, Index rows, Index width) noexcept
        : scores(arena.take<T>(rows * most_open_groups)),
          groups(arena.take<std::int32_t>(rows * most_open_groups)),
          reads(arena.take<Read>(rows * most_open_groups)),
          queries(arena.take<T>(rows * width)) {}
};

// Adds to best[i] the chunks of the best open_groups groups among the first whole[i] ≤ whole[i +
// 1], for the rows of q. scores: scratch [rows, group].
template <Real T, class Summaries>
void search_groups(MatrixView<const T> q, const Summaries& past, Index open, const Index* whole,
                   BestChunks<T>* best, T* scores, Arena& arena) noexcept {
    constexpr Index group = chunk_group;
    const Arena::Scope scope(arena);
    const Index count = q.rows(), D = q.cols();
    const OpenGroups<T> scratch(arena, count, D);
    std::array<BestChunks<T>, search_rows> opened;
    for (Index i = 0; i < count; ++i)
        opened[static_cast<std::size_t>(i)] = {open, scratch.scores + i * open,
                                               scratch.groups + i * open};
    for (Index g = 0; g < whole[count - 1]; g += group) {
        product<T>(count, group, D, {q.row(0), q.stride(), 1}, past.group_summaries(g / group),
                   group, scores, group, false);
        for (Index i = 0; i < count; ++i)
            if (const Index n = std::min(group, whole[i] - g); n > 0)
                opened[static_cast<std::size_t>(i)].add(n, scores + i * group, g);
    }
    auto* end = scratch.reads;
    for (Index i = 0; i < count; ++i)
        for (Index j = 0; j < opened[static_cast<std::size_t>(i)].count; ++j)
            *end++ = {scratch.groups[i * open + j], static_cast<std::int32_t>(i)};
    std::sort(scratch.reads, end, [](const auto& a, const auto& b) {
        return a.group != b.group ? a.group < b.group : a.query < b.query;
    });
    for (auto* read = scratch.reads; read != end;) {
        const auto* const first = read;
        for (; read != end && read->group == first->group; ++read)
            std::copy_n(q.row(read->query), D, scratch.queries + (read - first) * D);
        if (read != end) past.fetch_summaries(read->group);
        product<T>(read - first, group, D, {scratch.queries, D, 1}, past.summaries(first->group),
                   group, scores, group, false);
        for (const auto* r = first; r != read; ++r)
            best[r->query].add(group, scores + (r - first) * group, first->group * group);
    }
}

}  // namespace detail

// Bytes of arena that search_chunks takes for so many queries.
template <Real T>
constexpr Index chunk_search_workspace_bytes(Index rows, Index width) noexcept {
    return arena_bytes<T>(rows * chunk_group) + detail::OpenGroups<T>::bytes(rows, width);
}

// Adds to best[i] the chunks first[i] ≤ c < end[i] by their scores, for the rows of q [n, width], n
// ≤ 32; first and end ascend. With open groups only those behind the last whole group and those of
// the best groups, from chunk 0 on whatever first says. What it searches has
//   summaries(g)            [width, 64]: column c mod 64 is s_c, of the chunks c of group g = c/64
//   group_summaries(level)  the same of 64 groups, where there are open groups
//   fetch_summaries(g)      begins to bring them into the cache
// Any stride. No allocation, no errors. Cost: 2·width FLOP a query and chunk; with open groups
// 2·width a group and 128·width an open group.
template <Real T, class Summaries>
void search_chunks(MatrixView<const T> q, const Summaries& past, Index open_groups,
                   const Index* first, const Index* end, detail::BestChunks<T>* best,
                   Arena& arena) noexcept {
    constexpr Index group = chunk_group;
    const Arena::Scope scope(arena);
    const Index count = q.rows();
    T* const scores = arena.take<T>(count * group);
    std::array<Index, detail::search_rows> begin, whole;  // chunks, groups
    for (Index i = 0; i < count; ++i) {
        const auto at = static_cast<std::size_t>(i);
        whole[at] = end[i] / group;
        begin[at] = open_groups > 0 ? whole[at] * group : first[i];
    }
    if (open_groups > 0)
        detail::search_groups<T>(q, past, open_groups, whole.data(), best, scores, arena);
    for (Index g = begin[0] / group; g * group < end[count - 1]; ++g) {
        detail::product<T>(count, group, q.cols(), {q.row(0), q.stride(), 1}, past.summaries(g),
                           group, scores, group, false);
        for (Index i = 0; i < count; ++i) {
            const Index from = std::max(begin[static_cast<std::size_t>(i)], g * group),
                        to = std::min(end[i], (g + 1) * group);
            if (from < to) best[i].add(to - from, scores + i * group + from - g * group, from);
        }
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels
