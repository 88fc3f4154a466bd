// The chunks of the past that a query scores highest, by vectors that stand for them: r_c = q·s_c.
//
// Scores exist for 32 queries and 64 chunks at a time; a query keeps its best in order. In a tree,
// vectors that stand for 64 chunks choose the groups whose chunks are scored, and such that stand
// for 64 groups the groups that are; as many heights as the past is long. A query's result does not
// depend on how many are searched together. Matches chunk_search/reference.hpp wherever rounding
// leaves the order of the scores.
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

// The best so far of one query, best first: chunks, or nodes of one height.
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

// Scratch that a search of one height takes for so many rows: the nodes above that a query opens,
// and all of them by node.
template <Real T>
struct OpenNodes {
    struct Read {
        std::int32_t node, query;
    };
    T* scores;            // [rows, open]
    std::int32_t* nodes;  // [rows, open]
    Read* reads;          // [rows · open]
    T* queries;           // [rows, width]

    static constexpr Index bytes(Index rows, Index width) noexcept {
        const Index most = rows * most_open_groups;
        return arena_bytes<T>(most) + arena_bytes<std::int32_t>(most) + arena_bytes<Read>(most) +
               arena_bytes<T>(rows * width);
    }
    OpenNodes(Arena& arena, Index rows, Index width) noexcept
        : scores(arena.take<T>(rows * most_open_groups)),
          nodes(arena.take<std::int32_t>(rows * most_open_groups)),
          reads(arena.take<Read>(rows * most_open_groups)),
          queries(arena.take<T>(rows * width)) {}
};

// What queries that share products look for, and in what.
template <Real T, class Tree>
struct ChunkSearch {
    MatrixView<const T> q;  // at most search_rows
    const Tree& tree;
    Index open_groups;  // that a query looks into; 0: all
    T* scores;          // scratch [rows, chunk_group]
    Arena& arena;

    using Best = BestChunks<T>;
    using Ends = std::array<Index, search_rows>;

    // Adds to best[i] the nodes of this height from first[i] on, which is 0 where nodes are opened,
    // and before end[i].
    void add_nodes(Index height, const Index* first, const Index* end, Best* best) const noexcept {
        const Index count = q.rows();
        Ends begin, above;
        for (Index i = 0; i < count; ++i) above[at(i)] = end[i] / chunk_group;
        // With no more nodes above than are opened all that is in them has a score.
        const bool climb = open_groups > 0 && height + 1 < tree_heights &&
                           above[at(count - 1)] > open_nodes(height + 1, open_groups);
        for (Index i = 0; i < count; ++i)
            begin[at(i)] = climb ? above[at(i)] * chunk_group : first[i];
        if (climb) add_opened(height, above, best);
        for (Index g = begin[0] / chunk_group; g * chunk_group < end[count - 1]; ++g) {
            score({q.row(0), q.stride(), 1}, count, height, g);
            for (Index i = 0; i < count; ++i) {
                const Index from = std::max(begin[at(i)], g * chunk_group),
                            to = std::min(end[i], (g + 1) * chunk_group);
                if (from < to)
                    best[i].add(to - from, scores + i * chunk_group + from - g * chunk_group, from);
            }
        }
    }

private:
    static constexpr std::size_t at(Index i) noexcept { return static_cast<std::size_t>(i); }

    // scores of so many rows with the nodes of this height in node g of the next.
    void score(Broadcast<T> rows, Index count, Index height, Index g) const noexcept {
        product<T>(count, chunk_group, q.cols(), rows, tree.summaries(height, g), chunk_group,
                   scores, chunk_group, false);
    }
    // Adds to best[i] the nodes of this height in the best of those above that are before end[i].
    void add_opened(Index height, const Ends& end, Best* best) const noexcept {
        const Arena::Scope scope(arena);
        const Index count = q.rows(), D = q.cols(), open = open_nodes(height + 1, open_groups);
        const OpenNodes<T> scratch(arena, count, D);
        std::array<Best, search_rows> opened;
        for (Index i = 0; i < count; ++i)
            opened[at(i)] = {open, scratch.scores + i * open, scratch.nodes + i * open};
        add_nodes(height + 1, Ends{}.data(), end.data(), opened.data());
        auto* last = scratch.reads;
        for (Index i = 0; i < count; ++i)
            for (Index j = 0; j < opened[at(i)].count; ++j)
                *last++ = {scratch.nodes[i * open + j], static_cast<std::int32_t>(i)};
        std::sort(scratch.reads, last, [](const auto& a, const auto& b) {
            return a.node != b.node ? a.node < b.node : a.query < b.query;
        });
        for (auto* read = scratch.reads; read != last;) {
            const auto* const first = read;
            for (; read != last && read->node == first->node; ++read)
                std::copy_n(q.row(read->query), D, scratch.queries + (read - first) * D);
            if (read != last) tree.fetch_summaries(height, read->node);
            score({scratch.queries, D, 1}, read - first, height, first->node);
            for (const auto* r = first; r != read; ++r)
                best[r->query].add(chunk_group, scores + (r - first) * chunk_group,
                                   first->node * chunk_group);
        }
    }
};

}  // namespace detail

// Bytes of arena that search_chunks takes for so many queries.
template <Real T>
constexpr Index chunk_search_workspace_bytes(Index rows, Index width) noexcept {
    return arena_bytes<T>(rows * chunk_group) +
           (tree_heights - 1) * detail::OpenNodes<T>::bytes(rows, width);
}

// Adds to best[i] the chunks first[i] ≤ c < end[i] by their scores, for the rows of q [n, width], n
// ≤ 32; first and end ascend. With open groups first is 0, and a chunk has a score when it is
// behind the last whole group, or in one of the best groups; a group, when it is behind the last
// whole node of 64 groups, or in one of the best 16 of those; and so on, up to the last height, of
// which all have a score. What it searches has
//   summaries(height, i)        [width, 64]: column n mod 64 is s of node n of this height, of
//   those
//                               in node i = n/64 of the next; height 0: of chunks
//   fetch_summaries(height, i)  begins to bring them into the cache
// Any stride. No allocation, no errors. Cost: 2·width FLOP a query and chunk; with open groups
// 128·width for each open node, of which a height has no more than there are, and for what is
// behind them.
template <Real T, class Tree>
void search_chunks(MatrixView<const T> q, const Tree& tree, Index open_groups, const Index* first,
                   const Index* end, detail::BestChunks<T>* best, Arena& arena) noexcept {
    const Arena::Scope scope(arena);
    T* const scores = arena.take<T>(q.rows() * chunk_group);
    detail::ChunkSearch<T, Tree>{q, tree, open_groups, scores, arena}.add_nodes(0, first, end,
                                                                                best);
}

}  // namespace HYDRALM_NAMESPACE::kernels
