// PublishedConfig: the config.json of a published model. Fields that nobody asks for are tolerated;
// one that would make another function of the model is refused by its name.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <string_view>

#include "hydralm/core/error.hpp"
#include "hydralm/core/types.hpp"
#include "hydralm/io/json_text.hpp"

namespace HYDRALM_NAMESPACE::families {

// What a file of another format calls a field, for messages.
struct FieldName {
    std::string_view field;
    std::string_view in_file;
};

class PublishedConfig {
public:
    using Json = hydralm::detail::Json;

    // root: the object of the file; the fields of a composite model's text stand in text_config.
    PublishedConfig(const Json& root, std::string file, std::span<const FieldName> names = {})
        : root_(root),
          fields_(root.contains("text_config") && root["text_config"].is_object()
                      ? root["text_config"]
                      : root),
          file_(std::move(file)),
          names_(names) {}

    const std::string& file() const noexcept { return file_; }
    // Null where there is none or where it is null.
    const Json* find(std::string_view field) const {
        const auto found = fields_.find(std::string(field));
        return found == fields_.end() || found->is_null() ? nullptr : &*found;
    }
    std::string model_type() const { return text_or("model_type", ""); }

    // A number of things: at most 2^24.
    Index size(std::string_view field) const {
        const Json* const value = find(field);
        if (value == nullptr) refuse(field, "a whole number from 1 to 2^24", "none");
        return size_of(field, *value);
    }
    Index size_or(std::string_view field, Index fallback) const {
        const Json* const value = find(field);
        return value == nullptr ? fallback : size_of(field, *value);
    }
    // The same, or 0.
    Index count_or(std::string_view field, Index fallback) const {
        const Json* const value = find(field);
        return value != nullptr && *value == 0 ? 0 : size_or(field, fallback);
    }
    // Of so many heads of such a width: at most 2^24 elements in all, which it returns.
    Index width(std::string_view field, Index heads, Index head_dim) const {
        if (head_dim < 1 || heads > most / head_dim)
            refuse(field, "heads of 1 to 2^24 elements in all",
                   std::to_string(heads) + " of " + std::to_string(head_dim));
        return heads * head_dim;
    }
    double number_or(std::string_view field, double fallback) const {
        return number_or(fields_, field, fallback);
    }
    double number_or(const Json& object, std::string_view field, double fallback) const {
        const auto found = object.find(std::string(field));
        if (found == object.end() || found->is_null()) return fallback;
        if (!found->is_number()) refuse(field, "a number", hydralm::detail::shown(*found));
        return found->get<double>();
    }
    // A number above 0.
    double positive_or(std::string_view field, double fallback) const {
        const double value = number_or(field, fallback);
        if (!(value > 0 && value < 1e30)) refuse(field, "a positive number", std::to_string(value));
        return value;
    }
    bool flag_or(std::string_view field, bool fallback) const {
        return flag_or(fields_, field, fallback);
    }
    bool flag_or(const Json& object, std::string_view field, bool fallback) const {
        const auto found = object.find(std::string(field));
        if (found == object.end() || found->is_null()) return fallback;
        if (!found->is_boolean()) refuse(field, "true or false", hydralm::detail::shown(*found));
        return found->get<bool>();
    }
    std::string text_or(std::string_view field, std::string fallback) const {
        const Json* const value = find(field);
        if (value == nullptr) return fallback;
        if (!value->is_string()) refuse(field, "a text", hydralm::detail::shown(*value));
        return value->get<std::string>();
    }
    // At the root, as composite configs have it, or among the fields of the text.
    bool ties_head() const {
        return root_.contains("tie_word_embeddings") ? flag_or(root_, "tie_word_embeddings", false)
                                                     : flag_or("tie_word_embeddings", false);
    }

    // Throw Error for what is not implemented.
    void expect_flag(std::string_view field, bool wanted) const {
        if (flag_or(field, wanted) != wanted)
            refuse(field, wanted ? "true" : "false", wanted ? "false" : "true");
    }
    void expect_silu(std::string_view field) const {
        const std::string found = text_or(field, "silu");
        if (found != "silu" && found != "swish") refuse(field, "silu", found);
    }
    // Nothing, null, false, 0 or an empty list.
    void expect_absent(std::string_view field) const {
        const Json* const value = find(field);
        if (value == nullptr || (value->is_boolean() && !value->get<bool>()) ||
            (value->is_number() && value->get<double>() == 0.0) ||
            (value->is_structured() && value->empty()))
            return;
        refuse(field, "none", hydralm::detail::shown(*value));
    }
    // That part divides whole, as heads divide into groups.
    void expect_divides(std::string_view field, Index whole, Index part) const {
        if (whole % part != 0)
            refuse(field, "a multiple of " + std::to_string(part), std::to_string(whole));
    }
    [[noreturn]] void refuse(std::string_view field, std::string expected,
                             std::string found) const {
        const auto named = std::ranges::find(names_, field, &FieldName::field);
        raise({.file = file_,
               .field = std::string(named == names_.end() ? field : named->in_file),
               .expected = std::move(expected),
               .found = std::move(found),
               .fix = "this model computes something that is not implemented, or its config "
                      "is damaged"});
    }

private:
    static constexpr Index most = Index{1} << 24;

    Index size_of(std::string_view field, const Json& value) const {
        if (!value.is_number_integer() || value.get<double>() < 1 ||
            value.get<double>() > static_cast<double>(most))
            refuse(field, "a whole number from 1 to 2^24", hydralm::detail::shown(value));
        return value.get<Index>();
    }

    const Json& root_;
    const Json& fields_;
    std::string file_;
    std::span<const FieldName> names_;
};

}  // namespace HYDRALM_NAMESPACE::families
