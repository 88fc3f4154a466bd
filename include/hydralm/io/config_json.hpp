// HydraConfig as JSON, both ways, and how two configurations differ.
//
// Field names are those of HydraConfig. A config travels in a checkpoint's
// __metadata__["hydra_config"], else in a config.json beside it.
#pragma once

#include "hydralm/io/checkpoint.hpp"
#include "hydralm/model/config.hpp"

namespace HYDRALM_NAMESPACE {
namespace detail {

// visit(name, field) for every field, in order. The binding names them all: adding a field breaks
// it.
template <class Config, class Visit>
constexpr void for_each_field(Config& config, Visit visit) {
    auto& [vocab_size, pad_token_id, d_model, n_layers, n_heads, head_dim, mlp_mult,
           mlp_multiple_of, dn_short_conv_kernel, dn_use_gate, dn_chunk_size, dn_norm_qk,
           swa_window, swa_rope_base, layer_types, swa_every, retrieval_every, retrieval_chunk_size,
           retrieval_top_k, mtp_depth, mtp_loss_weight, rms_eps, tie_embeddings, initializer_range,
           max_position_embeddings] = config;
    visit("vocab_size", vocab_size);
    visit("pad_token_id", pad_token_id);
    visit("d_model", d_model);
    visit("n_layers", n_layers);
    visit("n_heads", n_heads);
    visit("head_dim", head_dim);
    visit("mlp_mult", mlp_mult);
    visit("mlp_multiple_of", mlp_multiple_of);
    visit("dn_short_conv_kernel", dn_short_conv_kernel);
    visit("dn_use_gate", dn_use_gate);
    visit("dn_chunk_size", dn_chunk_size);
    visit("dn_norm_qk", dn_norm_qk);
    visit("swa_window", swa_window);
    visit("swa_rope_base", swa_rope_base);
    visit("layer_types", layer_types);
    visit("swa_every", swa_every);
    visit("retrieval_every", retrieval_every);
    visit("retrieval_chunk_size", retrieval_chunk_size);
    visit("retrieval_top_k", retrieval_top_k);
    visit("mtp_depth", mtp_depth);
    visit("mtp_loss_weight", mtp_loss_weight);
    visit("rms_eps", rms_eps);
    visit("tie_embeddings", tie_embeddings);
    visit("initializer_range", initializer_range);
    visit("max_position_embeddings", max_position_embeddings);
}

inline Json field_json(bool value) { return value; }
inline Json field_json(int value) { return value; }
inline Json field_json(double value) { return value; }
inline Json field_json(const LayerTypes& types) {
    Json list = Json::array();
    for (int i = 0; i < types.size(); ++i) list.push_back(name(types[i]));
    return list;
}

// What a file says of a field.
struct FieldValue {
    const std::string& file;
    const char* name;
    const Json& json;
};

[[noreturn]] inline void refuse(const FieldValue& value, const char* expected) {
    throw Error({.file = value.file,
                 .field = value.name,
                 .expected = expected,
                 .found = shown(value.json),
                 .fix = "correct the value, or remove it to use the default"});
}

// Each takes a value into a field. Throws Error when it is of another type.
inline void take(const FieldValue& value, bool& field) {
    if (!value.json.is_boolean()) refuse(value, "true or false");
    field = value.json.get<bool>();
}
inline void take(const FieldValue& value, int& field) {
    const Json& json = value.json;
    if (!json.is_number_integer()) refuse(value, "a whole number");
    constexpr int largest = std::numeric_limits<int>::max();
    if (json.is_number_unsigned() ? json.get<std::uint64_t>() > std::uint64_t{largest}
                                  : json.get<std::int64_t>() < std::numeric_limits<int>::min())
        refuse(value, "a whole number of 32 bits");
    field = json.get<int>();
}
inline void take(const FieldValue& value, double& field) {
    if (!value.json.is_number()) refuse(value, "a number");
    field = value.json.get<double>();
}
inline void take(const FieldValue& value, LayerTypes& field) {
    const Json& json = value.json;
    if (json.is_null()) return;
    const auto expect = [&](bool good) {
        if (!good) refuse(value, "a list of at most 256 of \"deltanet\", \"swa\", \"retrieval\"");
    };
    expect(json.is_array() && json.size() <= LayerTypes::capacity);
    LayerTypes types;
    for (const Json& item : json) {
        const auto* text = item.get_ptr<const std::string*>();
        bool known = false;
        for (const LayerType type : {LayerType::deltanet, LayerType::swa, LayerType::retrieval}) {
            if (text == nullptr || *text != name(type)) continue;
            types.push_back(type);
            known = true;
        }
        expect(known);
    }
    field = types;
}

}  // namespace detail

// The configuration that text describes, head_dim and layer_types as they are there. Missing fields
// take their defaults; head_dim null is 0, layer_types null is by the schedule. file_name: for
// messages. Throws Error naming the field for an unknown field, one given twice, a value of another
// type, and one that breaks a rule of HydraConfig.
inline HydraConfig config_from_json(std::string_view text, const std::string& file_name) {
    using detail::Json;
    const Json json = detail::parse_json(text, file_name, "");
    if (!json.is_object())
        throw Error({.file = file_name,
                     .expected = "a JSON object",
                     .found = detail::shown(json),
                     .fix = "use {}"});
    HydraConfig config;
    std::size_t known = 0;
    detail::for_each_field(config, [&](const char* field_name, auto& field) {
        const auto found = json.find(field_name);
        if (found == json.end()) return;
        ++known;
        if (found->is_null() && std::string_view(field_name) == "head_dim") return;
        detail::take({file_name, field_name, *found}, field);
    });
    if (known != json.size()) {
        const HydraConfig defaults;
        std::set<std::string_view> names;
        detail::for_each_field(
            defaults, [&](const char* field_name, const auto&) { names.insert(field_name); });
        for (const auto& [key, value] : json.items()) {
            if (names.contains(key)) continue;
            throw Error({.file = file_name,
                         .field = key,
                         .expected = "only fields of HydraConfig",
                         .found = "an unknown one",
                         .fix = "remove it or correct its spelling"});
        }
    }
    if (const ConfigRule broken = broken_rule(config); broken != ConfigRule::none) {
        const std::string_view rule = hydralm::text(broken);  // "<field>: <rule>; <fix>"
        const std::size_t colon = rule.find(": ");
        const std::string field_name(rule.substr(0, colon));
        std::string value;
        detail::for_each_field(config, [&](const char* other, const auto& field) {
            if (field_name == other) value = detail::shown(detail::field_json(field));
        });
        throw Error({.file = file_name,
                     .field = field_name,
                     .found = value,
                     .fix = std::string(rule.substr(std::min(colon + 2, rule.size())))});
    }
    return config;
}

// Every field, in the order of HydraConfig, head_dim and layer_types written out. One line; indent
// ≥ 0 makes it a line per field. config is valid. config_from_json gives back resolved(config),
// every double to its last bit.
inline std::string config_to_json(const HydraConfig& config, int indent = -1) {
    const HydraConfig full = resolved(config);
    const std::string line =
        indent < 0 ? "" : "\n" + std::string(static_cast<std::size_t>(indent), ' ');
    std::string text = "{";
    detail::for_each_field(full, [&](const char* name, const auto& field) {
        text += (text.size() > 1 ? "," : "") + line + "\"" + name + (indent < 0 ? "\":" : "\": ");
        text += detail::field_json(field).dump();
    });
    return text + (indent < 0 ? "}" : "\n}\n");
}

// "field: expected X, found Y" for every field in which two valid configurations differ, advice and
// training included; empty when they are the same. head_dim and layer_types are compared as what
// they come to, and the two fields of the schedule by the layers they make.
inline std::vector<std::string> config_differences(const HydraConfig& expected,
                                                   const HydraConfig& found) {
    using detail::Json;
    const HydraConfig a = resolved(expected);
    const HydraConfig b = resolved(found);
    std::vector<Json> values;
    detail::for_each_field(
        a, [&](const char*, const auto& field) { values.push_back(detail::field_json(field)); });
    std::vector<std::string> differences;
    std::size_t i = 0;
    detail::for_each_field(b, [&](std::string_view field_name, const auto& field) {
        const Json value = detail::field_json(field);
        const Json& other = values[i++];
        if (value == other || field_name == "swa_every" || field_name == "retrieval_every") return;
        differences.push_back(std::string(field_name) + ": expected " + detail::shown(other) +
                              ", found " + detail::shown(value));
    });
    return differences;
}

// Throws Error listing the fields in which found differs from expected.
inline void expect_config(const HydraConfig& expected, const HydraConfig& found,
                          const std::string& file_name) {
    const std::vector<std::string> differences = config_differences(expected, found);
    if (differences.empty()) return;
    std::string list;
    for (const std::string& difference : differences)
        list += (list.empty() ? "" : "; ") + difference;
    throw Error({.file = file_name,
                 .field = "config: " + list,
                 .fix = "use a model type of the file's config"});
}

// The configuration of a checkpoint: its __metadata__["hydra_config"], else the config.json beside
// it. Throws Error when there is neither, when both are there and differ, and all that
// config_from_json throws.
inline HydraConfig read_config(const Checkpoint& checkpoint) {
    const auto beside = checkpoint.path().parent_path() / "config.json";
    std::error_code failure;
    const bool has_file = std::filesystem::exists(beside, failure);
    const auto entry = checkpoint.metadata().find("hydra_config");
    if (entry == checkpoint.metadata().end()) {
        if (has_file) return config_from_json(MappedFile(beside).text(), beside.string());
        throw Error({.file = checkpoint.name(),
                     .expected = "__metadata__[\"hydra_config\"] or a config.json beside the file",
                     .found = "neither",
                     .fix = "copy the model's config.json there"});
    }
    const HydraConfig inside =
        config_from_json(entry->second, checkpoint.name() + ", hydra_config");
    if (has_file) {
        const HydraConfig outside = config_from_json(MappedFile(beside).text(), beside.string());
        try {
            expect_config(inside, outside, beside.string());
        } catch (const Error& error) {
            throw Error({.file = error.detail().file,
                         .field = error.detail().field,
                         .fix = "it belongs to another model than " + checkpoint.name() +
                                ": remove the wrong one"});
        }
    }
    return inside;
}

}  // namespace HYDRALM_NAMESPACE
