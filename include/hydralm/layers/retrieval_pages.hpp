// The pages of retrieval attention: which there are (state/page_bank.hpp), and what its kernels see
// of them.
#pragma once

#include "hydralm/kernels/retrieval/head.hpp"
#include "hydralm/state/page_bank.hpp"

namespace HYDRALM_NAMESPACE {

// Chunk pages with keys, values and gates; group pages with the summaries of 64 chunks, and in
// bounded memory their means; level pages with the sums of 64 groups. Head: a RetrievalHead. top_k:
// past chunks that a token reads beside its own. chunk_tokens: of a chunk.
template <class Head>
constexpr PageLayout retrieval_layout(Index heads, Index top_k = 0,
                                      Index chunk_tokens = Head::most_tokens) noexcept {
    constexpr Index group = kernels::RetrievalPast::group;
    const Index summaries = heads * Head::summary_bytes;
    const auto chunk = [heads](BankFormat format) { return heads * Head::chunk_bytes(format); };
    return {.chunk_tokens = chunk_tokens,
            .kinds = {PageKind{.chunks = 1,
                               .kept = Kept::exact,
                               .bytes = {chunk(BankFormat::exact), chunk(BankFormat::bf16),
                                         chunk(BankFormat::int8)}},
                      PageKind{.chunks = group,
                               .kept = Kept::pooled,
                               .bytes = {summaries, summaries, summaries},
                               .bounded_bytes = heads * Head::mean_bytes},
                      PageKind{.chunks = group * group,
                               .kept = Kept::free,
                               .bytes = {summaries, summaries, summaries}}},
            .parts = heads,
            .reads = heads * (top_k + 1)};
}

// Of a bank with that layout; valid until its next reserve.
inline kernels::RetrievalPast retrieval_past(const PageBank& bank) noexcept {
    const BankPolicy& policy = bank.policy();
    return {.chunks = bank.pages(0),
            .groups = bank.pages(1),
            .levels = bank.pages(2),
            .heads = bank.layout().parts,
            .format = policy.format,
            .bounds = policy.bounds(),
            .open_groups = policy.open_groups,
            .chunk_tokens = bank.layout().chunk_tokens};
}

}  // namespace HYDRALM_NAMESPACE
