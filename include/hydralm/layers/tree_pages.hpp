// The pages of the tree in which a module's tokens look for chunks: which there are, and how those
// that are in no file come of the others.
#pragma once

#include "hydralm/kernels/chunk_search/tree.hpp"
#include "hydralm/state/page_bank.hpp"

namespace HYDRALM_NAMESPACE {

// Combine(width, nodes, node), kernels::sum_nodes or bound_nodes, of all that a page of T holds, as
// PageLayout::derive has it.
template <Real T, auto Combine>
void derive_node(const std::byte* nodes, Index bytes, std::byte* node, Index column) noexcept {
    Combine(bytes / (chunk_group * static_cast<Index>(sizeof(T))),
            reinterpret_cast<const T*>(nodes), reinterpret_cast<T*>(node) + column);
}

// Adds the pages for the nodes of every height, of so many bytes each, the first of them with
// bounded_bytes more where memory is bounded. Those above groups are derived: few, and in no file.
template <Real T, auto Combine>
constexpr void add_tree_pages(PageLayout& layout, Kept chunks, Kept nodes, Index bytes,
                              Index bounded_bytes = 0) noexcept {
    for (Index h = 0; h < tree_heights; ++h)
        layout.kinds[static_cast<std::size_t>(1 + h)] = {
            .chunks = node_chunks(h + 1),
            .kept = h == 0 ? chunks : nodes,
            .bytes = {bytes, bytes, bytes},
            .bounded_bytes = h == 0 ? bounded_bytes : 0,
            .derived = h > 1};
    layout.derive = &derive_node<T, Combine>;
}

// Of every height, from 0 on; valid until the next reserve of the bank.
inline std::array<PageView, tree_heights> tree_pages(const PageBank& bank) noexcept {
    std::array<PageView, tree_heights> pages;
    for (std::size_t h = 0; h < pages.size(); ++h) pages[h] = bank.pages(1 + h);
    return pages;
}

}  // namespace HYDRALM_NAMESPACE
