// Attention of any number of queries of one group to some chunks of the past: the last ones, and
// those that a query scores highest by the bounds of their keys.
//
// Matches sparse_attention_reference as full_attention does its own, wherever rounding leaves the
// order of the scores. A query adds its chunks in the order of their positions, as full_attention
// does: its bits depend on itself and the tokens before it alone, and are those of full_attention
// where every chunk is read.
#pragma once

#include "hydralm/kernels/full_attention/forward.hpp"
#include "hydralm/kernels/full_attention/key_bounds.hpp"

namespace HYDRALM_NAMESPACE::kernels {
namespace detail {

// A chunk that a query of a tile reads.
struct SparseRead {
    std::int32_t chunk, query;
};

// Scratch of a tile of `rows` queries.
template <Real T>
struct SparseReads {
    T* scores;             // [rows, k]
    std::int32_t* chunks;  // [rows, k]
    SparseRead* reads;     // [rows · (k + recent + 1)]

    static constexpr Index bytes(Index rows, const SparsePast& sparse) noexcept {
        return arena_bytes<T>(rows * sparse.chunks) +
               arena_bytes<std::int32_t>(rows * sparse.chunks) +
               arena_bytes<SparseRead>(rows * sparse.reads());
    }
    SparseReads(Arena& arena, Index rows, const SparsePast& sparse) noexcept
        : scores(arena.take<T>(rows * sparse.chunks)),
          chunks(arena.take<std::int32_t>(rows * sparse.chunks)),
          reads(arena.take<SparseRead>(rows * sparse.reads())) {}
};

// All reads of the queries of a tile, by chunk, then query; returns their end.
template <Index D, Index C, Real T>
SparseRead* list_sparse_reads(const FullAttentionTile& tile,
                              MatrixView<const std::type_identity_t<T>> q,
                              const KeyBounds<T, D, C>& bounds, const SparseReads<T>& scratch,
                              Arena& arena) noexcept {
    const Arena::Scope scope(arena);
    const Index width = bounds.page.head_dim(), k = bounds.sparse.chunks;
    const MatrixView<T> u(arena.take<T>(tile.count * bounds.width()), tile.count, bounds.width());
    std::array<BestChunks<T>, full_rows> best;
    std::array<Index, full_rows> first{}, end;
    for (Index i = 0; i < tile.count; ++i) {
        const auto at = static_cast<std::size_t>(i);
        bounds.split(q.row(tile.token(i)) + tile.head(i) * width, u.row(i));
        best[at] = {k, scratch.scores + i * k, scratch.chunks + i * k};
        end[at] = bounds.sparse.first_recent(tile.chunk(i, C));
    }
    search_chunks<T>(u, bounds, bounds.open_groups, first.data(), end.data(), best.data(), arena);
    SparseRead* last = scratch.reads;
    for (Index i = 0; i < tile.count; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const auto add = [&](Index c) {
            *last++ = {static_cast<std::int32_t>(c), static_cast<std::int32_t>(i)};
        };
        for (Index j = 0; j < best[at].count; ++j) add(best[at].chunks[j]);
        for (Index c = end[at]; c <= tile.chunk(i, C); ++c) add(c);
    }
    std::sort(scratch.reads, last, [](const SparseRead& a, const SparseRead& b) {
        return a.chunk != b.chunk ? a.chunk < b.chunk : a.query < b.query;
    });
    return last;
}

}  // namespace detail

// Bytes of arena that sparse_attention takes for N tokens of so many heads, any past, and at most
// what SparsePast allows.
template <Real T, Index D, Index C>
constexpr Index sparse_attention_workspace_bytes(
    Index N, Index heads, const KeyValuePage<T, D, C>& page = KeyValuePage<T, D, C>()) noexcept {
    constexpr Index rows = detail::full_rows;
    const Index count = std::min(rows, N * heads), V = page.value_stride();
    const Index search = arena_bytes<T>(count * 2 * page.head_dim()) +
                         chunk_search_workspace_bytes<T>(count, 2 * page.head_dim()),
                attend = 4 * arena_bytes<T>(count * V) + arena_bytes<T>(count * page.key_stride) +
                         arena_bytes<T>(page.scratch_elements());
    return detail::SparseReads<T>::bytes(
               count, {.chunks = SparsePast::most_chunks, .recent = SparsePast::most_recent}) +
           std::max(search, attend);
}

// o_nh = Σ_j softmax_j(q_nh·k_j/√D) v_j over the tokens j ≤ position + n of the chunks that the
// query reads: its own, m, and bounds.sparse.recent before it, and of the chunks c before those
// bounds.sparse.chunks with the largest u·s_c (key_bounds.hpp), ties to the earlier; all where
// there are no more; with open groups chosen in two levels (chunk_search/search.hpp), from those of
// the groups that are open alone.
//   q, position, past, out  as full_attention has them
//   bounds                  s_c of every chunk that is whole
// Any strides. A part of the queries on its own (another thread) has the same bits. No allocation,
// no errors. Cost: 4·D FLOP and one exponential a pair that is read, at most C·(chunks + recent +
// 1) a query, however long the past; and 4·D to score a chunk.
template <Index D, Index C, Real T>
void sparse_attention(MatrixView<const std::type_identity_t<T>> q, std::int64_t position,
                      const FullAttentionPast<T, D, C>& past, const KeyBounds<T, D, C>& bounds,
                      MatrixView<std::type_identity_t<T>> out, Arena& arena) noexcept {
    constexpr Index rows = detail::full_rows, K = KeyValuePage<T, D, C>::key_stride;
    const Index width = past.page.head_dim(), V = past.page.value_stride();
    const Index heads = q.cols() / width, all_rows = q.rows() * heads,
                most = std::min(rows, all_rows);
    const Arena::Scope scope(arena);
    const detail::SparseReads<T> reads(arena, most, bounds.sparse);
    detail::StreamingSoftmax<T> softmax;
    for (Index first = 0; first < all_rows; first += rows) {
        const detail::FullAttentionTile tile{first, std::min(rows, all_rows - first), heads,
                                             position, detail::whole_past};
        const auto* const end = detail::list_sparse_reads<D, C, T>(tile, q, bounds, reads, arena);
        const Arena::Scope of_tile(arena);
        T* const queries = arena.take<T>(most * V);   // times log₂e/√D
        T* const outputs = arena.take<T>(most * V);   // before division by the sum
        T* const together = arena.take<T>(most * V);  // queries that read a chunk
        T* const products = arena.take<T>(most * V);
        T* const weights = arena.take<T>(most * K);
        T* const decoded = arena.take<T>(past.page.scratch_elements());
        detail::pack_queries<T>(tile, q, width, softmax.scale(width), queries, V);
        std::fill_n(outputs, tile.count * V, T(0));
        softmax.clear();
        for (const auto* read = reads.reads; read != end;) {
            const auto* const begin = read;
            const Index c = begin->chunk;
            const std::int64_t t = std::int64_t{c} * C;
            for (; read != end && read->chunk == c; ++read)
                std::copy_n(queries + read->query * V, V, together + (read - begin) * V);
            const auto page = past.read(c, decoded);
            const Index n = read - begin;
            detail::product<T>(n, K, width, {together, V, 1}, page.keys, K, weights, K, false);
            Index part = 0;  // reads of what is not whole yet come first
            for (Index i = 0; i < n; ++i) {
                const Index seen = tile.visible(begin[i].query, t, C);
                softmax.weigh(begin[i].query, seen, weights + i * K);
                if (seen == C) continue;
                part = i + 1;
                detail::product<T>(1, V, seen, {weights + i * K, K, 1}, page.values, V,
                                   products + i * V, V, false);
            }
            detail::product<T>(n - part, V, C, {weights + part * K, K, 1}, page.values, V,
                               products + part * V, V, false);
            for (Index i = 0; i < n; ++i)
                softmax.add(begin[i].query, V, products + i * V, outputs + begin[i].query * V);
        }
        for (Index i = 0; i < tile.count; ++i)
            softmax.divide(i, width, outputs + i * V,
                           out.row(tile.token(i)) + tile.head(i) * width);
    }
}

}  // namespace HYDRALM_NAMESPACE::kernels
