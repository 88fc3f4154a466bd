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

// Walks through JSON without building anything, and throws Error for what parse_json refuses.
class JsonCheck final : public Json::json_sax_t {
public:
    JsonCheck(const std::string& file, const std::string& part) : file_(file), part_(part) {}

    bool null() override { return value(); }
    bool boolean(bool) override { return value(); }
    bool number_integer(Json::number_integer_t) override { return value(); }
    bool number_unsigned(Json::number_unsigned_t) override { return value(); }
    bool number_float(Json::number_float_t, const std::string&) override { return value(); }
    bool string(std::string&) override { return value(); }
    bool binary(Json::binary_t&) override { return value(); }
    bool start_object(std::size_t) override { return open(false); }
    bool start_array(std::size_t) override { return open(true); }
    bool end_object() override { return close(); }
    bool end_array() override { return close(); }
    bool key(std::string& name) override {
        if (!levels_.back().keys.insert(name).second)
            refuse("each key once", "\"" + name + "\" twice", "remove one of the two");
        return true;
    }
    bool parse_error(std::size_t, const std::string&, const Json::exception& error) override {
        refuse("JSON", plain_message(error),
               "mend the syntax; a file that was cut off must be copied again");
    }

private:
    struct Level {
        bool is_array;
        std::size_t values = 0;
        std::set<std::string> keys{};
    };

    bool value() {
        if (!levels_.empty() && levels_.back().is_array && ++levels_.back().values > 65536)
            refuse("arrays of at most 65536 values", "a longer one", "shorten it");
        return true;
    }
    bool open(bool is_array) {
        value();
        if (levels_.size() == 32)
            refuse("values at most 32 deep", "deeper ones", "no file of this kind nests so deep");
        levels_.push_back({is_array});
        return true;
    }
    bool close() {
        levels_.pop_back();
        return true;
    }
    [[noreturn]] void refuse(std::string expected, std::string found, const char* fix) const {
        throw Error({.file = file_,
                     .field = part_,
                     .expected = std::move(expected),
                     .found = std::move(found),
                     .fix = fix});
    }

    const std::string& file_;
    const std::string& part_;
    std::vector<Level> levels_;
};

// The value of text. part: which part of the file it is, for the message ("" when it is the whole).
// Throws Error for bad syntax, bad UTF-8, a key given twice in one object, and what no format here
// has: values more than 32 deep, which would exhaust the stack of whoever walks them, and arrays of
// more than 65536, whose memory would be many times their text.
inline Json parse_json(std::string_view text, const std::string& file, const std::string& part) {
    JsonCheck check(file, part);
    Json::sax_parse(text, &check);
    return Json::parse(text);
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
