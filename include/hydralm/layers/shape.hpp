// Shapes: what a mixer needs to know beside scalar, head dimension and chunk size.
//
// The trailing template parameter of a module. A static shape is empty and its numbers are
// constants; a run-time shape has the same names as data members, and the same module is then one
// whose shape was read from a file.
#pragma once

#include <concepts>
#include <string_view>

#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE {

// Shared by all mixers: d_model and n_heads; I = n_heads · head_dim.
template <Index DModel, Index NHeads>
struct MixerShape {
    static constexpr Index d_model = DModel;
    static constexpr Index n_heads = NHeads;
};

// Gated DeltaNet: taps of the short convolution, output gate, unit queries and keys, β in (0, 2).
template <Index DModel, Index NHeads, Index ConvKernel = 4, bool UseGate = true, bool NormQK = true,
          bool NegativeEigenvalues = false>
struct DeltaNetShape : MixerShape<DModel, NHeads> {
    static constexpr Index conv_kernel = ConvKernel;
    static constexpr bool use_gate = UseGate;
    static constexpr bool norm_qk = NormQK;
    static constexpr bool negative_eigenvalues = NegativeEigenvalues;
};

struct RuntimeDeltaNetShape {
    Index d_model = 0;
    Index n_heads = 0;
    Index conv_kernel = 4;
    bool use_gate = true;
    bool norm_qk = true;
    bool negative_eigenvalues = false;
};

template <class S>
concept DeltaNetShaped = requires(const S& s) {
    { s.d_model + s.n_heads + s.conv_kernel } -> std::convertible_to<Index>;
    { s.use_gate } -> std::convertible_to<bool>;
    { s.norm_qk } -> std::convertible_to<bool>;
    { s.negative_eigenvalues } -> std::convertible_to<bool>;
};

// Sliding-window attention: the window, the base of the rotary frequencies.
template <Index DModel, Index NHeads, Index Window = 512, double RopeBase = 10000.0>
struct WindowShape : MixerShape<DModel, NHeads> {
    static constexpr Index window = Window;
    static constexpr double rope_base = RopeBase;
};

struct RuntimeWindowShape {
    Index d_model = 0;
    Index n_heads = 0;
    Index window = 512;
    double rope_base = 10000.0;
    Index head_dim = 0;  // of a head in a mixer of wider ones (rotary_table); 0: as wide
};

template <class S>
concept WindowShaped = requires(const S& s) {
    { s.d_model + s.n_heads + s.window } -> std::convertible_to<Index>;
    { s.rope_base } -> std::convertible_to<double>;
};

// Attention to the whole past: groups of keys and values (0: as many as heads), each read by
// n_heads / n_kv_heads heads; the base of the rotary frequencies.
template <Index DModel, Index NHeads, Index NKvHeads = 0, double RopeBase = 10000.0>
struct FullShape : MixerShape<DModel, NHeads> {
    static_assert(NKvHeads == 0 || NHeads % NKvHeads == 0,
                  "hydralm: n_kv_heads: must divide n_heads; each group of keys and values is read "
                  "by as many heads");
    static constexpr Index n_kv_heads = NKvHeads;
    static constexpr double rope_base = RopeBase;
};

struct RuntimeFullShape {
    Index d_model = 0;
    Index n_heads = 0;
    Index n_kv_heads = 0;
    double rope_base = 10000.0;
    Index head_dim = 0;  // of a head in a mixer of wider ones (rotary_table); 0: as wide
};

template <class S>
concept FullShaped = requires(const S& s) {
    { s.d_model + s.n_heads + s.n_kv_heads } -> std::convertible_to<Index>;
    { s.rope_base } -> std::convertible_to<double>;
};

// What an output of a mixer is multiplied by, of a projection of its input.
enum class OutputGate : std::uint8_t { none, silu, sigmoid };
constexpr std::string_view name(OutputGate gate) noexcept {
    return gate == OutputGate::none ? "none" : gate == OutputGate::silu ? "silu" : "sigmoid";
}

// Gated DeltaNet whose value heads share key heads (GroupedDeltaNet): value_heads is a multiple of
// key_heads, key_dim a multiple of 4; β in (0, beta_scale); ε of the norm of the outputs. With a
// decay_rank every key channel has a decay, projected through so many numbers, and key_dim is at
// most kernels::gated_delta_most_channels; with a gate_rank the gate is projected through so many,
// and has a bias.
struct RuntimeGroupedDeltaNetShape {
    Index d_model = 0;
    Index key_heads = 0, key_dim = 0;
    Index value_heads = 0, value_dim = 0;
    Index conv_kernel = 4;
    double beta_scale = 1.0;
    double epsilon = 1e-6;
    OutputGate gate = OutputGate::silu;
    Index decay_rank = 0;
    Index gate_rank = 0;

    bool operator==(const RuntimeGroupedDeltaNetShape&) const = default;
};

// The same numbers as constants.
template <RuntimeGroupedDeltaNetShape values>
struct GroupedDeltaNetShape {
    static constexpr Index d_model = values.d_model;
    static constexpr Index key_heads = values.key_heads, key_dim = values.key_dim;
    static constexpr Index value_heads = values.value_heads, value_dim = values.value_dim;
    static constexpr Index conv_kernel = values.conv_kernel;
    static constexpr double beta_scale = values.beta_scale;
    static constexpr double epsilon = values.epsilon;
    static constexpr OutputGate gate = values.gate;
    static constexpr Index decay_rank = values.decay_rank, gate_rank = values.gate_rank;
};

// What the RMS norms of queries and keys go over.
enum class QueryKeyNorm : std::uint8_t { none, each_head, all_heads };
constexpr std::string_view name(QueryKeyNorm norm) noexcept {
    return norm == QueryKeyNorm::none        ? "none"
           : norm == QueryKeyNorm::each_head ? "each_head"
                                             : "all_heads";
}

// Attention with grouped keys as published models have it (GroupedAttention): a window of so many
// tokens, or 0 for the whole past; the first rotary_dim elements of a head turn, 0 for none; ε of
// the norms of queries and keys; gate σ(gate_proj x); a bias of q, k and v.
struct RuntimeGroupedAttentionShape {
    Index d_model = 0;
    Index n_heads = 0, n_kv_heads = 0, head_dim = 0;
    Index window = 0;
    Index rotary_dim = 0;
    double rope_base = 10000.0;
    QueryKeyNorm norm = QueryKeyNorm::none;
    double epsilon = 1e-6;
    bool gate = false;
    bool bias = false;

    bool operator==(const RuntimeGroupedAttentionShape&) const = default;
};

// The same numbers as constants.
template <RuntimeGroupedAttentionShape values>
struct GroupedAttentionShape {
    static constexpr Index d_model = values.d_model;
    static constexpr Index n_heads = values.n_heads, n_kv_heads = values.n_kv_heads;
    static constexpr Index head_dim = values.head_dim;
    static constexpr Index window = values.window;
    static constexpr Index rotary_dim = values.rotary_dim;
    static constexpr double rope_base = values.rope_base;
    static constexpr QueryKeyNorm norm = values.norm;
    static constexpr double epsilon = values.epsilon;
    static constexpr bool gate = values.gate;
    static constexpr bool bias = values.bias;
};

// Retrieval attention: chunks a token reads beside its own, taps of the short convolution.
template <Index DModel, Index NHeads, Index TopK = 8, Index ConvKernel = 4>
struct RetrievalShape : MixerShape<DModel, NHeads> {
    static constexpr Index top_k = TopK;
    static constexpr Index conv_kernel = ConvKernel;
};

struct RuntimeRetrievalShape {
    Index d_model = 0;
    Index n_heads = 0;
    Index top_k = 8;
    Index conv_kernel = 4;
    Index chunk_size = 0;  // tokens of a chunk, at most the mixer's ChunkSize; 0: as many
};

template <class S>
concept RetrievalShaped = requires(const S& s) {
    { s.d_model + s.n_heads + s.top_k + s.conv_kernel } -> std::convertible_to<Index>;
};

// The head dimension that a shape says, where it does.
template <class Shape>
constexpr Index own_head_dim(const Shape& shape) noexcept {
    if constexpr (requires { shape.head_dim; }) return shape.head_dim;
    else return 0;
}

// SwiGLU: d_model in and out, hidden between.
template <Index DModel, Index Hidden>
struct MlpShape {
    static constexpr Index d_model = DModel;
    static constexpr Index hidden = Hidden;
};

struct RuntimeMlpShape {
    Index d_model = 0;
    Index hidden = 0;
};

template <class S>
concept MlpShaped = requires(const S& s) {
    { s.d_model + s.hidden } -> std::convertible_to<Index>;
};

// The residual stream around a module: its width and the ε of its norms.
template <Index DModel, double Epsilon = 1e-5>
struct NormShape {
    static constexpr Index d_model = DModel;
    static constexpr double epsilon = Epsilon;
};

struct RuntimeNormShape {
    Index d_model = 0;
    double epsilon = 1e-5;
};

}  // namespace HYDRALM_NAMESPACE
