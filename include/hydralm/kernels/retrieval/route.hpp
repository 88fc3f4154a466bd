// Routing: which past chunks a query reads, and with what weight. With every group open it matches
// the selection of retrieval_attention_reference wherever rounding leaves it.
//
// Scores exist for 32 queries and 64 chunks at a time; a query keeps its best in order. In two
// levels, the sums of 64 summaries choose the groups whose chunks are scored. A query's result does
// not depend on how many are routed together.
#pragma once

#include <algorithm>
#include <cmath>

#include "hydralm/core/arena.hpp"
#include "hydralm/core/matrix_view.hpp"
#include "hydralm/kernels/retrieval/head.hpp"
#include "hydralm/kernels/small_product.hpp"
#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// What N queries of one head selected: row n of each array.
template <Real T>
struct RetrievalSelection {
    Index top_k = 0;
    std::int32_t* chunks = nullptr;  // [N, top_k], ascending, −1 behind
    T* scores = nullptr;             // [N, top_k], r of each
    T* weights = nullptr;            // [N, top_k + 1], p of each; last that of the current chunk

    static constexpr Index bytes(Index N, Index top_k) noexcept {
        return arena_bytes<std::int32_t>(N * top_k) + arena_bytes<T>(N * top_k) +
               arena_bytes<T>(N * (top_k + 1));
    }
    static RetrievalSelection take(Arena& arena, Index N, Index top_k) noexcept {
        return {top_k, arena.take<std::int32_t>(N * top_k), arena.take<T>(N * top_k),
                arena.take<T>(N * (top_k + 1))};
    }
};

namespace detail {

inline constexpr Index retrieval_rows = 32;  // queries that share a product

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

// weights = softmax(λ r_i, i < count; ℓ), the last at [top_k], zeros between. By hand: they
// are few, fewer than a batch or two.
template <Real T>
void chunk_weights(Index count, Index top_k, const T* scores, T lambda, T local,
                   T* weights) noexcept {
    T largest = local;
    for (Index i = 0; i < count; ++i) largest = std::max(largest, lambda * scores[i]);
    T total = weights[top_k] = std::exp(local - largest);
    for (Index i = 0; i < count; ++i) total += weights[i] = std::exp(lambda * scores[i] - largest);
    std::fill(weights + count, weights + top_k, T(0));
    for (Index i = 0; i < count; ++i) weights[i] /= total;
    weights[top_k] /= total;
}

// Scratch that two-level routing takes: the groups that a query opens, and all of them by group.
template <Real T>
struct OpenGroups {
    static constexpr Index most = retrieval_rows * RetrievalPast::most_open_groups;
    struct Read {
        std::int32_t group, query;
    };
    T* scores;             // [rows, open]
    std::int32_t* groups;  // [rows, open]
    Read* reads;           // [rows · open]
    T* queries;            // [rows, D]

    static constexpr Index bytes(Index D) noexcept {
        return arena_bytes<T>(most) + arena_bytes<std::int32_t>(most) + arena_bytes<Read>(most) +
               arena_bytes<T>(retrieval_rows * D);
    }
    OpenGroups(Arena& arena, Index D) noexcept
        : scores(arena.take<T>(most)),
          groups(arena.take<std::int32_t>(most)),
          reads(arena.take<Read>(most)),
          queries(arena.take<T>(retrieval_rows * D)) {}
};

// Adds to best[i] the chunks of the best open_groups groups among the first whole[i] ≤ whole[i +
// 1], for the rows of q. scores: scratch [rows, group].
template <Index D, Index C, Real T, bool Open>
void route_by_groups(MatrixView<const T> q, const RetrievalHead<T, D, C, Open>& head,
                     const Index* whole, BestChunks<T>* best, T* scores, Arena& arena) noexcept {
    constexpr Index group = RetrievalPast::group;
    const Arena::Scope scope(arena);
    const Index count = q.rows(), open = head.past().open_groups;
    const OpenGroups<T> scratch(arena, D);
    std::array<BestChunks<T>, retrieval_rows> opened;
    for (Index i = 0; i < count; ++i)
        opened[static_cast<std::size_t>(i)] = {open, scratch.scores + i * open,
                                               scratch.groups + i * open};
    for (Index g = 0; g < whole[count - 1]; g += group) {
        product<T>(count, group, D, {q.row(0), q.stride(), 1}, head.sums(g / group), group, scores,
                   group, false);
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
        if (read != end) head.fetch_summaries(read->group);
        product<T>(read - first, group, D, {scratch.queries, D, 1}, head.summaries(first->group),
                   group, scores, group, false);
        for (const auto* r = first; r != read; ++r)
            best[r->query].add(group, scores + (r - first) * group, first->group * group);
    }
}

}  // namespace detail

template <Real T, Index D>
constexpr Index retrieval_route_workspace_bytes() noexcept {
    return arena_bytes<T>(detail::retrieval_rows * RetrievalPast::group) +
           detail::OpenGroups<T>::bytes(D);
}

// Selects for the queries q [N, D] (q̂, any stride) at positions position, position + 1, …, whose
// chunks before their own are all in the past. lambda: λ > 0; local: ℓ. Writes the selection; in a
// bounded past the last chunk without a score of its own stands for all before it. No allocation,
// no errors. Cost: 2 D FLOP a query and chunk; with open groups 2 D a group and 128 D an open
// group.
template <Index D, Index C, Real T, bool Open>
void retrieval_route(MatrixView<const std::type_identity_t<T>> q, std::int64_t position,
                     const RetrievalHead<T, D, C, Open>& head, std::type_identity_t<T> lambda,
                     std::type_identity_t<T> local, const RetrievalSelection<T>& selection,
                     Arena& arena) noexcept {
    constexpr Index rows = detail::retrieval_rows, group = RetrievalPast::group;
    const Arena::Scope scope(arena);
    const Index N = q.rows(), top_k = selection.top_k;
    const PastBounds bounds = head.past().bounds;
    const bool by_groups = head.past().open_groups > 0;
    T* const scores = arena.take<T>(rows * group);
    std::array<detail::BestChunks<T>, rows> best;
    std::array<Index, rows> past, first_scored, whole;  // chunks, chunks, groups
    for (Index first = 0; first < N; first += rows) {
        const Index count = std::min(rows, N - first);
        for (Index i = 0; i < count; ++i) {
            const auto at = static_cast<std::size_t>(i);
            const Index n = first + i, m = static_cast<Index>((position + n) / head.chunk_tokens());
            best[at] = {top_k, selection.scores + n * top_k, selection.chunks + n * top_k};
            past[at] = m;
            whole[at] = m / group;
            first_scored[at] = by_groups ? whole[at] * group : bounds.first_scored(m);
            if (const Index far = bounds.first_scored(m) - 1; far >= 0) {
                best[at].add(dot(view<D>(q.row(n)), in(head.far_summary(far))), far);
            }
        }
        if (by_groups)
            detail::route_by_groups<D, C, T>(q.middle_rows(first, count), head, whole.data(),
                                             best.data(), scores, arena);
        for (Index g = first_scored[0] / group;
             g * group < past[static_cast<std::size_t>(count - 1)]; ++g) {
            detail::product<T>(count, group, D, {q.row(first), q.stride(), 1}, head.summaries(g),
                               group, scores, group, false);
            for (Index i = 0; i < count; ++i) {
                const auto at = static_cast<std::size_t>(i);
                const Index from = std::max(first_scored[at], g * group),
                            end = std::min(past[at], (g + 1) * group);
                if (from < end)
                    best[at].add(end - from, scores + i * group + from - g * group, from);
            }
        }
        for (Index i = 0; i < count; ++i) {
            auto& kept = best[static_cast<std::size_t>(i)];
            kept.sort_by_chunk();
            detail::chunk_weights<T>(kept.count, top_k, kept.scores, lambda, local,
                                     selection.weights + (first + i) * (top_k + 1));
        }
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels
