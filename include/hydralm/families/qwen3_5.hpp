// Qwen3.5, 3.6 and 3.8, dense: Gated DeltaNet with grouped keys, and every fourth layer attention
// with an output gate. The text of a composite checkpoint too; the vision tower is skipped.
#pragma once

#include <string>

#include "hydralm/families/family.hpp"

namespace HYDRALM_NAMESPACE::families {
namespace detail {

inline HybridShape qwen_shape(const PublishedConfig& config) {
    HybridShape shape = common_shape(config, "rms_norm_eps");
    shape.hidden = config.size("intermediate_size");
    config.expect_flag("attention_bias", false);
    config.expect_flag("attn_output_gate", true);
    config.expect_silu("output_gate_type");
    config.expect_flag("use_sliding_window", false);
    RuntimeGroupedAttentionShape attention{.d_model = shape.d_model,
                                           .n_heads = config.size("num_attention_heads"),
                                           .n_kv_heads = config.size("num_key_value_heads"),
                                           .norm = QueryKeyNorm::each_head,
                                           .epsilon = shape.epsilon,
                                           .gate = true};
    attention.head_dim = config.size_or("head_dim", shape.d_model / attention.n_heads);
    expect_heads(config, attention, "num_attention_heads");
    const Rope rope = read_rope(config, 0.25);
    if (!rope.given) config.refuse("rope_theta", "a number", "none");
    attention.rope_base = rope.base;
    attention.rotary_dim = rotary_dim(config, rope, attention.head_dim);
    if (config.count_or("mtp_num_hidden_layers", 0) == 1 &&
        !config.flag_or("mtp_use_dedicated_embeddings", false))
        shape.mtp = attention;
    const RuntimeGroupedDeltaNetShape linear = linear_shape(config, shape);
    for (const bool attends : attention_layers(config)) {
        if (attends) shape.layers.push_back({.mixer = attention});
        else shape.layers.push_back({.mixer = linear});
    }
    return shape;
}

// The projections of a Gated DeltaNet, which the two families lay out in different ways.
using QwenProjections = void (*)(TensorMap& map, const std::string& mixer,
                                 const std::string& published,
                                 const RuntimeGroupedDeltaNetShape& s);

inline void put_qwen_delta_net(TensorMap& map, const std::string& mixer, const std::string& p,
                               const RuntimeGroupedDeltaNetShape& s) {
    const Index H = s.value_heads,
                channels = 2 * s.key_heads * s.key_dim + s.value_heads * s.value_dim;
    map.put(mixer + "decay_log", {whole(p + "A_log", H)});
    map.put(mixer + "decay_bias", {whole(p + "dt_bias", H)});
    map.put(mixer + "short_conv.conv.weight", {whole(p + "conv1d.weight", channels)});
    map.put(mixer + "o_norm.weight", {whole(p + "norm.weight", s.value_dim)});
    map.put(mixer + "o_proj.weight", {whole(p + "out_proj.weight", s.d_model)});
}

// q_proj has, head by head, the rows of the query and those of the gate.
inline void put_qwen_attention(TensorMap& map, const std::string& mixer, const std::string& p,
                               const RuntimeGroupedAttentionShape& s) {
    const Index D = s.head_dim, all = 2 * s.n_heads * D, keys = s.n_kv_heads * D;
    const std::string q_proj = p + "q_proj.weight";
    map.put(mixer + "qkv_proj.weight", {{q_proj, all, 0, D, s.n_heads, 2 * D},
                                        whole(p + "k_proj.weight", keys),
                                        whole(p + "v_proj.weight", keys)});
    map.put(mixer + "gate_proj.weight", {{q_proj, all, D, D, s.n_heads, 2 * D}});
    map.put(mixer + "q_norm.weight", {whole(p + "q_norm.weight", D)}, 1.0);
    map.put(mixer + "k_norm.weight", {whole(p + "k_norm.weight", D)}, 1.0);
    map.put(mixer + "o_proj.weight", {whole(p + "o_proj.weight", s.d_model)});
}

// The norms of blocks, queries and keys hold their weight less 1.
inline TensorMap qwen_tensors(const HybridShape& shape, const Checkpoint& checkpoint,
                              QwenProjections put_projections) {
    const Index d = shape.d_model, V = shape.vocab_size;
    const std::string composite = "model.language_model.";
    const std::string prefix =
        checkpoint.find(composite + "embed_tokens.weight") != nullptr ? composite : "model.";
    TensorMap map;
    map.skip("model.visual.");
    map.skip("mtp.");
    map.put("embed.weight", {whole(prefix + "embed_tokens.weight", V)});
    map.put("norm_f.weight", {whole(prefix + "norm.weight", d)}, 1.0);
    if (shape.ties_head) map.repeat("lm_head.weight");
    else map.put("lm_head.weight", {whole("lm_head.weight", V)});
    for (std::size_t i = 0; i < shape.layers.size(); ++i) {
        const std::string block = block_name(i), mixer = block + "mixer.";
        const std::string p = prefix + "layers." + std::to_string(i) + ".";
        map.put(block + "norm1.weight", {whole(p + "input_layernorm.weight", d)}, 1.0);
        map.put(block + "norm2.weight", {whole(p + "post_attention_layernorm.weight", d)}, 1.0);
        map.put_mlp(block, p + "mlp.", d, shape.hidden);
        if (const auto* linear = shape.layers[i].delta_net()) {
            put_qwen_delta_net(map, mixer, p + "linear_attn.", *linear);
            put_projections(map, mixer, p + "linear_attn.", *linear);
        } else {
            put_qwen_attention(map, mixer, p + "self_attn.", *shape.layers[i].attention());
        }
    }
    return map;
}

}  // namespace detail

inline TensorMap qwen_mtp_tensors(const HybridShape& shape, const Checkpoint&) {
    const Index d = shape.d_model;
    const std::string layer = "mtp.layers.0.";
    TensorMap map;
    map.skip("");  // all that is the model's
    map.put("norm_e.weight", {whole("mtp.pre_fc_norm_embedding.weight", d)}, 1.0);
    map.put("norm_h.weight", {whole("mtp.pre_fc_norm_hidden.weight", d)}, 1.0);
    map.put("proj.weight", {whole("mtp.fc.weight", d)});
    map.put("block.norm1.weight", {whole(layer + "input_layernorm.weight", d)}, 1.0);
    map.put("block.norm2.weight", {whole(layer + "post_attention_layernorm.weight", d)}, 1.0);
    map.put_mlp("block.", layer + "mlp.", d, shape.hidden);
    // Asked for of models with such a module only.
    // NOLINTNEXTLINE(bugprone-unchecked-optional-access)
    const auto& attention = *shape.mtp;
    detail::put_qwen_attention(map, "block.mixer.", layer + "self_attn.", attention);
    map.put("norm.weight", {whole("mtp.norm.weight", d)}, 1.0);
    return map;
}

inline constexpr Family qwen3_5{
    .model_types = {"qwen3_5", "qwen3_5_text"},
    .shape =
        [](const PublishedConfig& config) {
            config.expect_absent("num_experts");
            return detail::qwen_shape(config);
        },
    .tensors =
        [](const HybridShape& shape, const Checkpoint& checkpoint) {
            return detail::qwen_tensors(
                shape, checkpoint,
                [](TensorMap& map, const std::string& mixer, const std::string& p,
                   const RuntimeGroupedDeltaNetShape& s) {
                    const Index H = s.value_heads, inner = H * s.value_dim;
                    map.put(mixer + "qkv_proj.weight",
                            {whole(p + "in_proj_qkv.weight", 2 * s.key_heads * s.key_dim + inner)});
                    map.put(mixer + "gate_proj.weight", {whole(p + "in_proj_z.weight", inner)});
                    map.put(mixer + "ab_proj.weight",
                            {whole(p + "in_proj_a.weight", H), whole(p + "in_proj_b.weight", H)});
                });
        },
    .mtp_tensors = qwen_mtp_tensors};

}  // namespace HYDRALM_NAMESPACE::families
