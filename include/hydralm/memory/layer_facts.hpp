// The state of a Gated DeltaNet layer as a fact bank, and a fact bank as a layer's initial state.
//
// The layer writes with its own keys, values and gates and asks with its own queries; a bank asks
// with any key. Both mean the same S: recall(q) is the head's output for the query q, before the
// output gate and with dn_norm_qk.
#pragma once

#include <vector>

#include "hydralm/memory/fact_bank.hpp"
#include "hydralm/model/hydra_lm.hpp"

namespace HYDRALM_NAMESPACE {

// A bank of one head of a model.
template <class Model>
using LayerFacts = FactBank<typename Model::Scalar, Model::config.head_dim, Model::config.head_dim>;

namespace detail {

// Sᵀ [D, D] of a head in a stream's memory: rows are keys.
template <class Model>
auto head_memory(typename Model::State& state, Index layer, Index head) {
    constexpr Index D = Model::config.head_dim;
    typename Model::Scalar* memory = nullptr;
    state.expect_bytes(Model::state_bytes);
    const Stream stream = state.stream();
    constexpr auto offsets = Model::stack.state_offsets();
    Model::stack.for_each([&](const auto& block, auto i) {
        if (i != layer) return;
        const auto part = bind_state(block, Streams(&stream, 1).at(offsets[i]), 0);
        if constexpr (requires { part.memory; }) memory = part.memory;
    });
    if (memory == nullptr)
        raise({.field = "layer",
               .expected = "the index of a deltanet layer",
               .found = std::to_string(layer),
               .fix = "see layer_types of the config"});
    if (head < 0 || head >= Model::config.n_heads)
        raise({.field = "head",
               .expected = "a head in [0, " + std::to_string(Model::config.n_heads) + ")",
               .found = std::to_string(head),
               .fix = "heads count from 0"});
    return MatrixView<typename Model::Scalar, D>(memory + head * D * D, D);
}

}  // namespace detail

// What a head of a deltanet layer has learned from a stream so far, as a bank of its own. Throws
// Error for a layer of another kind or a head that is not there. Allocates.
template <class Model>
LayerFacts<Model> facts_of_layer(const Model&, typename Model::State& state, Index layer,
                                 Index head) {
    constexpr Index D = Model::config.head_dim;
    const auto rows = detail::head_memory<Model>(state, layer, head);
    std::vector<typename Model::Scalar> S(static_cast<std::size_t>(D * D));
    for (Index v = 0; v < D; ++v)
        for (Index k = 0; k < D; ++k) S[static_cast<std::size_t>(v * D + k)] = rows(k, v);
    return LayerFacts<Model>(std::span<const typename Model::Scalar>(S));
}

// The stream goes on as if this head had written the bank's facts. Errors as facts_of_layer.
template <class Model>
void mount_facts(const LayerFacts<Model>& facts, const Model&, typename Model::State& state,
                 Index layer, Index head) {
    constexpr Index D = Model::config.head_dim;
    const auto rows = detail::head_memory<Model>(state, layer, head);
    std::vector<typename Model::Scalar> S(static_cast<std::size_t>(D * D));
    facts.copy_to(S);
    for (Index v = 0; v < D; ++v)
        for (Index k = 0; k < D; ++k) rows(k, v) = S[static_cast<std::size_t>(v * D + k)];
    state.advance(0);  // keeps them, where they rest
}

}  // namespace HYDRALM_NAMESPACE
