// What the models of flash-linear-attention have in common: one linear mixer, and, in the layers
// that a config lists, attention to a window or the whole past.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "hydralm/families/separate_projections.hpp"

namespace HYDRALM_NAMESPACE::families {
namespace detail {

// One of the objects of attn.
inline RuntimeGroupedAttentionShape fla_attention(const PublishedConfig& config,
                                                  const PublishedConfig::Json& object,
                                                  const HybridShape& shape) {
    const PublishedConfig attn(object, config.file());
    for (const char* const field : {"qk_norm", "use_output_gate"}) attn.expect_absent(field);
    RuntimeGroupedAttentionShape s{.d_model = shape.d_model,
                                   .n_heads = attn.size("num_heads"),
                                   .window = attn.size_or("window_size", 0),
                                   .rope_base = attn.positive_or("rope_theta", 10000.0),
                                   .epsilon = shape.epsilon,
                                   .bias = attn.flag_or("qkv_bias", false)};
    s.n_kv_heads = attn.size_or("num_kv_heads", s.n_heads);
    config.expect_divides("attn.num_heads", shape.d_model, s.n_heads);
    s.head_dim = shape.d_model / s.n_heads;
    expect_heads(attn, s, "num_heads");
    s.rotary_dim = rotary_dim(attn, {.base = s.rope_base, .given = true}, s.head_dim);
    return s;
}

// All but the layers.
inline HybridShape fla_sizes(const PublishedConfig& config) {
    config.expect_absent("attnres_block_size");
    HybridShape shape = common_shape(config, "norm_eps");
    const double ratio = config.positive_or("hidden_ratio", 4.0);
    const double grown = std::floor(static_cast<double>(shape.d_model) * ratio * 2 / 3);
    if (grown < 1 || grown > 16777216.0)
        config.refuse("hidden_ratio", "one that makes a width of 1 to 2^24", std::to_string(ratio));
    shape.hidden =
        config.size_or("intermediate_size", round_up(static_cast<Index>(grown), Index{256}));
    return shape;
}

// The linear mixer without its gates; expand_v: where the config has none.
inline RuntimeGroupedDeltaNetShape fla_linear(const PublishedConfig& config,
                                              const HybridShape& shape, double expand_v) {
    RuntimeGroupedDeltaNetShape linear{
        .d_model = shape.d_model,
        .key_heads = config.size("num_heads"),
        .key_dim = config.size("head_dim"),
        .conv_kernel = config.flag_or("use_short_conv", true) ? config.size_or("conv_size", 4) : 1,
        .beta_scale = config.flag_or("allow_neg_eigval", false) ? 2.0 : 1.0,
        .epsilon = shape.epsilon};
    linear.value_heads = config.size_or("num_v_heads", linear.key_heads);
    const double wide =
        std::floor(static_cast<double>(linear.key_dim) * config.positive_or("expand_v", expand_v));
    if (wide < 1 || wide > 16777216.0)
        config.refuse("expand_v", "heads of 1 to 2^24 values", std::to_string(wide));
    linear.value_dim = static_cast<Index>(wide);
    config.expect_divides("num_v_heads", linear.value_heads, linear.key_heads);
    config.expect_divides("head_dim", linear.key_dim, 4);
    config.width("num_heads", linear.key_heads, linear.key_dim);
    config.width("num_v_heads", linear.value_heads, linear.value_dim);
    return linear;
}

// The layers of a model of fla_sizes: linear, but for those of attn.
inline void put_fla_layers(const PublishedConfig& config, const RuntimeGroupedDeltaNetShape& linear,
                           HybridShape& shape) {
    shape.layers.assign(static_cast<std::size_t>(config.size("num_hidden_layers")),
                        {.mixer = linear});
    const auto put_attention = [&](const PublishedConfig::Json& object) {
        const auto layers = object.find("layers");
        if (layers == object.end() || !layers->is_array())
            config.refuse("attn.layers", "a list of layers", "none");
        for (const auto& layer : *layers) {
            if (!layer.is_number_unsigned() || layer.get<std::size_t>() >= shape.layers.size())
                config.refuse("attn.layers", "numbers of layers", hydralm::detail::shown(layer));
            shape.layers[layer.get<std::size_t>()].mixer = fla_attention(config, object, shape);
        }
    };
    if (const auto* const attn = config.find("attn")) {
        if (attn->is_object()) put_attention(*attn);
        else if (attn->is_array() &&
                 std::ranges::all_of(*attn, [](const auto& o) { return o.is_object(); }))
            for (const auto& object : *attn) put_attention(object);
        else config.refuse("attn", "an object or a list of objects", hydralm::detail::shown(*attn));
    }
}

inline TensorMap fla_tensors(const HybridShape& shape, const Checkpoint& checkpoint) {
    const Index d = shape.d_model, V = shape.vocab_size;
    TensorMap map;
    map.put("embed.weight", {whole("model.embeddings.weight", V)});
    map.put("norm_f.weight", {whole("model.norm.weight", d)});
    if (shape.ties_head) map.repeat("lm_head.weight");
    else map.put("lm_head.weight", {whole("lm_head.weight", V)});
    for (std::size_t i = 0; i < shape.layers.size(); ++i) {
        const std::string block = block_name(i), mixer = block + "mixer.";
        const std::string p = "model.layers." + std::to_string(i) + ".";
        map.put(block + "norm1.weight", {whole(p + "attn_norm.weight", d)});
        map.put(block + "norm2.weight", {whole(p + "mlp_norm.weight", d)});
        map.put_mlp(block, p + "mlp.", d, shape.hidden);
        if (const auto* s = shape.layers[i].delta_net())
            put_separate_delta_net(map, mixer, p + "attn.", *s, checkpoint);
        else put_separate_attention(map, mixer, p + "attn.", *shape.layers[i].attention());
    }
    return map;
}

}  // namespace detail

}  // namespace HYDRALM_NAMESPACE::families
