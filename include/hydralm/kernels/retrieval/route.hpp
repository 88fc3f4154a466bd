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

inline constexpr Index retrieval_rows = search_rows;  // queries that share a product

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

}  // namespace detail

template <Real T, Index D>
constexpr Index retrieval_route_workspace_bytes() noexcept {
    return chunk_search_workspace_bytes<T>(detail::search_rows, D);
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
    constexpr Index rows = detail::retrieval_rows;
    const Index N = q.rows(), top_k = selection.top_k;
    const PastBounds bounds = head.past().bounds;
    std::array<detail::BestChunks<T>, rows> best;
    std::array<Index, rows> past, first_scored;  // chunks
    for (Index first = 0; first < N; first += rows) {
        const Index count = std::min(rows, N - first);
        for (Index i = 0; i < count; ++i) {
            const auto at = static_cast<std::size_t>(i);
            const Index n = first + i, m = static_cast<Index>((position + n) / head.chunk_tokens());
            best[at] = {top_k, selection.scores + n * top_k, selection.chunks + n * top_k};
            past[at] = m;
            first_scored[at] = bounds.first_scored(m);
            if (const Index far = bounds.first_scored(m) - 1; far >= 0) {
                best[at].add(dot(view<D>(q.row(n)), in(head.far_summary(far))), far);
            }
        }
        search_chunks<T>(q.middle_rows(first, count), head, head.past().open_groups,
                         first_scored.data(), past.data(), best.data(), arena);
        for (Index i = 0; i < count; ++i) {
            auto& kept = best[static_cast<std::size_t>(i)];
            kept.sort_by_chunk();
            detail::chunk_weights<T>(kept.count, top_k, kept.scores, lambda, local,
                                     selection.weights + (first + i) * (top_k + 1));
        }
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels
