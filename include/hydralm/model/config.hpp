// HydraConfig: the whole description of a model, as a structural constexpr value, and the rules it
// must keep.
//
// Field names, meanings and defaults are the file format's (JSON uses the same names). A
// configuration is used as a template argument; ValidConfig<config> refuses an impossible one at
// compile time, broken_rule() at run time.
#pragma once

#include <array>
#include <initializer_list>
#include <limits>

#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE {

enum class LayerType : std::uint8_t { deltanet, swa, retrieval };

constexpr const char* name(LayerType type) noexcept {
    constexpr std::array names{"deltanet", "swa", "retrieval"};
    return names[static_cast<std::size_t>(type)];
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

struct HydraConfig {
    int vocab_size = 32000;
    int pad_token_id = 0;
    int d_model = 768;
    int n_layers = 12;
    int n_heads = 12;
    int head_dim = 0;              // 0: d_model / n_heads
    double mlp_mult = 8.0 / 3.0;   // SwiGLU width over d_model, before rounding up
    int mlp_multiple_of = 64;      // the SwiGLU width is a multiple of this
    int dn_short_conv_kernel = 4;  // taps of the causal convolution of Gated DeltaNet
    bool dn_use_gate = true;       // output gate silu(gate_proj x)
    int dn_chunk_size = 64;        // where a sequence may be cut; changes rounding at most
    bool dn_norm_qk = true;        // unit queries and keys
    int swa_window = 512;          // tokens a sliding-window layer sees, itself included
    double swa_rope_base = 10000.0;
    LayerTypes layer_types{};  // empty: built from swa_every and retrieval_every
    int swa_every = 4;         // every n-th layer is sliding-window attention; 0: none
    int retrieval_every = 0;   // every n-th layer is retrieval, unless it is swa; 0: none
    int retrieval_chunk_size = 128;
    int retrieval_top_k = 8;
    int mtp_depth = 0;  // multi-token-prediction modules; 0: none
    double mtp_loss_weight = 0.1;
    double rms_eps = 1e-5;
    bool tie_embeddings = true;  // the head is the embedding matrix
    double initializer_range = 0.02;
    int max_position_embeddings = 1048576;  // advice to tokenisers, never enforced

    constexpr bool operator==(const HydraConfig&) const = default;
};

// The mixer of layer i by the schedule: swa if (i+1) mod swa_every = 0, else retrieval if (i+1) mod
// retrieval_every = 0, else deltanet. Layers count from 0.
constexpr LayerType scheduled_layer(const HydraConfig& c, Index i) noexcept {
    if (c.swa_every > 0 && (i + 1) % c.swa_every == 0) return LayerType::swa;
    if (c.retrieval_every > 0 && (i + 1) % c.retrieval_every == 0) return LayerType::retrieval;
    return LayerType::deltanet;
}

// The rules a configuration must keep. Each has one text here and the same text in ValidConfig.
enum class ConfigRule {
    none,
    vocab_size,
    pad_token_id,
    d_model,
    n_layers,
    n_heads,
    head_dim_divides,
    head_dim_multiple,
    mlp_mult,
    mlp_multiple_of,
    dn_short_conv_kernel,
    dn_chunk_size,
    swa_window,
    swa_rope_base,
    layer_types,
    swa_every,
    retrieval_every,
    retrieval_chunk_size,
    retrieval_top_k,
    mtp_depth,
    mtp_loss_weight,
    rms_eps,
    initializer_range,
    max_position_embeddings
};

// The first rule that c breaks.
constexpr ConfigRule broken_rule(const HydraConfig& c) noexcept {
    using enum ConfigRule;
    const auto positive = [](double x) {
        return x > 0.0 && x < std::numeric_limits<double>::infinity();
    };
    constexpr int large = 1 << 24;  // keeps every product of two extents inside 64 bits
    if (c.vocab_size < 1 || c.vocab_size > large) return vocab_size;
    if (c.pad_token_id < 0 || c.pad_token_id >= c.vocab_size) return pad_token_id;
    if (c.d_model < 1 || c.d_model > large) return d_model;
    if (c.n_layers < 1 || c.n_layers > LayerTypes::capacity) return n_layers;
    if (c.n_heads < 1 || c.n_heads > large) return n_heads;
    if (c.head_dim == 0 && c.d_model % c.n_heads != 0) return head_dim_divides;
    const int head = c.head_dim == 0 ? c.d_model / c.n_heads : c.head_dim;
    if (head < 4 || head % 4 != 0 || head > 4096) return head_dim_multiple;
    if (!positive(c.mlp_mult) || c.mlp_mult * c.d_model < 1.0 || c.mlp_mult * c.d_model > large)
        return mlp_mult;
    if (c.mlp_multiple_of < 1 || c.mlp_multiple_of > large) return mlp_multiple_of;
    if (c.dn_short_conv_kernel < 1 || c.dn_short_conv_kernel > 64) return dn_short_conv_kernel;
    if (c.dn_chunk_size < 1 || c.dn_chunk_size > large) return dn_chunk_size;
    if (c.swa_window < 1 || c.swa_window > large) return swa_window;
    if (!positive(c.swa_rope_base)) return swa_rope_base;
    if (!c.layer_types.empty() && c.layer_types.size() != c.n_layers) return layer_types;
    if (c.swa_every < 0) return swa_every;
    if (c.retrieval_every < 0) return retrieval_every;
    if (c.retrieval_chunk_size < 1 || c.retrieval_chunk_size > large) return retrieval_chunk_size;
    if (c.retrieval_top_k < 1 || c.retrieval_top_k > large) return retrieval_top_k;
    if (c.mtp_depth < 0 || c.mtp_depth > 16) return mtp_depth;
    if (!(c.mtp_loss_weight >= 0.0) || c.mtp_loss_weight > 1e6) return mtp_loss_weight;
    if (!(c.rms_eps >= 1e-37 && c.rms_eps <= 1e37)) return rms_eps;  // what float holds
    if (!positive(c.initializer_range)) return initializer_range;
    if (c.max_position_embeddings < 1) return max_position_embeddings;
    return none;
}

// "<field>: <rule>; <usual fix>" of a broken rule.
constexpr const char* text(ConfigRule rule) noexcept {
    switch (rule) {
        using enum ConfigRule;
        case none: return "";
        case vocab_size:
            return "vocab_size: must be in [1, 2^24]; set the size of the tokeniser's vocabulary";
        case pad_token_id:
            return "pad_token_id: must be in [0, vocab_size); use 0 when there is no padding";
        case d_model: return "d_model: must be in [1, 2^24]; 128 to 4096 are usual";
        case n_layers: return "n_layers: must be in [1, 256]; use fewer layers";
        case n_heads: return "n_heads: must be in [1, 2^24]; usual is d_model / 64";
        case head_dim_divides:
            return "head_dim: n_heads must divide d_model; change n_heads or give head_dim "
                   "explicitly";
        case head_dim_multiple:
            return "head_dim: must be a multiple of 4 in [4, 4096] (RoPE pairs, SIMD); choose "
                   "n_heads so that it is";
        case mlp_mult:
            return "mlp_mult: must be positive and make a width in [1, 2^24]; 8/3 is usual";
        case mlp_multiple_of: return "mlp_multiple_of: must be in [1, 2^24]; 64 is usual";
        case dn_short_conv_kernel: return "dn_short_conv_kernel: must be in [1, 64]; 4 is usual";
        case dn_chunk_size: return "dn_chunk_size: must be in [1, 2^24]; 64 is usual";
        case swa_window: return "swa_window: must be in [1, 2^24]; 512 is usual";
        case swa_rope_base: return "swa_rope_base: must be positive and finite; 10000 is usual";
        case layer_types:
            return "layer_types: must name n_layers layers or none; leave it empty for the "
                   "schedule";
        case swa_every: return "swa_every: must not be negative; 0 means no sliding-window layer";
        case retrieval_every:
            return "retrieval_every: must not be negative; 0 means no retrieval layer";
        case retrieval_chunk_size:
            return "retrieval_chunk_size: must be in [1, 2^24]; 128 is usual";
        case retrieval_top_k: return "retrieval_top_k: must be in [1, 2^24]; 8 is usual";
        case mtp_depth: return "mtp_depth: must be in [0, 16]; 0 means none";
        case mtp_loss_weight: return "mtp_loss_weight: must be in [0, 1e6]; 0.1 is usual";
        case rms_eps: return "rms_eps: must be in [1e-37, 1e37]; 1e-5 is usual";
        case initializer_range:
            return "initializer_range: must be positive and finite; 0.02 is usual";
        case max_position_embeddings:
            return "max_position_embeddings: must be positive; it is advice only";
    }
    return "";
}

// Instantiating ValidConfig<config> compiles only when config keeps every rule; the message names
// the field.
template <HydraConfig config>
struct ValidConfig {
    static constexpr ConfigRule broken = broken_rule(config);
    using enum ConfigRule;
    static_assert(
        broken != vocab_size,
        "hydralm: vocab_size: must be in [1, 2^24]; set the size of the tokeniser's vocabulary");
    static_assert(
        broken != pad_token_id,
        "hydralm: pad_token_id: must be in [0, vocab_size); use 0 when there is no padding");
    static_assert(broken != d_model,
                  "hydralm: d_model: must be in [1, 2^24]; 128 to 4096 are usual");
    static_assert(broken != n_layers, "hydralm: n_layers: must be in [1, 256]; use fewer layers");
    static_assert(broken != n_heads,
                  "hydralm: n_heads: must be in [1, 2^24]; usual is d_model / 64");
    static_assert(broken != head_dim_divides,
                  "hydralm: head_dim: n_heads must divide d_model; change n_heads or give head_dim "
                  "explicitly");
    static_assert(broken != head_dim_multiple,
                  "hydralm: head_dim: must be a multiple of 4 in [4, 4096] (RoPE pairs, "
                  "SIMD); choose n_heads so that it is");
    static_assert(
        broken != mlp_mult,
        "hydralm: mlp_mult: must be positive and make a width in [1, 2^24]; 8/3 is usual");
    static_assert(broken != mlp_multiple_of,
                  "hydralm: mlp_multiple_of: must be in [1, 2^24]; 64 is usual");
    static_assert(broken != dn_short_conv_kernel,
                  "hydralm: dn_short_conv_kernel: must be in [1, 64]; 4 is usual");
    static_assert(broken != dn_chunk_size,
                  "hydralm: dn_chunk_size: must be in [1, 2^24]; 64 is usual");
    static_assert(broken != swa_window, "hydralm: swa_window: must be in [1, 2^24]; 512 is usual");
    static_assert(broken != swa_rope_base,
                  "hydralm: swa_rope_base: must be positive and finite; 10000 is usual");
    static_assert(
        broken != layer_types,
        "hydralm: layer_types: must name n_layers layers or none; leave it empty for the schedule");
    static_assert(broken != swa_every,
                  "hydralm: swa_every: must not be negative; 0 means no sliding-window layer");
    static_assert(broken != retrieval_every,
                  "hydralm: retrieval_every: must not be negative; 0 means no retrieval layer");
    static_assert(broken != retrieval_chunk_size,
                  "hydralm: retrieval_chunk_size: must be in [1, 2^24]; 128 is usual");
    static_assert(broken != retrieval_top_k,
                  "hydralm: retrieval_top_k: must be in [1, 2^24]; 8 is usual");
    static_assert(broken != mtp_depth, "hydralm: mtp_depth: must be in [0, 16]; 0 means none");
    static_assert(broken != mtp_loss_weight,
                  "hydralm: mtp_loss_weight: must be in [0, 1e6]; 0.1 is usual");
    static_assert(broken != rms_eps, "hydralm: rms_eps: must be in [1e-37, 1e37]; 1e-5 is usual");
    static_assert(broken != initializer_range,
                  "hydralm: initializer_range: must be positive and finite; 0.02 is usual");
    static_assert(broken != max_position_embeddings,
                  "hydralm: max_position_embeddings: must be positive; it is advice only");
    static constexpr bool value = broken == none;
};

// c with head_dim and layer_types written out, however they were given. swa_every and
// retrieval_every stay. c is valid.
constexpr HydraConfig resolved(HydraConfig c) {
    if (c.head_dim == 0) c.head_dim = c.d_model / c.n_heads;
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
