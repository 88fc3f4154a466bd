// Routing: which past chunks a query reads, and with what weight. Matches the selection of
// retrieval_attention_reference wherever rounding leaves it.
//
// Scores exist for 32 queries and 64 chunks at a time; a query keeps its best in order. A query's
// result does not depend on how many are routed together.
#pragma once

#include <algorithm>
#include <cmath>

#include "hydralm/core/arena.hpp"
#include "hydralm/core/matrix_view.hpp"
#include "hydralm/kernels/retrieval/bank.hpp"
#include "hydralm/kernels/small_product.hpp"
#include "hydralm/simd/map.hpp"

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

// The best so far of one query, best first.
template <Real T>
struct BestChunks {
    Index top_k;
    T* scores;
    std::int32_t* chunks;
    Index count;

    static bool better(T a, T b) noexcept { return a > b || (std::isnan(b) && !std::isnan(a)); }

    // Chunks first, first + 1, … with these scores, later than all before.
    void add(Index n, const T* score, Index first) noexcept {
        if (count == top_k && !std::isnan(scores[top_k - 1]) &&
            !(simd::maximum<T>(n, score) > scores[top_k - 1]))
            return;
        for (Index c = 0; c < n; ++c) {
            if (count == top_k && !better(score[c], scores[top_k - 1])) continue;
            Index i = count < top_k ? count++ : top_k - 1;
            for (; i > 0 && better(score[c], scores[i - 1]); --i) {
                scores[i] = scores[i - 1];
                chunks[i] = chunks[i - 1];
            }
            scores[i] = score[c];
            chunks[i] = static_cast<std::int32_t>(first + c);
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

// weights = softmax(λ r_i, i < count; ℓ), the last at [top_k], zeros between.
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

template <Real T>
constexpr Index retrieval_route_workspace_bytes() noexcept {
    return arena_bytes<T>(detail::retrieval_rows * RetrievalBank::group);
}

// Selects for the queries q [N, D] (q̂, any stride) at positions position, position + 1, …, whose
// chunks before their own are all in the bank. lambda: λ > 0; local: ℓ. Writes the selection. No
// allocation, no errors. Cost: 2 D FLOP a query and chunk.
template <Index D, Index C, Real T>
void retrieval_route(MatrixView<const std::type_identity_t<T>> q, std::int64_t position,
                     const RetrievalHead<T, D, C>& bank, std::type_identity_t<T> lambda,
                     std::type_identity_t<T> local, const RetrievalSelection<T>& selection,
                     Arena& arena) noexcept {
    constexpr Index rows = detail::retrieval_rows, group = RetrievalBank::group;
    const Arena::Scope scope(arena);
    const Index N = q.rows(), top_k = selection.top_k;
    T* const scores = arena.take<T>(rows * group);
    const auto past = [&](Index n) { return static_cast<Index>((position + n) / C); };
    const auto best = [&](Index n, Index seen) {
        return detail::BestChunks<T>{top_k, selection.scores + n * top_k,
                                     selection.chunks + n * top_k, std::min(seen, top_k)};
    };
    for (Index first = 0; first < N; first += rows) {
        const Index count = std::min(rows, N - first);
        for (Index c = 0; c < past(first + count - 1); c += group) {
            detail::product<T>(count, group, D, {q.row(first), q.stride(), 1},
                               bank.summaries(c / group), group, scores, group, false);
            for (Index i = 0; i < count; ++i) {
                const Index n = first + i, seen = std::min(group, past(n) - c);
                if (seen > 0) best(n, c).add(seen, scores + i * group, c);
            }
        }
        for (Index n = first; n < first + count; ++n) {
            auto kept = best(n, past(n));
            kept.sort_by_chunk();
            detail::chunk_weights<T>(kept.count, top_k, kept.scores, lambda, local,
                                     selection.weights + n * (top_k + 1));
        }
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels
