// RuntimeBlock: the layers of a RuntimeModel, which are all that is large to compile of it.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "hydralm/layers/full_attention_backward.hpp"
#include "hydralm/layers/gated_delta_net_backward.hpp"
#include "hydralm/layers/retrieval_attention_backward.hpp"
#include "hydralm/layers/rms_norm.hpp"
#include "hydralm/layers/sliding_window_attention_backward.hpp"
#include "hydralm/layers/swiglu_backward.hpp"
#include "hydralm/model/config.hpp"
#include "hydralm/model/kernel_sizes.hpp"
#include "hydralm/model/runtime_stack.hpp"

namespace HYDRALM_NAMESPACE {

// The layers whose heads are computed by kernels for D values, chunks of retrieval by those of the
// list. `extern template struct hydralm::RuntimeBlock<float, 64, hydralm::CommonChunks>;`
// where models are made, and the same without `extern` in one source file, compiles them once
// (docs/using.md).
template <Real T, Index D, class Chunks>
struct RuntimeBlock {
    // Layer i of a valid config whose head_dim is written out and at most D: norm, mixer, norm,
    // MLP. Throws Error naming retrieval_chunk_size where the layer's is larger than all of the
    // list.
    static std::unique_ptr<ErasedBlock<T>> make(const HydraConfig& config, int i);
};

namespace detail {

template <Real T>
struct RuntimeParts {
    using Mlp = SwiGLU<T, RuntimeMlpShape>;
    using Norm = RmsNorm<T, RuntimeNormShape>;
    Mlp mlp;
    Norm norm;

    explicit RuntimeParts(const HydraConfig& c)
        : mlp({c.d_model, mlp_hidden(c)}), norm({c.d_model, c.rms_eps}) {}
    template <class Mixer>
    std::unique_ptr<ErasedBlock<T>> block(Mixer mixer) const {
        return std::make_unique<ErasedBlockOf<Block<Mixer, Mlp, Norm>>>(
            Block<Mixer, Mlp, Norm>(mixer, mlp, norm));
    }
};

// size_with_room. Throws Error naming the field for none.
template <Index... values>
Index size_for(Sizes<values...> sizes, Index wanted, const char* field) {
    const Index found = size_with_room(sizes, wanted);
    if (found == 0)
        raise({.field = field,
               .expected = "at most " + std::to_string(largest_size(sizes)),
               .found = std::to_string(wanted),
               .fix = "build the program for this config (-Dmodel_config); in code, use "
                      "HydraLM of it, or give Kernels of its sizes"});
    return found;
}
// f(std::integral_constant) of that size.
template <class Made, Index... values, class F>
Made with_size(Sizes<values...> sizes, Index wanted, const char* field, const F& f) {
    const Index size = size_for(sizes, wanted, field);
    Made made{};
    static_cast<void>(
        ((size == values && (made = f(std::integral_constant<Index, values>{}), true)) || ...));
    return made;
}

template <Real T, class HeadDims, class Chunks>
RuntimeStack<T> make_runtime_stack(const HydraConfig& c, Kernels<HeadDims, Chunks>) {
    std::vector<std::unique_ptr<ErasedBlock<T>>> blocks;
    for (int i = 0; i < c.n_layers; ++i)
        blocks.push_back(with_size<std::unique_ptr<ErasedBlock<T>>>(
            HeadDims{}, c.head_dim, "head_dim",
            [&](auto head_dim) { return RuntimeBlock<T, head_dim, Chunks>::make(c, i); }));
    return {c.d_model, std::move(blocks)};
}

}  // namespace detail

template <Real T, Index D, class Chunks>
std::unique_ptr<ErasedBlock<T>> RuntimeBlock<T, D, Chunks>::make(const HydraConfig& c, int i) {
    const detail::RuntimeParts<T> parts(c);
    switch (c.layer_types[i]) {
        case LayerType::deltanet:
            return parts.block(GatedDeltaNet<T, D>(
                RuntimeDeltaNetShape{c.d_model, c.n_heads, c.dn_short_conv_kernel, c.dn_use_gate,
                                     c.dn_norm_qk, c.dn_negative_eigenvalues}));
        case LayerType::swa:
            return parts.block(SlidingWindowAttention<T, D>(RuntimeWindowShape{
                c.d_model, c.n_heads, c.swa_window, c.swa_rope_base, c.head_dim}));
        case LayerType::full:
            return parts.block(FullAttention<T, D, 64>(
                RuntimeFullShape{c.d_model, c.n_heads, c.n_kv_heads, c.swa_rope_base, c.head_dim}));
        case LayerType::retrieval: break;
    }
    return detail::with_size<std::unique_ptr<ErasedBlock<T>>>(
        Chunks{}, c.retrieval_chunk_size, "retrieval_chunk_size", [&](auto chunk) {
            return parts.block(RetrievalAttention<T, D, chunk>(
                RuntimeRetrievalShape{c.d_model, c.n_heads, c.retrieval_top_k,
                                      c.dn_short_conv_kernel, c.retrieval_chunk_size}));
        });
}

}  // namespace HYDRALM_NAMESPACE
