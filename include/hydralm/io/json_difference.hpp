// Where two descriptions of models differ.
#pragma once

#include <algorithm>
#include <string>

#include "hydralm/io/json_text.hpp"

namespace HYDRALM_NAMESPACE::detail {

// Where found first differs from expected, "blocks.2.mixer.window: expected 128, found 64"; empty
// where it does not. Blocks are compared in order, a module's name before its options.
inline std::string json_difference(const Json& expected, const Json& found,
                                   const std::string& path = "") {
    const auto here = [&](const std::string& part) {
        return path.empty() ? part : path + "." + part;
    };
    if (expected == found) return "";
    if (expected.is_object() && found.is_object()) {
        if (const auto a = expected.find("module"), b = found.find("module");
            a != expected.end() && b != found.end() && *a != *b)
            return path + ": expected " + shown(*a) + ", found " + shown(*b);
        for (const auto& [key, value] : expected.items()) {
            const auto other = found.find(key);
            if (other == found.end())
                return here(key) + ": expected " + shown(value) + ", found nothing";
            if (std::string text = json_difference(value, *other, here(key)); !text.empty())
                return text;
        }
        for (const auto& [key, value] : found.items())
            if (!expected.contains(key))
                return here(key) + ": expected nothing, found " + shown(value);
    }
    if (expected.is_array() && found.is_array()) {
        for (std::size_t i = 0; i < std::min(expected.size(), found.size()); ++i)
            if (std::string text = json_difference(expected[i], found[i], here(std::to_string(i)));
                !text.empty())
                return text;
        return path + ": expected " + std::to_string(expected.size()) + " layers, found " +
               std::to_string(found.size());
    }
    return path + ": expected " + shown(expected) + ", found " + shown(found);
}

}  // namespace HYDRALM_NAMESPACE::detail
