// Family: how the published models of one class are read.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "hydralm/families/published_config.hpp"
#include "hydralm/families/tensor_map.hpp"
#include "hydralm/model/hybrid_shape.hpp"

namespace HYDRALM_NAMESPACE::families {

struct Family {
    std::array<std::string_view, 2> model_types;  // as config.json names it
    // What a config describes. Throws Error for what is not implemented, by its field.
    HybridShape (*shape)(const PublishedConfig& config);
    // Where the parameters of such a model lie in a checkpoint.
    TensorMap (*tensors)(const HybridShape& shape, const Checkpoint& checkpoint);
    // And those of HybridMtp, of shape.mtp; null where no model of the family has one.
    TensorMap (*mtp_tensors)(const HybridShape& shape, const Checkpoint& checkpoint) = nullptr;
};

// "blocks.3.", as parameters are named.
inline std::string block_name(std::size_t i) { return "blocks." + std::to_string(i) + "."; }

// What all families have in their configs beside their layers: sizes, and what none may have.
inline HybridShape common_shape(const PublishedConfig& config, std::string_view epsilon) {
    config.expect_absent("quantization_config");
    config.expect_silu("hidden_act");
    if (config.size("num_hidden_layers") > LayerTypes::capacity)
        config.refuse("num_hidden_layers", "at most " + std::to_string(LayerTypes::capacity),
                      std::to_string(config.size("num_hidden_layers")));
    HybridShape shape;
    shape.family = config.model_type();
    shape.vocab_size = config.size("vocab_size");
    shape.d_model = config.size("hidden_size");
    shape.epsilon = config.positive_or(epsilon, 1e-6);
    shape.ties_head = config.ties_head();
    return shape;
}

// The kinds of layers, first to last: whether each is attention. From layer_types, or, without, of
// every interval-th.
inline std::vector<bool> attention_layers(const PublishedConfig& config) {
    const auto layers = static_cast<std::size_t>(config.size("num_hidden_layers"));
    std::vector<bool> attends(layers);
    const auto* const kinds = config.find("layer_types");
    if (kinds == nullptr) {
        const auto interval =
            static_cast<std::size_t>(config.size_or("full_attention_interval", 4));
        for (std::size_t i = 0; i < layers; ++i) attends[i] = (i + 1) % interval == 0;
        return attends;
    }
    if (!kinds->is_array() || kinds->size() != layers)
        config.refuse("layer_types", "a list of " + std::to_string(layers),
                      std::to_string(kinds->size()) + " of " + std::to_string(layers));
    for (std::size_t i = 0; i < layers; ++i) {
        const auto& kind = (*kinds)[i];
        attends[i] = kind == "full_attention";
        if (!attends[i] && kind != "linear_attention")
            config.refuse("layer_types[" + std::to_string(i) + "]",
                          "linear_attention or full_attention", hydralm::detail::shown(kind));
    }
    return attends;
}

// The sizes of a GatedDeltaNet under the names linear_….
inline RuntimeGroupedDeltaNetShape linear_shape(const PublishedConfig& config,
                                                const HybridShape& shape) {
    RuntimeGroupedDeltaNetShape s{.d_model = shape.d_model,
                                  .key_heads = config.size("linear_num_key_heads"),
                                  .key_dim = config.size("linear_key_head_dim"),
                                  .value_heads = config.size("linear_num_value_heads"),
                                  .value_dim = config.size("linear_value_head_dim"),
                                  .conv_kernel = config.size("linear_conv_kernel_dim"),
                                  .epsilon = shape.epsilon};
    config.expect_divides("linear_num_value_heads", s.value_heads, s.key_heads);
    config.expect_divides("linear_key_head_dim", s.key_dim, 4);
    config.width("linear_num_key_heads", s.key_heads, s.key_dim);
    config.width("linear_num_value_heads", s.value_heads, s.value_dim);
    return s;
}

// θ and the part of a head that turns: rope_parameters, or, in older configs, at the root. Throws
// Error for scaled frequencies.
struct Rope {
    double base = 10000.0;
    bool given = false;  // whether there is a base
    double part = 1.0;
};
inline Rope read_rope(const PublishedConfig& config, double part) {
    const auto* const object = config.find("rope_parameters");
    for (const char* const field : {"rope_scaling", "rope_parameters"}) {
        const auto* const rope = config.find(field);
        if (rope == nullptr || !rope->is_object()) continue;
        for (const char* const key : {"rope_type", "type"})
            if (rope->contains(key) && (*rope)[key] != "default")
                config.refuse(std::string(field) + "." + key, "default",
                              hydralm::detail::shown((*rope)[key]));
    }
    Rope rope{.base = config.number_or("rope_theta", 0.0),
              .part = config.number_or("partial_rotary_factor", part)};
    if (object != nullptr && object->is_object()) {
        rope.base = config.number_or(*object, "rope_theta", rope.base);
        rope.part = config.number_or(*object, "partial_rotary_factor", rope.part);
    }
    if (!(rope.base >= 0 && rope.base < 1e30))
        config.refuse("rope_theta", "a positive number", std::to_string(rope.base));
    if (!(rope.part > 0 && rope.part <= 1))
        config.refuse("partial_rotary_factor", "a number in (0, 1]", std::to_string(rope.part));
    rope.given = rope.base > 0;
    return rope;
}

// Of attention with heads of head_dim: how many elements turn.
inline Index rotary_dim(const PublishedConfig& config, const Rope& rope, Index head_dim) {
    const auto turned = static_cast<Index>(static_cast<double>(head_dim) * rope.part);
    if (turned % 2 != 0 || turned > kernels::rotary_most)
        config.refuse("partial_rotary_factor", "an even number of elements up to 512",
                      std::to_string(turned));
    return turned;
}

// Of the sizes that every attention has; heads: the field of their number.
inline void expect_heads(const PublishedConfig& config, const RuntimeGroupedAttentionShape& s,
                         std::string_view heads) {
    config.width(heads, s.n_heads, s.head_dim);
    config.expect_divides(heads, s.n_heads, s.n_kv_heads);
    config.expect_divides("head_dim", s.head_dim, 4);
}

}  // namespace HYDRALM_NAMESPACE::families
