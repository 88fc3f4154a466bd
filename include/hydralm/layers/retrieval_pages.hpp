// The pages of retrieval attention: which there are (state/page_bank.hpp), and what its kernels see
// of them.
#pragma once

#include "hydralm/kernels/retrieval/head.hpp"
#include "hydralm/layers/tree_pages.hpp"

namespace HYDRALM_NAMESPACE {

// Chunk pages with keys, values and gates; group pages with the summaries of 64 chunks, and in
// bounded memory their means; pages with the sums of 64 groups, and so on. Head: a RetrievalHead.
// top_k: past chunks that a token reads beside its own. chunk_tokens: of a chunk.
template <class Head>
constexpr PageLayout retrieval_layout(Index heads, Index top_k = 0,
                                      Index chunk_tokens = Head::most_tokens) noexcept {
    using T = typename Head::Scalar;
    const auto chunk = [heads](BankFormat format) { return heads * Head::chunk_bytes(format); };
    PageLayout layout{
        .chunk_tokens = chunk_tokens,
        .kinds = {PageKind{
            .chunks = 1,
            .kept = Kept::exact,
            .bytes = {chunk(BankFormat::exact), chunk(BankFormat::bf16), chunk(BankFormat::int8)}}},
        .parts = heads,
        .reads = heads * (top_k + 1)};
    add_tree_pages<T, kernels::sum_nodes<T>>(layout, Kept::pooled, Kept::free,
                                             heads * Head::summary_bytes, heads * Head::mean_bytes);
    return layout;
}

// Of a bank with that layout; valid until its next reserve.
inline kernels::RetrievalPast retrieval_past(const PageBank& bank) noexcept {
    const BankPolicy& policy = bank.policy();
    return {.chunks = bank.pages(0),
            .summaries = tree_pages(bank),
            .heads = bank.layout().parts,
            .format = policy.format,
            .bounds = policy.bounds(),
            .open_groups = policy.open_groups,
            .chunk_tokens = bank.layout().chunk_tokens};
}

}  // namespace HYDRALM_NAMESPACE
