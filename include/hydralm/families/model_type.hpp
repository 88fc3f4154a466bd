// model_type: a published model's shape as a C++ type, for programs that are made for it alone.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "hydralm/io/json_text.hpp"
#include "hydralm/model/hybrid_shape.hpp"

namespace HYDRALM_NAMESPACE {
namespace detail {

// A number as C++ and JSON write it, so that it is read as the same.
inline std::string literal(const auto& value) { return Json(value).dump(); }

inline std::string shape_text(const RuntimeGroupedDeltaNetShape& s) {
    return "\n    hydralm::RuntimeGroupedDeltaNetShape{.d_model = " + literal(s.d_model) +
           ",\n        .key_heads = " + literal(s.key_heads) +
           ", .key_dim = " + literal(s.key_dim) + ", .value_heads = " + literal(s.value_heads) +
           ", .value_dim = " + literal(s.value_dim) +
           ",\n        .conv_kernel = " + literal(s.conv_kernel) +
           ", .beta_scale = " + literal(s.beta_scale) + ", .epsilon = " + literal(s.epsilon) +
           ", .gate = hydralm::OutputGate::" + std::string(name(s.gate)) +
           (s.decay_rank > 0 ? ",\n        .decay_rank = " + literal(s.decay_rank) : "") +
           (s.gate_rank > 0 ? ", .gate_rank = " + literal(s.gate_rank) : "") + "}";
}
inline std::string shape_text(const RuntimeGroupedAttentionShape& s) {
    return "\n    hydralm::RuntimeGroupedAttentionShape{.d_model = " + literal(s.d_model) +
           ",\n        .n_heads = " + literal(s.n_heads) +
           ", .n_kv_heads = " + literal(s.n_kv_heads) + ", .head_dim = " + literal(s.head_dim) +
           ", .window = " + literal(s.window) +
           ",\n        .rotary_dim = " + literal(s.rotary_dim) +
           ", .rope_base = " + literal(s.rope_base) +
           ", .norm = hydralm::QueryKeyNorm::" + std::string(name(s.norm)) +
           ",\n        .epsilon = " + literal(s.epsilon) + ", .gate = " + literal(s.gate) +
           ", .bias = " + literal(s.bias) + "}";
}

// The mixer of a layer; T: the name of the scalar.
inline std::string mixer_text(const HybridLayer& layer, const std::string& T) {
    if (const auto* s = layer.delta_net())
        return "hydralm::GroupedDeltaNet<" + T + ", hydralm::GroupedDeltaNetShape<" +
               shape_text(*s) + ">>";
    return "hydralm::GroupedAttention<" + T + ", 64, hydralm::GroupedAttentionShape<" +
           shape_text(*layer.attention()) + ">>";
}

// The least number of layers that all of them repeat.
inline std::size_t period(const std::vector<HybridLayer>& layers) {
    for (std::size_t p = 1; p < layers.size(); ++p)
        if (layers.size() % p == 0 && std::equal(layers.begin() + static_cast<std::ptrdiff_t>(p),
                                                 layers.end(), layers.begin()))
            return p;
    return layers.size();
}

}  // namespace detail

// A header that names it Model, a LanguageModel of matrices kept as `weights` says (Float, BF16,
// Q8, Q4, Mixed) that computes in scalar T (float, double); load_published reads its weights, and
// its bits are those of open(folder, weights). Layers of a kind are one type. Allocates the text.
inline std::string model_type(const HybridShape& shape, const std::string& T = "float",
                              const std::string& weights = "Float") {
    using detail::literal;
    const std::string d = literal(shape.d_model);
    std::string text =
        "// A model of model_type " + shape.family +
        ", for hydralm::load_published; written by `hydralm config`.\n"
        "// clang-format off\n#pragma once\n\n#include <hydralm/layers/grouped_attention.hpp>\n"
        "#include <hydralm/layers/grouped_delta_net.hpp>\n"
        "#include <hydralm/layers/rms_norm.hpp>\n#include <hydralm/layers/swiglu.hpp>\n"
        "#include <hydralm/model/language_model.hpp>\n\nnamespace model_layers {\n\n"
        "using Norm = hydralm::RmsNorm<" +
        T + ", hydralm::NormShape<" + d + ", " + literal(shape.epsilon) +
        ">>;\nusing Mlp = hydralm::SwiGLU<" + T + ", hydralm::MlpShape<" + d + ", " +
        literal(shape.hidden) + ">>;\n";
    std::vector<HybridLayer> kinds;
    std::string stack;
    const std::size_t each = detail::period(shape.layers);
    for (std::size_t i = 0; i < each; ++i) {
        const HybridLayer& layer = shape.layers[i];
        const auto known = std::ranges::find(kinds, layer);
        const std::string kind = "Layer" + std::to_string(known - kinds.begin());
        stack += (i == 0 ? "" : ", ") + std::string("model_layers::") + kind;
        if (known != kinds.end()) continue;
        kinds.push_back(layer);
        text += "using " + kind + " = hydralm::Block<" + detail::mixer_text(layer, T) +
                ", Mlp, Norm" +
                (layer.norm == NormPlace::after ? ", hydralm::PostNormResidual" : "") + ">;\n";
    }
    if (each < shape.layers.size())
        stack =
            "hydralm::Repeat<" + std::to_string(shape.layers.size() / each) + ", " + stack + ">";
    return text +
           "\n}  // namespace model_layers\n\nusing Model = hydralm::LanguageModel<\n"
           "    hydralm::Vocabulary<" +
           literal(shape.vocab_size) + ", hydralm::" + (shape.ties_head ? "tied" : "untied") +
           ">,\n    hydralm::Stack<" + stack + ">,\n    model_layers::Norm, hydralm::NoMtp, " +
           "hydralm::weights::" + weights + ">;\n";
}

}  // namespace HYDRALM_NAMESPACE
