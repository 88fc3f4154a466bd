// Attention inside the selected chunks, queries grouped by the chunk they read. Matches
// retrieval_attention_reference for the same selection: 1e-5 (float), 1e-13 (double) of the largest
// value.
//
// A query's chunks are added in ascending order, so its bits do not depend on the other queries.
#pragma once

#include "hydralm/kernels/retrieval/route.hpp"
#include "hydralm/simd/math.hpp"

namespace HYDRALM_NAMESPACE::kernels {
namespace detail {

// One read of a chunk by a query: which of its selected ones, or top_k for its own.
struct ChunkRead {
    std::int32_t chunk, query, slot;
};

// All reads of N queries, by chunk, then query. Returns how many: at most N·(top_k + 1).
template <Real T>
Index list_reads(Index N, std::int64_t position, Index chunk_size,
                 const RetrievalSelection<T>& selection, ChunkRead* reads) noexcept {
    const Index k = selection.top_k;
    Index count = 0;
    for (Index n = 0; n < N; ++n) {
        const auto query = static_cast<std::int32_t>(n);
        for (Index i = 0; i < k && selection.chunks[n * k + i] >= 0; ++i)
            reads[count++] = {selection.chunks[n * k + i], query, static_cast<std::int32_t>(i)};
        reads[count++] = {static_cast<std::int32_t>((position + n) / chunk_size), query,
                          static_cast<std::int32_t>(k)};
    }
    if (N > 1)
        std::sort(reads, reads + count, [](const ChunkRead& a, const ChunkRead& b) {
            return a.chunk != b.chunk ? a.chunk < b.chunk : a.query < b.query;
        });
    return count;
}

// f(reads, n, own) for runs of at most most reads of one chunk, in order; own: the chunk is the
// queries' current one. A query's own chunk comes before every later query's, so runs do not mix.
template <class F>
void for_runs(const ChunkRead* reads, Index count, Index top_k, Index most, const F& f) {
    for (Index first = 0; first < count;) {
        const bool own = reads[first].slot == top_k;
        Index n = 1;
        while (n < most && first + n < count && reads[first + n].chunk == reads[first].chunk &&
               (reads[first + n].slot == top_k) == own)
            ++n;
        f(reads + first, n, own);
        first += n;
    }
}

// row = softmax(row[0 … n)) · factor.
template <Real T>
void softmax_times(Index n, T* row, T factor) noexcept {
    const simd::Batch<T> largest(simd::maximum<T>(n, row));
    simd::map<T>(n, row, [&](auto x) { return simd::exp(x - largest); }, row);
    const simd::Batch<T> scale(factor / simd::sum<T>(n, [](auto x) { return x; }, row));
    simd::map<T>(n, row, [&](auto x) { return x * scale; }, row);
}

}  // namespace detail

template <Real T, Index D, Index C>
constexpr Index retrieval_attend_workspace_bytes(Index N, Index top_k) noexcept {
    using Head = RetrievalHead<T, D, C>;
    constexpr Index rows = detail::retrieval_rows;
    return arena_bytes<detail::ChunkRead>(N * (top_k + 1)) + arena_bytes<T>(rows * D) +
           arena_bytes<T>(rows * Head::key_stride) + arena_bytes<T>(rows * Head::value_stride);
}

// out [N, D] for the queries q [N, D] (q̂) at position, position + 1, …, all of whose keys are in
// the bank, their own included; selection as retrieval_route left it. Any strides; q and out must
// not overlap. No allocation, no errors. Cost: 4 D C FLOP a chunk read.
template <Index D, Index C, Real T>
void retrieval_attend(MatrixView<const std::type_identity_t<T>> q, std::int64_t position,
                      const RetrievalHead<T, D, C>& bank, const RetrievalSelection<T>& selection,
                      MatrixView<std::type_identity_t<T>> out, Arena& arena) noexcept {
    using Head = RetrievalHead<T, D, C>;
    constexpr Index rows = detail::retrieval_rows, K = Head::key_stride, V = Head::value_stride;
    const Arena::Scope scope(arena);
    const Index N = q.rows(), top_k = selection.top_k;
    auto* const reads = arena.take<detail::ChunkRead>(N * (top_k + 1));
    T* const queries = arena.take<T>(rows * D);
    T* const scores = arena.take<T>(rows * K);
    T* const sums = arena.take<T>(rows * V);
    for (Index n = 0; n < N; ++n) std::fill_n(out.row(n), D, T(0));
    const Index count = detail::list_reads(N, position, C, selection, reads);
    detail::for_runs(reads, count, top_k, rows, [&](const auto* read, Index n, bool own) {
        for (Index i = 0; i < n; ++i) std::copy_n(q.row(read[i].query), D, queries + i * D);
        detail::product<T>(n, K, D, {queries, D, 1}, bank.keys(read->chunk), K, scores, K, false);
        const T* const values = bank.values(read->chunk);
        for (Index i = 0; i < n; ++i) {
            const Index visible = own ? static_cast<Index>((position + read[i].query) % C) + 1 : C;
            detail::softmax_times<T>(visible, scores + i * K,
                                     selection.weights[read[i].query * (top_k + 1) + read[i].slot]);
            if (own)  // no later token's value is touched, not even by a zero
                detail::product<T>(1, V, visible, {scores + i * K, K, 1}, values, V, sums + i * V,
                                   V, false);
        }
        if (!own) detail::product<T>(n, V, C, {scores, K, 1}, values, V, sums, V, false);
        for (Index i = 0; i < n; ++i) {
            T* const row = out.row(read[i].query);
            simd::map<T>(D, row, [](auto a, auto b) { return a + b; }, row, sums + i * V);
        }
    });
}

}  // namespace HYDRALM_NAMESPACE::kernels
