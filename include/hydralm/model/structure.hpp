// From a configuration to the type expression of its model.
#pragma once

#include <utility>

#include "hydralm/layers/full_attention.hpp"
#include "hydralm/layers/gated_delta_net.hpp"
#include "hydralm/layers/retrieval_attention.hpp"
#include "hydralm/layers/rms_norm.hpp"
#include "hydralm/layers/sliding_window_attention.hpp"
#include "hydralm/layers/swiglu.hpp"
#include "hydralm/model/config_fields.hpp"
#include "hydralm/model/language_model.hpp"

namespace HYDRALM_NAMESPACE {
namespace detail {

template <HydraConfig c, Real T, LayerType type>
constexpr auto make_mixer() {
    if constexpr (type == LayerType::deltanet) {
        return GatedDeltaNet<
            T, c.head_dim, 0,
            DeltaNetShape<c.d_model, c.n_heads, c.dn_short_conv_kernel, c.dn_use_gate, c.dn_norm_qk,
                          c.dn_negative_eigenvalues>>();
    } else if constexpr (type == LayerType::swa) {
        return SlidingWindowAttention<
            T, c.head_dim, 0, WindowShape<c.d_model, c.n_heads, c.swa_window, c.swa_rope_base>>();
    } else if constexpr (type == LayerType::full) {
        return FullAttention<T, c.head_dim, 64,
                             FullShape<c.d_model, c.n_heads, c.n_kv_heads, c.swa_rope_base>>();
    } else {
        return RetrievalAttention<
            T, c.head_dim, c.retrieval_chunk_size,
            RetrievalShape<c.d_model, c.n_heads, c.retrieval_top_k, c.dn_short_conv_kernel>>();
    }
}

// config resolved, or, of an impossible one, what lets the compiler go on to the message.
constexpr HydraConfig usable(const HydraConfig& config) {
    return resolved(broken_rule(config) ? presets::tiny : config);
}

// What a valid, resolved configuration means.
template <HydraConfig c, Real T, class Weights>
struct ConfigModel {
    using Mlp = SwiGLU<T, MlpShape<c.d_model, mlp_hidden(c)>>;
    using Norm = RmsNorm<T, NormShape<c.d_model, c.rms_eps>>;
    template <std::size_t... i>
    static auto stack(std::index_sequence<i...>)
        -> Stack<Block<decltype(make_mixer<c, T, c.layer_types[i]>()), Mlp, Norm>...>;
    static auto drafts() {
        if constexpr (c.mtp_depth == 0) return NoMtp{};
        else return Mtp<c.mtp_depth, MtpModule<Mlp, Norm>, c.mtp_loss_weight>{};
    }
    using Type =
        LanguageModel<Vocabulary<c.vocab_size, std::conditional_t<c.tie_embeddings, tied, untied>>,
                      decltype(stack(
                          std::make_index_sequence<static_cast<std::size_t>(c.n_layers)>{})),
                      Norm, decltype(drafts()), Weights>;
};

}  // namespace detail

// The model that a configuration spells.
template <HydraConfig config, Real T, class Weights = weights::Float>
using ModelOf = typename detail::ConfigModel<detail::usable(config), T, Weights>::Type;

}  // namespace HYDRALM_NAMESPACE
