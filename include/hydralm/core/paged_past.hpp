// The past of a stream in pages, as kernels see it: places of pages, how numbers are kept in them,
// and which of them a token reads. Whoever owns the pages makes the view (state/page_bank.hpp).
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE {

// How keys and values are kept: as they are, rounded to bfloat16, or to 8 bits with a scale for the
// key and the value of each token and head.
enum class BankFormat : std::uint8_t { exact, bf16, int8 };
constexpr std::string_view name(BankFormat format) noexcept {
    return format == BankFormat::exact ? "exact" : format == BankFormat::bf16 ? "bf16" : "int8";
}

// Pages first, first + 1, … of one size. Valid until the owner makes or forgets pages.
struct PageView {
    std::byte* const* places = nullptr;
    Index first = 0;

    std::byte* page(Index i) const noexcept { return places[i - first]; }
};

// In memory that does not grow, a token in chunk m reads chunks m − exact_chunks … m as they are,
// the pooled_chunks before them by what stays of each, and all before those as one.
struct PastBounds {
    Index exact_chunks = 0;   // 0: the whole past as it is
    Index pooled_chunks = 0;  // at least 1 beside exact_chunks

    constexpr bool bounded() const noexcept { return exact_chunks > 0; }
    // The first past chunk read as it is, and the first with a score of its own.
    constexpr Index first_exact(Index m) const noexcept {
        return bounded() ? std::max<Index>(0, m - exact_chunks) : 0;
    }
    constexpr Index first_scored(Index m) const noexcept {
        return std::max<Index>(0, first_exact(m) - pooled_chunks);
    }
};

// Where tokens choose chunks they may look for them in a tree: 64 chunks are a group, and 64 nodes
// of one height a node of the next. Of every height some are opened.
inline constexpr Index chunk_group = 64;       // chunks in a group, nodes in a node
inline constexpr Index most_open_groups = 16;  // that a token looks into
// Heights 0, a chunk, to 3: of 2^31 chunks, 8,192 nodes are of the last.
inline constexpr Index tree_heights = 4;
// Chunks that a node of this height stands for: 64^height.
constexpr Index node_chunks(Index height) noexcept {
    return height == 0 ? 1 : chunk_group * node_chunks(height - 1);
}
// Nodes of a height above 0 that a token looks into which looks into so many groups. Above groups
// the most, so that of 65,536 chunks all groups have a score: a sum of many says less of each.
constexpr Index open_nodes(Index height, Index open_groups) noexcept {
    return height == 1 ? open_groups : most_open_groups;
}
// f(height, n) for every node of a height above 0 whose last chunk is c, from below.
template <class F>
constexpr void for_nodes_ended_by(Index c, const F& f) noexcept {
    for (Index h = 1; h < tree_heights && (c + 1) % node_chunks(h) == 0; ++h)
        f(h, c / node_chunks(h));
}

// Of the whole past a token in chunk m reads chunks m − recent … m, its own up to itself, and of
// those before them the `chunks` that its query scores highest.
struct SparsePast {
    Index chunks = 0;  // 0: every chunk is read
    Index recent = 1;

    static constexpr Index most_chunks = 256, most_recent = 64;

    constexpr bool on() const noexcept { return chunks > 0; }
    // The first chunk that a token in chunk m reads whatever its score.
    constexpr Index first_recent(Index m) const noexcept { return std::max<Index>(0, m - recent); }
    // Chunks that a query reads at most.
    constexpr Index reads() const noexcept { return chunks + recent + 1; }
    bool operator==(const SparsePast&) const = default;
};

}  // namespace HYDRALM_NAMESPACE
