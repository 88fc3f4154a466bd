// The pages of attention to the past: which there are (state/page_bank.hpp), and what its kernels
// see of them.
#pragma once

#include "hydralm/kernels/full_attention/full_attention.hpp"
#include "hydralm/layers/tree_pages.hpp"

namespace HYDRALM_NAMESPACE {

// Chunk pages with keys and values of every group of heads; where chunks are chosen
// (BankPolicy::sparse), pages with the bounds of 64 chunks, of 64 groups, and so on. window: of so
// many tokens alone, which are all read.
template <Real T, Index D, Index C>
constexpr PageLayout full_attention_layout(const kernels::KeyValuePage<T, D, C>& page, Index heads,
                                           Index groups, Index window = 0) noexcept {
    const auto chunk = [&](BankFormat format) { return groups * page.bytes(format); };
    PageLayout layout{
        .chunk_tokens = C,
        .window = window,
        .kinds = {PageKind{
            .chunks = 1,
            .kept = window > 0 ? Kept::window : Kept::whole,
            .bytes = {chunk(BankFormat::exact), chunk(BankFormat::bf16), chunk(BankFormat::int8)}}},
        .parts = groups};
    if (window > 0) return layout;
    add_tree_pages<T, kernels::bound_nodes<T>>(layout, Kept::sparse, Kept::sparse,
                                               groups * kernels::KeyBounds<T, D, C>::bytes(page));
    layout.heads = heads;
    return layout;
}

// What group g of heads has in a bank with that layout; both valid until its next reserve.
template <Real T, Index D, Index C>
kernels::FullAttentionPast<T, D, C> full_attention_past(
    const PageBank& bank, Index g, const kernels::KeyValuePage<T, D, C>& page) noexcept {
    return {bank.pages(0), bank.policy().format, g, page};
}
template <Real T, Index D, Index C>
kernels::KeyBounds<T, D, C> key_bounds(const PageBank& bank, Index g,
                                       const kernels::KeyValuePage<T, D, C>& page) noexcept {
    const BankPolicy& policy = bank.policy();
    return {tree_pages(bank), g, policy.sparse, policy.open_groups, page};
}

// Keys and values [N, D] of group g, rotated, into the pages of tokens from position on; with the
// bounds of chunks that they end. arena: page.scratch_elements().
template <Real T, Index D, Index C>
void put_keys_and_values(const PageBank& bank, Index g, const kernels::KeyValuePage<T, D, C>& page,
                         std::int64_t position, MatrixView<const T> keys,
                         MatrixView<const T> values, Arena& arena) noexcept {
    const Arena::Scope scope(arena);
    const auto past = full_attention_past(bank, g, page);
    const auto bounds = key_bounds(bank, g, page);
    T* const scratch = bank.reads_sparsely() ? arena.take<T>(page.scratch_elements()) : nullptr;
    for (Index n = 0; n < keys.rows(); ++n) {
        past.put(position + n, keys.row(n), values.row(n));
        if (scratch != nullptr && (position + n + 1) % C == 0)
            bounds.summarise(past, static_cast<Index>((position + n) / C), scratch);
    }
}

// Bytes of arena that attend_to_past takes for N tokens of so many heads of a group, in a bank of
// that window, under any policy.
template <Real T, Index D, Index C>
constexpr Index attend_workspace_bytes(Index N, Index heads,
                                       const kernels::KeyValuePage<T, D, C>& page,
                                       Index window = 0) noexcept {
    const Index full = kernels::full_attention_workspace_bytes<T, D, C>(page);
    if (window > 0) return full;
    return std::max(full, kernels::sparse_attention_workspace_bytes<T, D, C>(N, heads, page));
}

// kernels::full_attention of group g, or, where chunks are chosen, kernels::sparse_attention.
template <Real T, Index D, Index C>
void attend_to_past(const PageBank& bank, Index g, const kernels::KeyValuePage<T, D, C>& page,
                    std::int64_t position, MatrixView<const T> q, MatrixView<T> out, Arena& arena,
                    MatrixView<T> log_sum_exp = {}) noexcept {
    const auto past = full_attention_past(bank, g, page);
    if (bank.reads_sparsely())
        kernels::sparse_attention<D, C, T>(q, position, past, key_bounds(bank, g, page), out,
                                           arena);
    else
        kernels::full_attention<D, C, T>(q, position, past, out, arena, log_sum_exp,
                                         bank.layout().window);
}

}  // namespace HYDRALM_NAMESPACE
