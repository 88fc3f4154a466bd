// What a model is made of as JSON, for models that no config describes, and where two differ.
//
// Such a model's files carry it as __metadata__["hydra_stack"]:
//   {"vocab_size": 256, "tied": true, "norm": MODULE, "mtp": {"depth": 1, "module": …},
//    "blocks": [{"mixer": MODULE, "mlp": MODULE, "norm": MODULE}, …]}
// (a block with "norm_behind": true has its norms behind mixer and MLP) with MODULE = {"module":
// its name, option: value, …, part: MODULE, …}, as the module's describe says.
#pragma once

#include <string>
#include <string_view>

#include "hydralm/io/json_text.hpp"
#include "hydralm/layers/rms_norm.hpp"
#include "hydralm/layers/swiglu.hpp"
#include "hydralm/model/hybrid_shape.hpp"
#include "hydralm/model/language_model.hpp"

namespace HYDRALM_NAMESPACE {
namespace detail {

class ModuleJson {
public:
    void module(std::string_view name) { json_["module"] = name; }
    void option(std::string_view field, const auto& value) { json_[std::string(field)] = value; }
    void part(std::string_view field, const auto& module) {
        ModuleJson described;
        module.describe(described);
        json_[std::string(field)] = described.json_;
    }
    const Json& json() const noexcept { return json_; }

private:
    Json json_ = Json::object();
};

template <class Module>
Json module_json(const Module& module) {
    ModuleJson described;
    module.describe(described);
    return described.json();
}

}  // namespace detail

// The text of hydra_stack for a model. Allocates.
template <class Model>
std::string stack_to_json() {
    using detail::Json;
    Json blocks = Json::array();
    Model::stack.for_each([&](const auto& block, auto) {
        blocks.push_back({{"mixer", detail::module_json(block.mixer())},
                          {"mlp", detail::module_json(block.mlp_part().inner())},
                          {"norm", detail::module_json(block.mixer_part().norm())}});
        if (block.mixer_part().norm_behind) blocks.back()["norm_behind"] = true;
    });
    Json json{{"vocab_size", Model::vocab_size()},
              {"tied", Model::ties_head},
              {"norm", detail::module_json(Model::norm)},
              {"blocks", std::move(blocks)}};
    if constexpr (Model::mtp_depth > 0) {
        json["mtp"] = detail::module_json(Model::mtp_module);
        json["mtp"]["depth"] = Model::mtp_depth;
    }
    return json.dump();
}

// The same text for the LanguageModel of the type that a hybrid is as one
// (families/model_type.hpp). Allocates.
inline std::string stack_to_json(const HybridShape& shape) {
    using detail::Json;
    const Json norm =
        detail::module_json(RmsNorm<float, RuntimeNormShape>({shape.d_model, shape.epsilon}));
    const Json mlp =
        detail::module_json(SwiGLU<float, RuntimeMlpShape>({shape.d_model, shape.hidden}));
    Json blocks = Json::array();
    for (const HybridLayer& layer : shape.layers) {
        const auto* const delta_net = layer.delta_net();
        blocks.push_back(
            {{"mixer", delta_net != nullptr
                           ? detail::module_json(GroupedDeltaNet<float>(*delta_net))
                           : detail::module_json(GroupedAttention<float>(*layer.attention()))},
             {"mlp", mlp},
             {"norm", norm}});
        if (layer.norm == NormPlace::after) blocks.back()["norm_behind"] = true;
    }
    return Json{{"vocab_size", shape.vocab_size},
                {"tied", shape.ties_head},
                {"norm", norm},
                {"blocks", std::move(blocks)}}
        .dump();
}

// What a hybrid is made of. Allocates.
inline detail::Json hybrid_json(const HybridShape& shape) { return detail::module_json(shape); }

}  // namespace HYDRALM_NAMESPACE
