// KeyBounds: between what the keys of a chunk lie, element by element, and what a query makes of
// it: a number that none of its scores exceeds.
//
//   u = [max(q, 0); max(−q, 0)],  s_c = [max_j k_j; max_j −k_j] over the tokens j of chunk c:
//   u·s_c = Σ_d max_j q_d k_jd ≥ q·k_j for every j
//
// The same maxima over 64 chunks bound the scores of a group, and so on. Source: Tang et al., arXiv
// 2406.10774.
#pragma once

#include <array>

#include "hydralm/kernels/chunk_search/search.hpp"
#include "hydralm/kernels/chunk_search/tree.hpp"
#include "hydralm/kernels/full_attention/past.hpp"
#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// Of the keys of one group of heads, as their pages keep them; and how a token reads by them.
template <Real T, Index D, Index C>
struct KeyBounds {
    using Page = KeyValuePage<T, D, C>;

    // s_c of 64 chunks, a part for every group of heads, in order; the same of 64 groups, and of 64
    // nodes of every height but the last.
    std::array<PageView, tree_heights> pages{};
    Index group = 0;
    SparsePast sparse{};
    Index open_groups = 0;  // that a query looks into; 0: all of them
    Page page{};

    constexpr Index width() const noexcept { return 2 * page.head_dim(); }  // of u and s_c
    // That a group of heads takes of a page.
    static constexpr Index bytes(const Page& page) noexcept {
        return 2 * page.head_dim() * chunk_group * static_cast<Index>(sizeof(T));
    }

    T* summaries(Index height, Index i) const noexcept {  // [2D, 64]
        std::byte* const of_all = pages[static_cast<std::size_t>(height)].page(i);
        return reinterpret_cast<T*>(of_all + group * bytes(page));
    }
    void fetch_summaries(Index height, Index i) const noexcept {
        const auto* const from = reinterpret_cast<const std::byte*>(summaries(height, i));
        for (Index b = 0; b < bytes(page); b += static_cast<Index>(alignment))
            __builtin_prefetch(from + b, 0, 2);
    }

    // u [2D] of a query.
    void split(const T* q, T* u) const noexcept {
        const Index width = page.head_dim();
        for (Index d = 0; d < width; ++d) {
            u[d] = std::max(q[d], T(0));
            u[width + d] = std::max(-q[d], T(0));
        }
    }

    // Writes s_c of a chunk whose keys are all there, and that of every node that it ends. scratch:
    // page.scratch_elements().
    void summarise(const FullAttentionPast<T, D, C>& past, Index c, T* scratch) const noexcept {
        const Index width = page.head_dim();
        const T* const keys = page.read_keys(past.part(c), past.format, scratch);
        T* const s = summaries(0, c / chunk_group) + c % chunk_group;
        for (Index d = 0; d < width; ++d) {
            const T* const row = keys + d * page.key_stride;
            s[d * chunk_group] = max(view(row, C));
            s[(width + d) * chunk_group] = max(-view(row, C));
        }
        for_nodes_ended_by(c, [&](Index height, Index n) {
            bound_nodes<T>(this->width(), summaries(height - 1, n),
                           summaries(height, n / chunk_group) + n % chunk_group);
        });
    }
};

}  // namespace HYDRALM_NAMESPACE::kernels
