// Attention inside the selected chunks, queries grouped by the chunk they read. Matches
// retrieval_attention_reference for the same selection and an exact bank: 1e-5 (float), 1e-13
// (double) of the largest value.
//
// A query's chunks are added in ascending order, so its bits do not depend on the other queries.
#pragma once

#include "hydralm/kernels/retrieval/route.hpp"
#include "hydralm/kernels/softmax/forward.hpp"

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

// How a query reads a chunk: its own up to itself; a past one whole; in bounded memory the mean of
// an older one, or of all that are older still.
enum class ReadKind : std::uint8_t { own, whole, mean, far };

// f(reads, n, kind) for runs of at most most reads of one chunk and kind, in order. A query's own
// chunk comes before every later query's, and what is a mean for a query is none for those before,
// so runs do not mix.
template <class F>
void for_runs(const PastBounds& bounds, std::int64_t position, Index chunk_size,
              const ChunkRead* reads, Index count, Index top_k, Index most, const F& f) {
    const auto kind_of = [&](const ChunkRead& read) {
        if (read.slot == top_k) return ReadKind::own;
        const auto m = static_cast<Index>((position + read.query) / chunk_size);
        if (read.chunk >= bounds.first_exact(m)) return ReadKind::whole;
        return read.chunk >= bounds.first_scored(m) ? ReadKind::mean : ReadKind::far;
    };
    for (Index first = 0; first < count;) {
        const ReadKind kind = kind_of(reads[first]);
        Index n = 1;
        while (n < most && first + n < count && reads[first + n].chunk == reads[first].chunk &&
               kind_of(reads[first + n]) == kind)
            ++n;
        f(reads + first, n, kind);
        first += n;
    }
}

}  // namespace detail

template <Real T, Index D, Index C>
constexpr Index retrieval_attend_workspace_bytes(Index N, Index top_k) noexcept {
    using Head = RetrievalHead<T, D, C>;
    constexpr Index rows = detail::retrieval_rows;
    return arena_bytes<detail::ChunkRead>(N * (top_k + 1)) + arena_bytes<T>(rows * D) +
           arena_bytes<T>(rows * Head::key_stride) + arena_bytes<T>(rows * Head::value_stride) +
           arena_bytes<T>(Head::scratch_elements);
}

// out [N, D] for the queries q [N, D] (q̂) at position, position + 1, …, all of whose keys are in
// the bank, their own included; selection as retrieval_route left it. Any strides; q and out must
// not overlap. No allocation, no errors. Cost: 4 D C FLOP a chunk read whole, 2 D a mean.
template <Index D, Index C, Real T, bool Open>
void retrieval_attend(MatrixView<const std::type_identity_t<T>> q, std::int64_t position,
                      const RetrievalHead<T, D, C, Open>& head,
                      const RetrievalSelection<T>& selection,
                      MatrixView<std::type_identity_t<T>> out, Arena& arena) noexcept {
    using Head = RetrievalHead<T, D, C>;
    using detail::ReadKind;
    constexpr Index rows = detail::retrieval_rows, K = Head::key_stride, V = Head::value_stride;
    const Arena::Scope scope(arena);
    const Index N = q.rows(), top_k = selection.top_k, chunk_tokens = head.chunk_tokens();
    auto* const reads = arena.take<detail::ChunkRead>(N * (top_k + 1));
    T* const queries = arena.take<T>(rows * D);
    T* const scores = arena.take<T>(rows * K);
    T* const sums = arena.take<T>(rows * V);
    T* const decoded = arena.take<T>(Head::scratch_elements);
    const auto weight = [&](const detail::ChunkRead& read) {
        return selection.weights[read.query * (top_k + 1) + read.slot];
    };
    // Chunks from here on have pages.
    const Index oldest =
        head.past().bounds.first_exact(static_cast<Index>((position + N - 1) / chunk_tokens));
    for (Index n = 0; n < N; ++n) std::fill_n(out.row(n), D, T(0));
    const Index count = detail::list_reads(N, position, chunk_tokens, selection, reads);
    detail::for_runs(
        head.past().bounds, position, chunk_tokens, reads, count, top_k, rows,
        [&](const detail::ChunkRead* read, Index n, ReadKind kind) {
            if (kind == ReadKind::mean || kind == ReadKind::far) {  // a softmax over one pair is 1
                const T* const value = kind == ReadKind::mean ? head.mean_value(read->chunk)
                                                              : head.far_value(read->chunk);
                for (Index i = 0; i < n; ++i) {
                    T* const row = out.row(read[i].query);
                    hydralm::out<D>(row) = fma(weight(read[i]), in(value), in(row));
                }
                return;
            }
            if (read + n < reads + count && read[n].chunk >= oldest) head.fetch(read[n].chunk);
            const auto chunk = head.read(read->chunk, decoded);
            for (Index i = 0; i < n; ++i) std::copy_n(q.row(read[i].query), D, queries + i * D);
            detail::product<T>(n, K, D, {queries, D, 1}, chunk.keys, K, scores, K, false);
            for (Index i = 0; i < n; ++i) {
                const Index visible =
                    kind == ReadKind::own
                        ? static_cast<Index>((position + read[i].query) % chunk_tokens) + 1
                        : chunk_tokens;
                detail::scaled_softmax_row<T>(visible, scores + i * K, weight(read[i]),
                                              scores + i * K);
                if (kind == ReadKind::own)  // no later token's value is touched, not even by a zero
                    detail::product<T>(1, V, visible, {scores + i * K, K, 1}, chunk.values, V,
                                       sums + i * V, V, false);
            }
            if (kind == ReadKind::whole)
                detail::product<T>(n, V, chunk_tokens, {scores, K, 1}, chunk.values, V, sums, V,
                                   false);
            for (Index i = 0; i < n; ++i) {
                T* const row = out.row(read[i].query);
                hydralm::out<D>(row) += in(sums + i * V);
            }
        });
}

}  // namespace HYDRALM_NAMESPACE::kernels
