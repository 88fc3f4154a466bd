// What --sparse-chunks says, and what is said where it is on.
#pragma once

#include <hydralm/core/error.hpp>
#include <hydralm/state/stream_memory.hpp>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "options.hpp"

// What a token of a layer that attends to the whole past reads of it. Throws Error where chunks are
// asked for and no layer is one, and where recent ones are and no others.
template <class Model>
hydralm::SparsePast sparse_past(const Model& model, const BankOptions& o) {
    if (o.sparse_chunks == 0) {
        if (o.recent_chunks.has_value())
            throw hydralm::Error({.field = "--recent-chunks",
                                  .expected = "--sparse-chunks of 1 or more with it",
                                  .found = "--sparse-chunks 0",
                                  .fix = "say how many chunks, or leave the option out"});
        return {};
    }
    const auto memory = model.new_memory();
    if (!std::ranges::any_of(memory.banks(),
                             [](const auto& bank) { return bank.layout().heads > 0; }))
        throw hydralm::Error({.field = "--sparse-chunks",
                              .expected = "a model with attention to the whole past",
                              .found = "none",
                              .fix = "leave the option out"});
    return {.chunks = o.sparse_chunks, .recent = o.recent_chunks.value_or(1)};
}

// Of streams that read a part of the past, what they read; null of others.
inline nlohmann::ordered_json sparse_reading(const hydralm::StreamMemory& memory) {
    for (const auto& bank : memory.banks()) {
        if (!bank.reads_sparsely()) continue;
        const auto& policy = bank.policy();
        nlohmann::ordered_json facts{
            {"chunks", policy.sparse.chunks},
            {"recent", policy.sparse.recent},
            {"chunk_tokens", bank.layout().chunk_tokens},
            {"most_tokens", policy.sparse.reads() * bank.layout().chunk_tokens}};
        if (policy.open_groups > 0) facts["open_groups"] = policy.open_groups;
        return facts;
    }
    return nullptr;
}

// In a result of JSON, where it is on.
inline void add_sparse_reading(nlohmann::ordered_json& result,
                               const hydralm::StreamMemory& memory) {
    if (auto facts = sparse_reading(memory); !facts.is_null())
        result["sparse_reading"] = std::move(facts);
}
// On standard error, where it is on and the result is a text.
inline void say_sparse_reading(const hydralm::StreamMemory& memory) {
    const auto facts = sparse_reading(memory);
    if (facts.is_null()) return;
    std::fprintf(stderr,
                 "sparse reading: of the whole past a token's head reads at most %lld tokens, %lld "
                 "chunks of its choice and %lld recent ones beside its own\n",
                 facts["most_tokens"].get<long long>(), facts["chunks"].get<long long>(),
                 facts["recent"].get<long long>());
}
