// Shapes: what a mixer needs to know beside scalar, head dimension and chunk size.
//
// The trailing template parameter of a module. A static shape is empty and its numbers are
// constants; a run-time shape has the same names as data members, and the same module is then one
// whose shape was read from a file.
#pragma once

#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE {

// Shared by all mixers: d_model and n_heads; I = n_heads · head_dim.
template <Index DModel, Index NHeads>
struct MixerShape {
    static constexpr Index d_model = DModel;
    static constexpr Index n_heads = NHeads;
};

// Gated DeltaNet: taps of the short convolution, output gate, unit queries and keys.
template <Index DModel, Index NHeads, Index ConvKernel = 4, bool UseGate = true, bool NormQK = true>
struct DeltaNetShape : MixerShape<DModel, NHeads> {
    static constexpr Index conv_kernel = ConvKernel;
    static constexpr bool use_gate = UseGate;
    static constexpr bool norm_qk = NormQK;
};

struct RuntimeDeltaNetShape {
    Index d_model = 0;
    Index n_heads = 0;
    Index conv_kernel = 4;
    bool use_gate = true;
    bool norm_qk = true;
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
};

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
