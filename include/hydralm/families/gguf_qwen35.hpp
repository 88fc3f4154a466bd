// Qwen3.5 as a GGUF file has it, architecture qwen35: the model of qwen3_5.hpp under other names.
//
// Norms hold their weight as it is, ssm_a −e^A_log. Value heads are tiled: with r of them for each
// of Hk key heads, head h·r + ρ stands at ρ·Hk + h. The module of multi-token prediction is the
// last block. Source: github.com/ggml-org/llama.cpp, conversion of Qwen3.5.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "hydralm/families/qwen3_5.hpp"

namespace HYDRALM_NAMESPACE::families {
namespace detail {

// The fields of config.json, and the values that say them.
inline constexpr std::array qwen35_names{
    FieldName{"num_hidden_layers", "qwen35.block_count"},
    FieldName{"hidden_size", "qwen35.embedding_length"},
    FieldName{"intermediate_size", "qwen35.feed_forward_length"},
    FieldName{"num_attention_heads", "qwen35.attention.head_count"},
    FieldName{"num_key_value_heads", "qwen35.attention.head_count_kv"},
    FieldName{"head_dim", "qwen35.attention.key_length"},
    FieldName{"value_length", "qwen35.attention.value_length"},
    FieldName{"sliding_window", "qwen35.attention.sliding_window"},
    FieldName{"rms_norm_eps", "qwen35.attention.layer_norm_rms_epsilon"},
    FieldName{"rope_theta", "qwen35.rope.freq_base"},
    FieldName{"partial_rotary_factor", "qwen35.rope.dimension_count"},
    FieldName{"rope_scaling", "qwen35.rope.scaling.type"},
    FieldName{"linear_num_key_heads", "qwen35.ssm.group_count"},
    FieldName{"linear_key_head_dim", "qwen35.ssm.state_size"},
    FieldName{"linear_num_value_heads", "qwen35.ssm.time_step_rank"},
    FieldName{"linear_value_head_dim", "qwen35.ssm.inner_size"},
    FieldName{"linear_conv_kernel_dim", "qwen35.ssm.conv_kernel"},
    FieldName{"full_attention_interval", "qwen35.full_attention_interval"},
    FieldName{"mtp_num_hidden_layers", "qwen35.nextn_predict_layers"},
    FieldName{"num_experts", "qwen35.expert_count"},
    FieldName{"quantization_version", "general.quantization_version"},
    FieldName{"parts", "split.count"}};

// As config.json would say it. Throws Error, naming the value, for what that has no word for.
inline PublishedConfig::Json qwen35_config(const GgufFile& file, const Checkpoint& checkpoint) {
    PublishedConfig::Json json;
    for (const FieldName& name : qwen35_names)
        if (const GgufValue* const value = file.find(name.in_file))
            json[std::string(name.field)] = value->json();
    const PublishedConfig said(json, file.name(), qwen35_names);
    if (const Index parts = said.count_or("parts", 1); parts > 1)
        said.refuse("parts", "1: one file", std::to_string(parts));
    if (const Index version = said.size_or("quantization_version", 2); version != 2)
        said.refuse("quantization_version", "2", std::to_string(version));
    for (const char* const field : {"num_experts", "sliding_window"}) said.expect_absent(field);
    if (const std::string scaling = said.text_or("rope_scaling", "none"); scaling != "none")
        said.refuse("rope_scaling", "none", scaling);
    const Index blocks = said.size("num_hidden_layers"),
                drafts = said.count_or("mtp_num_hidden_layers", 0);
    if (drafts > 1 || drafts >= blocks)
        said.refuse("mtp_num_hidden_layers", "0 or 1 of block_count", std::to_string(drafts));
    const Index head_dim = said.size("head_dim"), turned = said.size("partial_rotary_factor");
    if (said.size_or("value_length", head_dim) != head_dim)
        said.refuse("value_length", std::to_string(head_dim) + ", as key_length",
                    std::to_string(said.size("value_length")));
    if (turned > head_dim)
        said.refuse("partial_rotary_factor", "at most key_length, " + std::to_string(head_dim),
                    std::to_string(turned));
    const Index inner = said.size("linear_value_head_dim"),
                heads = said.size("linear_num_value_heads");
    said.expect_divides("linear_value_head_dim", inner, heads);

    json["model_type"] = "qwen3_5_text";
    json["num_hidden_layers"] = blocks - drafts;
    json["linear_value_head_dim"] = inner / heads;
    // A part of a head that comes to this number when it is cut to a whole one.
    json["partial_rotary_factor"] =
        std::min(1.0, (static_cast<double>(turned) + 0.5) / static_cast<double>(head_dim));
    json["vocab_size"] = checkpoint.tensor("token_embd.weight").rows();
    json["tie_word_embeddings"] = checkpoint.find("output.weight") == nullptr;
    return json;
}

// Of a tensor of `rows` rows: those of the value heads, of `width` rows each, from `first` on.
inline TensorRows untiled(std::string tensor, Index rows, Index first, Index width,
                          const RuntimeGroupedDeltaNetShape& s) {
    return {.tensor = std::move(tensor),
            .rows = rows,
            .first = first,
            .count = width,
            .times = s.value_heads / s.key_heads,
            .stride = s.key_heads * width,
            .groups = s.key_heads,
            .shift = width};
}

inline void put_qwen35_delta_net(TensorMap& map, const std::string& mixer, const std::string& p,
                                 const RuntimeGroupedDeltaNetShape& s) {
    const Index H = s.value_heads, Dv = s.value_dim, keys = 2 * s.key_heads * s.key_dim;
    const auto values = [&](const char* tensor, Index first, Index width) {
        return untiled(p + tensor, first + H * width, first, width, s);
    };
    const auto with_keys = [&](const char* tensor) {
        return std::vector{TensorRows{p + tensor, keys + H * Dv, 0, keys},
                           values(tensor, keys, Dv)};
    };
    map.put(mixer + "qkv_proj.weight", with_keys("attn_qkv.weight"));
    map.put(mixer + "ab_proj.weight",
            {values("ssm_alpha.weight", 0, 1), values("ssm_beta.weight", 0, 1)});
    map.put_source(mixer + "decay_log",
                   {.parts = {values("ssm_a", 0, 1)}, .of = [](double a) { return std::log(-a); }});
    map.put(mixer + "decay_bias", {values("ssm_dt.bias", 0, 1)});
    map.put(mixer + "short_conv.conv.weight", with_keys("ssm_conv1d.weight"));
    map.put(mixer + "gate_proj.weight", {values("attn_gate.weight", 0, Dv)});
    map.put(mixer + "o_norm.weight", {whole(p + "ssm_norm.weight", Dv)});
    map.put_source(mixer + "o_proj.weight", {.parts = {whole(p + "ssm_out.weight", s.d_model)},
                                             .columns = {Dv, H / s.key_heads, s.key_heads}});
}

// q has, head by head, the rows of the query and those of the gate.
inline void put_qwen35_attention(TensorMap& map, const std::string& mixer, const std::string& p,
                                 const RuntimeGroupedAttentionShape& s) {
    const Index D = s.head_dim, all = 2 * s.n_heads * D, keys = s.n_kv_heads * D;
    const std::string q = p + "attn_q.weight";
    map.put(mixer + "qkv_proj.weight", {{q, all, 0, D, s.n_heads, 2 * D},
                                        whole(p + "attn_k.weight", keys),
                                        whole(p + "attn_v.weight", keys)});
    map.put(mixer + "gate_proj.weight", {{q, all, D, D, s.n_heads, 2 * D}});
    map.put(mixer + "q_norm.weight", {whole(p + "attn_q_norm.weight", D)});
    map.put(mixer + "k_norm.weight", {whole(p + "attn_k_norm.weight", D)});
    map.put(mixer + "o_proj.weight", {whole(p + "attn_output.weight", s.d_model)});
}

// What every block has beside its mixer.
inline void put_qwen35_block(TensorMap& map, const std::string& block, const std::string& p,
                             const HybridShape& shape) {
    const Index d = shape.d_model;
    map.put(block + "norm1.weight", {whole(p + "attn_norm.weight", d)});
    map.put(block + "norm2.weight", {whole(p + "post_attention_norm.weight", d)});
    map.put(block + "mlp.w_fused.weight",
            {whole(p + "ffn_gate.weight", shape.hidden), whole(p + "ffn_up.weight", shape.hidden)});
    map.put(block + "mlp.w_down.weight", {whole(p + "ffn_down.weight", d)});
}

inline std::string qwen35_block(std::size_t i) { return "blk." + std::to_string(i) + "."; }

inline TensorMap qwen35_tensors(const HybridShape& shape, const Checkpoint&) {
    const Index V = shape.vocab_size;
    TensorMap map;
    if (shape.mtp) map.skip(qwen35_block(shape.layers.size()));
    map.put("embed.weight", {whole("token_embd.weight", V)});
    map.put("norm_f.weight", {whole("output_norm.weight", shape.d_model)});
    if (!shape.ties_head) map.put("lm_head.weight", {whole("output.weight", V)});
    for (std::size_t i = 0; i < shape.layers.size(); ++i) {
        const std::string block = block_name(i), p = qwen35_block(i);
        put_qwen35_block(map, block, p, shape);
        if (const auto* linear = shape.layers[i].delta_net())
            put_qwen35_delta_net(map, block + "mixer.", p, *linear);
        else put_qwen35_attention(map, block + "mixer.", p, *shape.layers[i].attention());
    }
    return map;
}

// Throws Error for a module with an embedding or a head of its own.
inline TensorMap qwen35_mtp_tensors(const HybridShape& shape, const Checkpoint& checkpoint) {
    const Index d = shape.d_model;
    const std::string p = qwen35_block(shape.layers.size()), own = p + "nextn.";
    for (const char* const name : {"embed_tokens.weight", "shared_head_head.weight"})
        if (checkpoint.find(own + name) != nullptr)
            raise({.file = checkpoint.name(),
                   .field = own + name,
                   .expected = "the model's embedding and head",
                   .found = "one of the module's own",
                   .fix = "this model computes something that is not implemented"});
    TensorMap map;
    map.skip("");  // all that is the model's
    map.put("norm_e.weight", {whole(own + "enorm.weight", d)});
    map.put("norm_h.weight", {whole(own + "hnorm.weight", d)});
    map.put("proj.weight", {whole(own + "eh_proj.weight", d)});
    put_qwen35_block(map, "block.", p, shape);
    // Asked for of models with such a module only.
    // NOLINTNEXTLINE(bugprone-unchecked-optional-access)
    put_qwen35_attention(map, "block.mixer.", p, *shape.mtp);
    map.put("norm.weight", {whole(own + "shared_head_norm.weight", d)});
    return map;
}

}  // namespace detail

inline constexpr Family gguf_qwen35{.model_types = qwen3_5.model_types,
                                    .shape = qwen3_5.shape,
                                    .tensors = detail::qwen35_tensors,
                                    .mtp_tensors = detail::qwen35_mtp_tensors};

}  // namespace HYDRALM_NAMESPACE::families
