// ModelStructure: from a configuration to the type expression of its model, and the table of its
// parameters.
#pragma once

#include <array>
#include <utility>

#include "hydralm/layers/gated_delta_net.hpp"
#include "hydralm/layers/retrieval_attention.hpp"
#include "hydralm/layers/sliding_window_attention.hpp"
#include "hydralm/model/block.hpp"
#include "hydralm/model/config.hpp"
#include "hydralm/model/mtp.hpp"

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
    } else {
        return RetrievalAttention<
            T, c.head_dim, c.retrieval_chunk_size,
            RetrievalShape<c.d_model, c.n_heads, c.retrieval_top_k, c.dn_short_conv_kernel>>();
    }
}

template <HydraConfig c, Real T, std::size_t... i>
constexpr auto make_stack(std::index_sequence<i...>) {
    return Stack<
        Block<decltype(make_mixer<c, T, c.layer_types[i]>()),
              SwiGLU<T, MlpShape<c.d_model, mlp_hidden(c)>>, NormShape<c.d_model, c.rms_eps>>...>();
}

}  // namespace detail

// Embedding, blocks, final norm and head of a valid, resolved configuration: what there is, without
// memory for it.
template <HydraConfig config, Real T>
class ModelStructure {
public:
    using StackType =
        decltype(detail::make_stack<config, T>(std::make_index_sequence<config.n_layers>{}));
    static constexpr StackType stack{};
    using MtpType = MtpModule<T, MlpShape<config.d_model, mlp_hidden(config)>,
                              NormShape<config.d_model, config.rms_eps>>;
    static constexpr MtpType mtp_module{};  // all mtp_depth of them

    template <class Storage>
    struct Parameters {
        typename Storage::Matrix embed{};  // [V, d]
        typename StackType::template Parameters<Storage> blocks{};
        typename Storage::Vector norm_f{};   // [d]
        typename Storage::Matrix lm_head{};  // [V, d] when untied
        std::array<typename MtpType::template Parameters<Storage>, config.mtp_depth> mtp{};
    };

    template <class P, class V>
    constexpr void visit(P& p, V& v) const {
        v.matrix(p.embed, "embed.weight", ParameterKind::embedding, config.vocab_size,
                 config.d_model);
        v.nested("blocks", [&] { stack.visit(p.blocks, v); });
        v.vector(p.norm_f, "norm_f.weight", ParameterKind::norm, config.d_model);
        if constexpr (!config.tie_embeddings)
            v.matrix(p.lm_head, "lm_head.weight", ParameterKind::head, config.vocab_size,
                     config.d_model);
        if constexpr (config.mtp_depth > 0)
            v.nested("mtp", [&] {
                for (std::size_t i = 0; i < p.mtp.size(); ++i)
                    v.nested(detail::decimal(i), [&] { mtp_module.visit(p.mtp[i], v); });
            });
    }
};

// Every parameter of a structure in file order.
template <class Structure>
inline constexpr auto parameter_table = [] {
    constexpr std::size_t count = [] {
        std::size_t n = 0;
        describe_parameters(Structure{}, [&](const ParameterInfo&) { ++n; });
        return n;
    }();
    std::array<ParameterInfo, count> infos{};
    std::size_t n = 0;
    describe_parameters(Structure{}, [&](const ParameterInfo& info) { infos[n++] = info; });
    return infos;
}();

}  // namespace HYDRALM_NAMESPACE
