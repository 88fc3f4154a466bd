// A model of model_type qwen3_5_text, for hydralm::load_published; written by `hydralm config`.
// clang-format off
#pragma once

#include <hydralm/layers/grouped_attention.hpp>
#include <hydralm/layers/grouped_delta_net.hpp>
#include <hydralm/layers/rms_norm.hpp>
#include <hydralm/layers/swiglu.hpp>
#include <hydralm/model/language_model.hpp>

namespace model_layers {

using Norm = hydralm::RmsNorm<float, hydralm::NormShape<40, 1e-06>>;
using Mlp = hydralm::SwiGLU<float, hydralm::MlpShape<40, 48>>;
using Layer0 = hydralm::Block<hydralm::GroupedDeltaNet<float, hydralm::GroupedDeltaNetShape<
    hydralm::RuntimeGroupedDeltaNetShape{.d_model = 40,
        .key_heads = 2, .key_dim = 16, .value_heads = 4, .value_dim = 16,
        .conv_kernel = 4, .beta_scale = 1.0, .epsilon = 1e-06, .gate = hydralm::OutputGate::silu}>>, Mlp, Norm>;
using Layer1 = hydralm::Block<hydralm::GroupedAttention<float, 64, hydralm::GroupedAttentionShape<
    hydralm::RuntimeGroupedAttentionShape{.d_model = 40,
        .n_heads = 4, .n_kv_heads = 2, .head_dim = 16, .window = 0,
        .rotary_dim = 4, .rope_base = 10000000.0, .norm = hydralm::QueryKeyNorm::each_head,
        .epsilon = 1e-06, .gate = true, .bias = false}>>, Mlp, Norm>;

}  // namespace model_layers

using Model = hydralm::LanguageModel<
    hydralm::Vocabulary<320, hydralm::tied>,
    hydralm::Stack<model_layers::Layer0, model_layers::Layer0, model_layers::Layer0, model_layers::Layer1>,
    model_layers::Norm, hydralm::NoMtp, hydralm::weights::Float>;
