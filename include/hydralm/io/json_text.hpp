// JSON as the formats here use it: strict, no key twice, bounded, errors that name the file.
#pragma once

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "hydralm/core/error.hpp"
#include "hydralm/core/utf8.hpp"

namespace HYDRALM_NAMESPACE::detail {

using Json = nlohmann::json;

// nlohmann's message without its "[json.exception...] " tag.
inline std::string plain_message(const Json::exception& error) {
    const std::string_view text = error.what();
    const auto end = text.find("] ");
    return std::string(end == std::string_view::npos ? text : text.substr(end + 2));
}

// How long a text may be (the index of 100,000 tensors has half of it), for the memory it takes is
// several times its length; how deep lists and objects may lie in each other, for what walks them
// recurses; and how many values and keys there may be, for two bytes of text can become a hundred
// of memory.
inline constexpr std::size_t json_bytes = 20'000'000;
inline constexpr int json_depth = 16;
inline constexpr int json_values = 1'000'000;

// Reads a text without keeping it, and throws Error where parse_json does. (The parser that asks a
// callback looks through a whole list at the end of every object in it.)
class JsonRules final : public nlohmann::json_sax<Json> {
public:
    JsonRules(const std::string& file, const std::string& part) : file_(file), part_(part) {}

    bool null() override { return count(); }
    bool boolean(bool) override { return count(); }
    bool number_integer(number_integer_t) override { return count(); }
    bool number_unsigned(number_unsigned_t) override { return count(); }
    bool number_float(number_float_t, const string_t&) override { return count(); }
    bool string(string_t&) override { return count(); }
    bool binary(binary_t&) override { return count(); }
    bool start_array(std::size_t) override { return begin(); }
    bool end_array() override { return end(); }
    bool start_object(std::size_t) override { return begin(); }
    bool end_object() override { return end(); }
    bool key(string_t& name) override {
        if (!keys_.back().insert(name).second)
            fail("each key once", "\"" + name + "\" twice", "remove one of the two");
        return count();
    }
    bool parse_error(std::size_t, const std::string&, const Json::exception& error) override {
        fail("JSON", plain_message(error),
             "mend the syntax; a file that was cut off must be copied again");
    }

private:
    bool count() {
        if (++values_ > json_values) refuse_more_than(json_values, " values and keys");
        return true;
    }
    bool begin() {
        keys_.emplace_back();
        if (std::ssize(keys_) > json_depth)
            refuse_more_than(json_depth, " lists and objects in each other");
        return count();
    }
    bool end() {
        keys_.pop_back();
        return true;
    }

    [[noreturn]] void refuse_more_than(int most, const char* of_what) const {
        fail("at most " + std::to_string(most) + of_what, "more",
             "this is not what the file should hold: write it again");
    }
    [[noreturn]] void fail(std::string expected, std::string found, const char* fix) const {
        raise({.file = file_,
               .field = part_,
               .expected = std::move(expected),
               .found = std::move(found),
               .fix = fix});
    }

    const std::string& file_;
    const std::string& part_;
    std::vector<std::set<std::string>> keys_;  // of every list and object that is open
    int values_ = 0;
};

// Throws Error for what a parser would not see: too long a text, a byte-order mark, a zero byte.
inline void expect_json_text(std::string_view text, const std::string& file,
                             const std::string& part, std::size_t most_bytes) {
    if (text.size() > most_bytes)
        raise({.file = file,
               .field = part,
               .expected = "at most " + std::to_string(most_bytes) + " bytes of JSON",
               .found = std::to_string(text.size()),
               .fix = "this is not what the file should hold: write it again"});
    // nlohmann's reader would pass over the one, and end at the other.
    const bool marked = text.starts_with(byte_order_mark);
    if (const std::size_t zero = text.find('\0'); marked || zero != text.npos)
        raise({.file = file,
               .field = part,
               .expected = "JSON",
               .found = marked ? "a byte-order mark before it"
                               : "a zero byte at " + std::to_string(zero),
               .fix = "save it as UTF-8 text, without zero bytes or a byte-order mark"});
}

// text, which is UTF-8, as a JSON string.
inline std::string quoted(std::string_view text) { return Json(text).dump(); }

// value as compact text, shortened for a message.
inline std::string shown(const Json& value) {
    return one_line(value.dump(-1, ' ', false, Json::error_handler_t::replace), 80);
}

}  // namespace HYDRALM_NAMESPACE::detail

namespace HYDRALM_NAMESPACE {

// The value of text. file and part of it ("" when it is the whole): for the message. Throws Error
// for bad syntax, bad UTF-8, a byte-order mark, anything behind the value but whitespace, a key
// given twice in one object, and more than the above, of which a format may allow another number of
// bytes. scripts/generate_config_header.py has the same rules.
inline nlohmann::json parse_json(std::string_view text, const std::string& file,
                                 const std::string& part,
                                 std::size_t most_bytes = detail::json_bytes) {
    detail::expect_json_text(text, file, part, most_bytes);
    detail::JsonRules rules(file, part);
    nlohmann::json::sax_parse(text, &rules);
    return nlohmann::json::parse(text);
}

}  // namespace HYDRALM_NAMESPACE
