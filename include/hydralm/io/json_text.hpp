// JSON as the formats here use it: strict, no key twice, errors that name the file.
#pragma once

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "hydralm/core/error.hpp"

namespace HYDRALM_NAMESPACE::detail {

using Json = nlohmann::json;

// nlohmann's message without its "[json.exception...] " tag.
inline std::string plain_message(const Json::exception& error) {
    const std::string_view text = error.what();
    const auto end = text.find("] ");
    return std::string(end == std::string_view::npos ? text : text.substr(end + 2));
}

// The value of text. part: which part of the file it is, for the message ("" when it is the whole).
// Throws Error for bad syntax, bad UTF-8, and a key given twice in one object.
inline Json parse_json(std::string_view text, const std::string& file, const std::string& part) {
    std::vector<std::set<std::string>> keys;
    const auto no_key_twice = [&](int, Json::parse_event_t event, const Json& value) {
        if (event == Json::parse_event_t::object_start) keys.emplace_back();
        if (event == Json::parse_event_t::object_end) keys.pop_back();
        if (event == Json::parse_event_t::key &&
            !keys.back().insert(value.get<std::string>()).second) {
            throw Error({.file = file,
                         .field = part,
                         .expected = "each key once",
                         .found = "\"" + value.get<std::string>() + "\" twice",
                         .fix = "remove one of the two"});
        }
        return true;
    };
    try {
        return Json::parse(text, no_key_twice);
    } catch (const Json::exception& error) {
        throw Error({.file = file,
                     .field = part,
                     .expected = "JSON",
                     .found = plain_message(error),
                     .fix = "mend the syntax; a file that was cut off must be copied again"});
    }
}

// text as a JSON string. Throws Json::exception unless it is UTF-8.
inline std::string quoted(std::string_view text) { return Json(text).dump(); }

// value as compact text, shortened for a message.
inline std::string shown(const Json& value) {
    std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (text.size() > 80) text = text.substr(0, 77) + "...";
    return text;
}

}  // namespace HYDRALM_NAMESPACE::detail
