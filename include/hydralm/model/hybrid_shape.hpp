// HybridShape: what a model is made of whose layers no HydraConfig names: a published hybrid's,
// read at run time (families/).
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "hydralm/layers/grouped_attention.hpp"
#include "hydralm/layers/grouped_delta_net.hpp"
#include "hydralm/model/config.hpp"

namespace HYDRALM_NAMESPACE {

// Where the norms of a block stand: x + f(norm(x)), or x + norm(f(x)).
enum class NormPlace : std::uint8_t { before, after };
constexpr std::string_view name(NormPlace place) noexcept {
    return place == NormPlace::before ? "before" : "after";
}

struct HybridLayer {
    std::variant<RuntimeGroupedDeltaNetShape, RuntimeGroupedAttentionShape> mixer;
    NormPlace norm = NormPlace::before;

    bool operator==(const HybridLayer&) const = default;
    const RuntimeGroupedDeltaNetShape* delta_net() const noexcept {
        return std::get_if<RuntimeGroupedDeltaNetShape>(&mixer);
    }
    const RuntimeGroupedAttentionShape* attention() const noexcept {
        return std::get_if<RuntimeGroupedAttentionShape>(&mixer);
    }
    template <class V>
    void describe(V& v) const {
        v.module("block");
        v.option("norm", name(norm));
        if (delta_net() != nullptr) v.part("mixer", GroupedDeltaNet<float>(*delta_net()));
        else v.part("mixer", GroupedAttention<float>(*attention()));
    }
};

// Mixers of every layer, first to last; a SwiGLU of `hidden` behind each; RMS norms of one ε. A
// norm after is of attention alone.
struct HybridShape {
    std::string family;  // what its files call it
    Index vocab_size = 0, d_model = 0, hidden = 0;
    double epsilon = 1e-6;
    bool ties_head = false;
    std::vector<HybridLayer> layers;
    // The attention of its module of multi-token prediction (HybridMtp), where it has one: no part
    // of the model itself.
    std::optional<RuntimeGroupedAttentionShape> mtp{};

    template <class V>
    void describe(V& v) const {
        v.module("hybrid");
        v.option("family", family);
        v.option("vocab_size", vocab_size);
        v.option("d_model", d_model);
        v.option("hidden", hidden);
        v.option("epsilon", epsilon);
        v.option("ties_head", ties_head);
        for (std::size_t i = 0; i < layers.size(); ++i)
            v.part("blocks." + std::to_string(i), layers[i]);
    }
};

// The fields of a HydraConfig that a hybrid has too, heads those of attention where there is any:
// what reports show of any model.
inline HydraConfig summary_of(const HybridShape& shape) {
    HydraConfig c{
        .vocab_size = static_cast<int>(shape.vocab_size),
        .d_model = static_cast<int>(shape.d_model),
        .n_layers = static_cast<int>(shape.layers.size()),
        .mlp_mult = static_cast<double>(shape.hidden) / static_cast<double>(shape.d_model),
        .mlp_multiple_of = 1,
        .rms_eps = shape.epsilon,
        .tie_embeddings = shape.ties_head};
    if (const auto* first = shape.layers.front().delta_net()) {
        c.n_heads = static_cast<int>(first->value_heads);
        c.head_dim = static_cast<int>(first->key_dim);
    }
    for (const HybridLayer& layer : shape.layers) {
        if (const auto* a = layer.attention()) {
            c.layer_types.push_back(a->window > 0 ? LayerType::swa : LayerType::full);
            c.n_heads = static_cast<int>(a->n_heads);
            c.n_kv_heads = static_cast<int>(a->n_kv_heads);
            c.head_dim = static_cast<int>(a->head_dim);
            if (a->window > 0) c.swa_window = static_cast<int>(a->window);
        } else {
            c.layer_types.push_back(LayerType::deltanet);
            c.dn_short_conv_kernel = static_cast<int>(layer.delta_net()->conv_kernel);
        }
    }
    return c;
}

}  // namespace HYDRALM_NAMESPACE
