// KeyBounds: between what the keys of a chunk lie, element by element, and what a query makes of
// it: a number that none of its scores exceeds.
//
//   u = [max(q, 0); max(−q, 0)],  s_c = [max_j k_j; max_j −k_j] over the tokens j of chunk c:
//   u·s_c = Σ_d max_j q_d k_jd ≥ q·k_j for every j
//
// The same maxima over 64 chunks bound the scores of a group. Source: Tang et al., arXiv
// 2406.10774.
#pragma once

#include "hydralm/kernels/chunk_search/search.hpp"
#include "hydralm/kernels/full_attention/past.hpp"
#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE::kernels {

// Of the keys of one group of heads, as their pages keep them; and how a token reads by them.
template <Real T, Index D, Index C>
struct KeyBounds {
    using Page = KeyValuePage<T, D, C>;

    PageView groups{};  // s_c of 64 chunks, a part for every group of heads, in order
    PageView levels{};  // the same of 64 groups
    Index group = 0;
    SparsePast sparse{};
    Index open_groups = 0;  // that a query looks into; 0: all of them
    Page page{};

    constexpr Index width() const noexcept { return 2 * page.head_dim(); }  // of u and s_c
    // That a group of heads takes of a page.
    static constexpr Index bytes(const Page& page) noexcept {
        return 2 * page.head_dim() * chunk_group * static_cast<Index>(sizeof(T));
    }

    T* summaries(Index g) const noexcept { return part(groups.page(g)); }  // [2D, 64]
    T* group_summaries(Index level) const noexcept { return part(levels.page(level)); }
    void fetch_summaries(Index g) const noexcept {
        const auto* const from = reinterpret_cast<const std::byte*>(summaries(g));
        for (Index i = 0; i < bytes(page); i += static_cast<Index>(alignment))
            __builtin_prefetch(from + i, 0, 2);
    }

    // u [2D] of a query.
    void split(const T* q, T* u) const noexcept {
        const Index width = page.head_dim();
        for (Index d = 0; d < width; ++d) {
            u[d] = std::max(q[d], T(0));
            u[width + d] = std::max(-q[d], T(0));
        }
    }

    // Writes s_c of a chunk whose keys are all there, and that of its group where it ends one.
    // scratch: page.scratch_elements().
    void summarise(const FullAttentionPast<T, D, C>& past, Index c, T* scratch) const noexcept {
        const Index width = page.head_dim();
        const T* const keys = page.read_keys(past.part(c), past.format, scratch);
        T* const s = summaries(c / chunk_group) + c % chunk_group;
        for (Index d = 0; d < width; ++d) {
            const T* const row = keys + d * page.key_stride;
            s[d * chunk_group] = max(view(row, C));
            s[(width + d) * chunk_group] = max(-view(row, C));
        }
        if (c % chunk_group != chunk_group - 1) return;
        const Index g = c / chunk_group;
        T* const of_group = group_summaries(g / chunk_group) + g % chunk_group;
        for (Index d = 0; d < 2 * width; ++d)
            of_group[d * chunk_group] = max(view(summaries(g) + d * chunk_group, chunk_group));
    }

private:
    T* part(std::byte* p) const noexcept { return reinterpret_cast<T*>(p + group * bytes(page)); }
};

}  // namespace HYDRALM_NAMESPACE::kernels
