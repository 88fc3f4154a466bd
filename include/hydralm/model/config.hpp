// HydraConfig: the whole description of a model, as a structural constexpr value that is used as a
// template argument.
//
// Field names and defaults stand here, and are the file format's (JSON uses the same names); what
// each field means, and the rule it must keep, in the table of config_fields.hpp.
// scripts/generate_config_header.py reads the names of fields and layer types from this file.
#pragma once

#include <array>
#include <initializer_list>

#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE {

enum class LayerType : std::uint8_t { deltanet, swa, retrieval, full };

// What files call them, in the same order. Their initials are the letters of schedule_summary.
inline constexpr std::array layer_type_names{"deltanet", "swa", "retrieval", "full"};

constexpr const char* name(LayerType type) noexcept {
    return layer_type_names[static_cast<std::size_t>(type)];
}

// The mixer of every layer, first to last; empty means: by the schedule. All members are public
// because a template argument needs a structural type.
struct LayerTypes {
    static constexpr int capacity = 256;

    std::array<LayerType, capacity + 1> types{};  // one more than a valid config has
    int count = 0;

    constexpr LayerTypes() = default;
    constexpr LayerTypes(std::initializer_list<LayerType> list) {
        for (const LayerType type : list) push_back(type);
    }
    // A list of more than capacity layers is too long, however many they are.
    constexpr void push_back(LayerType type) {
        if (count <= capacity) types[static_cast<std::size_t>(count++)] = type;
    }
    constexpr int size() const noexcept { return count; }
    constexpr bool empty() const noexcept { return count == 0; }
    constexpr LayerType operator[](Index i) const noexcept {
        return types[static_cast<std::size_t>(i)];
    }
    constexpr int count_of(LayerType type) const noexcept {
        int n = 0;
        for (int i = 0; i < count; ++i) n += types[static_cast<std::size_t>(i)] == type ? 1 : 0;
        return n;
    }
    constexpr bool operator==(const LayerTypes&) const = default;
};

// A member here and its line in config_fields are all there is to a field.
struct HydraConfig {
    int vocab_size = 32000;
    int pad_token_id = 0;
    int d_model = 768;
    int n_layers = 12;
    int n_heads = 12;
    int head_dim = 0;
    int n_kv_heads = 0;
    double mlp_mult = 8.0 / 3.0;
    int mlp_multiple_of = 64;
    int dn_short_conv_kernel = 4;
    bool dn_use_gate = true;
    int dn_chunk_size = 64;
    bool dn_norm_qk = true;
    bool dn_negative_eigenvalues = false;
    int swa_window = 512;
    double swa_rope_base = 10000.0;
    LayerTypes layer_types{};
    int swa_every = 4;
    int retrieval_every = 0;
    int retrieval_chunk_size = 128;
    int retrieval_top_k = 8;
    int mtp_depth = 0;
    double mtp_loss_weight = 0.1;
    double rms_eps = 1e-5;
    bool tie_embeddings = true;
    double initializer_range = 0.02;
    int max_position_embeddings = 1048576;

    constexpr bool operator==(const HydraConfig&) const = default;
};

// The mixer of layer i by the schedule: swa if (i+1) mod swa_every = 0, else retrieval if (i+1) mod
// retrieval_every = 0, else deltanet. Layers count from 0.
constexpr LayerType scheduled_layer(const HydraConfig& c, Index i) noexcept {
    if (c.swa_every > 0 && (i + 1) % c.swa_every == 0) return LayerType::swa;
    if (c.retrieval_every > 0 && (i + 1) % c.retrieval_every == 0) return LayerType::retrieval;
    return LayerType::deltanet;
}

// c with head_dim and layer_types written out, however they were given, and n_kv_heads 0 where it
// says as many as heads. swa_every and retrieval_every stay. c is valid.
constexpr HydraConfig resolved(HydraConfig c) {
    if (c.head_dim == 0) c.head_dim = c.d_model / c.n_heads;
    if (c.n_kv_heads == c.n_heads) c.n_kv_heads = 0;
    if (c.layer_types.empty())
        for (Index i = 0; i < c.n_layers; ++i) c.layer_types.push_back(scheduled_layer(c, i));
    return c;
}

// Width of the SwiGLU hidden layer: floor(d_model · mlp_mult) rounded up to a multiple of
// mlp_multiple_of.
constexpr Index mlp_hidden(const HydraConfig& c) noexcept {
    return round_up(static_cast<Index>(c.d_model * c.mlp_mult), c.mlp_multiple_of);
}

namespace presets {

// Bytes in, bytes out; trains in minutes on a laptop.
inline constexpr HydraConfig small{
    .vocab_size = 256, .d_model = 128, .n_layers = 4, .n_heads = 4, .swa_window = 128};
// The million-token demonstration: 2 layers, 64 wide.
inline constexpr HydraConfig tiny{.vocab_size = 256,
                                  .d_model = 64,
                                  .n_layers = 2,
                                  .n_heads = 2,
                                  .swa_window = 256,
                                  .swa_every = 2};
// The 20-layer shape of the claims.
inline constexpr HydraConfig deep{
    .vocab_size = 256, .d_model = 128, .n_layers = 20, .n_heads = 4, .swa_window = 128};
// The same with every mixer: 10 gated delta rule, 5 sliding window, 5 retrieval.
inline constexpr HydraConfig hybrid{.vocab_size = 256,
                                    .d_model = 128,
                                    .n_layers = 20,
                                    .n_heads = 4,
                                    .swa_window = 128,
                                    .retrieval_every = 3,
                                    .retrieval_chunk_size = 32,
                                    .retrieval_top_k = 4};
// D D D S R with the chunks that were measured to train (docs/retrieval.md): learns to answer
// questions about a million tokens in minutes. The defaults of HydraConfig, 128 and 8, are those of
// files that leave them out.
inline constexpr HydraConfig remembering{
    .vocab_size = 512,
    .d_model = 64,
    .n_layers = 5,
    .n_heads = 2,
    .mlp_mult = 2.0,
    .swa_window = 64,
    .layer_types = {LayerType::deltanet, LayerType::deltanet, LayerType::deltanet, LayerType::swa,
                    LayerType::retrieval},
    .retrieval_chunk_size = 32,
    .retrieval_top_k = 4};

}  // namespace presets
}  // namespace HYDRALM_NAMESPACE
