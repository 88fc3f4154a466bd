// The published models that open reads, by the model_type of their config.json, or by the
// architecture of their GGUF file.
#pragma once

#include <array>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "hydralm/families/fla_gated_delta_net.hpp"
#include "hydralm/families/fla_kda.hpp"
#include "hydralm/families/gguf_qwen35.hpp"
#include "hydralm/families/olmo_hybrid.hpp"
#include "hydralm/families/qwen3_5.hpp"
#include "hydralm/families/qwen3_next.hpp"

namespace HYDRALM_NAMESPACE::families {

inline constexpr std::array all{&qwen3_5, &qwen3_next, &olmo_hybrid, &fla_gated_delta_net,
                                &fla_kda};

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

// What a checkpoint of a published model says of itself.
struct Published {
    hydralm::detail::Json json;  // its config
    std::string file;            // which says it
    std::span<const FieldName> names;
    const Family* family;

    PublishedConfig config() const { return {json, file, names}; }
};

// By the metadata of a GGUF file, or by the config.json beside the checkpoint; none where that is
// one of ours. Throws Error for JSON that is none, and for models that are none of the families'.
inline std::optional<Published> published(const Checkpoint& checkpoint) {
    if (const GgufFile* const gguf = checkpoint.gguf()) {
        const std::string_view architecture = gguf->text("general.architecture");
        if (architecture != "qwen35")
            gguf->refuse("general.architecture", "qwen35", std::string(architecture),
                         "docs/published.md says which models are read");
        return Published{detail::qwen35_config(*gguf, checkpoint), gguf->name(),
                         detail::qwen35_names, &gguf_qwen35};
    }
    const std::string beside = (checkpoint.path().parent_path() / "config.json").string();
    std::error_code failure;
    if (checkpoint.metadata().contains("hydra_config") || !std::filesystem::exists(beside, failure))
        return {};
    auto json = parse_json(MappedFile(beside).text(), beside, "");
    if (!is_published(json)) return {};
    const Family& family = family_of(PublishedConfig(json, beside));
    return Published{std::move(json), beside, {}, &family};
}

}  // namespace HYDRALM_NAMESPACE::families
