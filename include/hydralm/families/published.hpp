// The published models that open reads, by the model_type of their config.json.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "hydralm/families/fla_gated_delta_net.hpp"
#include "hydralm/families/olmo_hybrid.hpp"
#include "hydralm/families/qwen3_5.hpp"
#include "hydralm/families/qwen3_next.hpp"

namespace HYDRALM_NAMESPACE::families {

inline constexpr std::array all{&qwen3_5, &qwen3_next, &olmo_hybrid, &fla_gated_delta_net};

// That of a config. Throws Error, listing those there are, for another.
inline const Family& family_of(const PublishedConfig& config) {
    const std::string found = config.model_type();
    std::string known;
    for (const Family* family : all) {
        for (const std::string_view type : family->model_types)
            if (type == found) return *family;
        known += (known.empty() ? "" : ", ") + std::string(family->model_types[0]);
    }
    config.refuse("model_type", "one of " + known, found);
}

// The shape of the model that config.json describes. Throws Error, naming the field, for a model
// that is none of the families' or computes something that is not implemented.
inline HybridShape shape_from_json(std::string_view text, const std::string& file_name) {
    const auto json = hydralm::parse_json(text, file_name, "");
    if (!json.is_object())
        raise({.file = file_name,
               .expected = "a JSON object",
               .found = hydralm::detail::shown(json),
               .fix = "copy the model's config.json again"});
    const PublishedConfig config(json, file_name);
    return family_of(config).shape(config);
}

// Whether text is a published model's config: it has a model_type, which ours have not.
inline bool is_published(const hydralm::detail::Json& json) {
    return json.is_object() && json.contains("model_type");
}

}  // namespace HYDRALM_NAMESPACE::families
