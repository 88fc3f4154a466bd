// HydraConfig as JSON, both ways, and how two configurations differ.
//
// Field by field as config_fields says. A config travels in a checkpoint's
// __metadata__["hydra_config"], else in a config.json beside it.
#pragma once

#include "hydralm/io/checkpoint.hpp"
#include "hydralm/model/config_fields.hpp"

namespace HYDRALM_NAMESPACE {
namespace detail {

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

[[noreturn]] inline void refuse(const FieldValue& value, std::string expected) {
    raise({.file = value.file,
           .field = value.name,
           .expected = std::move(expected),
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
        if (good) return;
        std::string names;
        for (const char* const known : layer_type_names)
            names += (names.empty() ? "\"" : ", \"") + std::string(known) + '"';
        refuse(value, "a list of at most " + std::to_string(LayerTypes::capacity) + " of " + names);
    };
    expect(json.is_array() && json.size() <= LayerTypes::capacity);
    LayerTypes types;
    for (const Json& item : json) {
        const auto* text = item.get_ptr<const std::string*>();
        expect(text != nullptr);
        const auto* const found = std::ranges::find(layer_type_names, std::string_view(*text));
        expect(found != layer_type_names.end());
        types.push_back(static_cast<LayerType>(found - layer_type_names.begin()));
    }
    field = types;
}

inline bool is_config_field(std::string_view key) {
    bool known = false;
    for_each_config_field([&](const auto& field) { known = known || key == field.name; });
    return known;
}

// The configuration that an object of nothing but fields describes. Throws Error naming the field
// for a value of another type and for one that breaks its rule.
inline HydraConfig config_of(const Json& fields, const std::string& file_name) {
    HydraConfig config;
    for_each_config_field([&](const auto& field) {
        const auto found = fields.find(field.name);
        if (found == fields.end()) return;
        if (found->is_null() && field.name == std::string_view("head_dim")) return;
        take({file_name, field.name, *found}, config.*field.member);
    });
    const BrokenRule broken = broken_rule(config);
    for_each_config_field([&](const auto& field) {
        if (broken.field != field.name) return;
        raise({.file = file_name,
               .field = field.name,
               .found = broken.field == "head_dim" && config.head_dim == 0
                            ? open_head_dim(config)
                            : shown(field_json(config.*field.member)),
               .fix = std::string(broken.text)});
    });
    return config;
}

}  // namespace detail

// The configuration that text describes, head_dim and layer_types as they are there. Missing fields
// take their defaults; head_dim null is 0, layer_types null is by the schedule. file_name: for
// messages. Throws Error naming the field for an unknown field, one given twice, a value of another
// type, and one that breaks a rule of HydraConfig.
inline HydraConfig config_from_json(std::string_view text, const std::string& file_name) {
    using detail::Json;
    const Json json = parse_json(text, file_name, "");
    if (!json.is_object())
        raise({.file = file_name,
               .expected = "a JSON object",
               .found = detail::shown(json),
               .fix = "use {}"});
    for (const auto& [key, value] : json.items())
        if (!detail::is_config_field(key))
            raise({.file = file_name,
                   .field = key,
                   .expected = "only fields of HydraConfig",
                   .found = "an unknown one",
                   .fix = "remove it or correct its spelling"});
    return detail::config_of(json, file_name);
}

// Every field, in the order of HydraConfig, head_dim and layer_types written out. One line; indent
// ≥ 0 makes it a line per field. config is valid. config_from_json gives back resolved(config),
// every double to its last bit.
inline std::string config_to_json(const HydraConfig& config, int indent = -1) {
    const HydraConfig full = resolved(config);
    const std::string line =
        indent < 0 ? "" : "\n" + std::string(static_cast<std::size_t>(indent), ' ');
    std::string text = "{";
    for_each_config_field([&](const auto& field) {
        text += (text.size() > 1 ? "," : "") + line + "\"" + field.name;
        text += (indent < 0 ? "\":" : "\": ") + detail::field_json(full.*field.member).dump();
    });
    return text + (indent < 0 ? "}" : "\n}\n");
}

// "field: expected X, found Y" for every field in which two valid configurations are those of
// different checkpoints, advice and training included; empty when there is none. head_dim and
// layer_types are compared as what they come to, the two fields of the schedule by the layers they
// make, dn_chunk_size not at all.
inline std::vector<std::string> config_differences(const HydraConfig& expected,
                                                   const HydraConfig& found) {
    const HydraConfig a = resolved(expected);
    const HydraConfig b = resolved(found);
    std::vector<std::string> differences;
    for_each_config_field([&](const auto& field) {
        const auto& value = a.*field.member;
        const auto& other = b.*field.member;
        if (field.compared == Compared::nowhere || value == other) return;
        differences.push_back(field.name +
                              (": expected " + detail::shown(detail::field_json(value))) +
                              ", found " + detail::shown(detail::field_json(other)));
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
    raise({.file = file_name,
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
        if (checkpoint.metadata().contains("hydra_stack"))
            raise({.file = checkpoint.name(),
                   .expected = "a model that a config describes",
                   .found = "a stack of somebody's own (hydra_stack)",
                   .fix = "load it as the LanguageModel type that wrote it"});
        raise({.file = checkpoint.name(),
               .expected = "__metadata__[\"hydra_config\"] or a config.json beside the file",
               .found = "neither",
               .fix = "copy the model's config.json there"});
    }
    const HydraConfig inside =
        config_from_json(entry->second, checkpoint.name() + ", hydra_config");
    if (has_file) {
        const HydraConfig outside = config_from_json(MappedFile(beside).text(), beside.string());
        attempt([&] { expect_config(inside, outside, beside.string()); },
                [&](const Error& error) {
                    raise({.file = error.detail().file,
                           .field = error.detail().field,
                           .fix = "it belongs to another model than " + checkpoint.name() +
                                  ": remove the wrong one"});
                });
    }
    return inside;
}

}  // namespace HYDRALM_NAMESPACE
