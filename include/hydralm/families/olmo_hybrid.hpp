// OLMo-Hybrid: Gated DeltaNet with norms before, and attention with norms behind; queries and keys
// normalised over all heads; rotary only where the config gives it a base.
#pragma once

#include <string>
#include <vector>

#include "hydralm/families/separate_projections.hpp"

namespace HYDRALM_NAMESPACE::families {
namespace detail {

inline HybridShape olmo_shape(const PublishedConfig& config) {
    HybridShape shape = common_shape(config, "rms_norm_eps");
    shape.hidden = config.size("intermediate_size");
    config.expect_flag("attention_bias", false);
    RuntimeGroupedAttentionShape attention{.d_model = shape.d_model,
                                           .n_heads = config.size("num_attention_heads"),
                                           .norm = QueryKeyNorm::all_heads,
                                           .epsilon = shape.epsilon};
    attention.n_kv_heads = config.size_or("num_key_value_heads", attention.n_heads);
    attention.head_dim = config.size_or("head_dim", shape.d_model / attention.n_heads);
    expect_heads(config, attention, "num_attention_heads");
    const Rope rope = read_rope(config, 1.0);
    if (rope.given) {
        attention.rope_base = rope.base;
        attention.rotary_dim = rotary_dim(config, rope, attention.head_dim);
    }
    RuntimeGroupedDeltaNetShape linear = linear_shape(config, shape);
    linear.beta_scale = config.flag_or("linear_allow_neg_eigval", false) ? 2.0 : 1.0;
    linear.epsilon = 1e-5;  // the one of the code, in no config
    for (const bool attends : attention_layers(config)) {
        if (attends) shape.layers.push_back({.mixer = attention, .norm = NormPlace::after});
        else shape.layers.push_back({.mixer = linear});
    }
    return shape;
}

// The first of the names that the checkpoint has: these were renamed between releases.
inline std::string first_of(const Checkpoint& checkpoint, const std::string& prefix,
                            const std::vector<std::string>& names) {
    for (const std::string& name : names)
        if (checkpoint.find(prefix + name) != nullptr) return prefix + name;
    return prefix + names.front();
}

inline TensorMap olmo_tensors(const HybridShape& shape, const Checkpoint& checkpoint) {
    const Index d = shape.d_model, V = shape.vocab_size;
    TensorMap map;
    map.put("embed.weight", {whole("model.embed_tokens.weight", V)});
    map.put("norm_f.weight", {whole("model.norm.weight", d)});
    if (shape.ties_head) map.repeat("lm_head.weight");
    else map.put("lm_head.weight", {whole("lm_head.weight", V)});
    for (std::size_t i = 0; i < shape.layers.size(); ++i) {
        const std::string block = block_name(i), mixer = block + "mixer.";
        const std::string p = "model.layers." + std::to_string(i) + ".";
        map.put_mlp(block, p + "mlp.", d, shape.hidden);
        const auto norm = [&](const char* ours, const std::vector<std::string>& names) {
            map.put(block + ours, {whole(first_of(checkpoint, p, names), d)});
        };
        if (const auto* s = shape.layers[i].delta_net()) {
            norm("norm1.weight", {"attention_layer_norm.weight", "input_layernorm.weight"});
            norm("norm2.weight",
                 {"feedforward_layer_norm.weight", "post_attention_layernorm.weight"});
            put_separate_delta_net(map, mixer, p + "linear_attn.", *s, checkpoint);
        } else {
            norm("norm1.weight",
                 {"post_attention_layernorm.weight", "feedforward_layer_norm.weight"});
            norm("norm2.weight", {"post_feedforward_layernorm.weight"});
            const auto& a = *shape.layers[i].attention();
            put_separate_attention(map, mixer, p + "self_attn.", a);
            map.put(mixer + "q_norm.weight",
                    {whole(p + "self_attn.q_norm.weight", a.n_heads * a.head_dim)});
            map.put(mixer + "k_norm.weight",
                    {whole(p + "self_attn.k_norm.weight", a.n_kv_heads * a.head_dim)});
        }
    }
    return map;
}

}  // namespace detail

inline constexpr Family olmo_hybrid{.model_types = {"olmo_hybrid", "olmo_hybrid"},
                                    .shape = detail::olmo_shape,
                                    .tensors = detail::olmo_tensors};

}  // namespace HYDRALM_NAMESPACE::families
