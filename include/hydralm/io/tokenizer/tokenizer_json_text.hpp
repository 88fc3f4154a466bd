// The text of a tokenizer.json, read in one pass: its long lists as they are used, the rest as
// JSON.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hydralm/io/json_text.hpp"
#include "hydralm/io/tokenizer/tokenizer_parts.hpp"

namespace HYDRALM_NAMESPACE::detail {

// The largest of published models has 34 MB.
inline constexpr std::size_t tokenizer_bytes = 128'000'000;

struct TokenizerText {
    Json rest;  // without model.vocab and model.merges, where those are lists of a BPE tokenizer
    bool has_vocabulary = false, has_merges = false;
    std::vector<TokenizerParts::Token> vocabulary;
    std::vector<std::pair<std::string, std::string>> merges;
};

// Throws Error for what parse_json throws it for, for an id that is no integer, and for a merge
// that is neither ["a", "b"] nor "a b".
class TokenizerTextReader final : public nlohmann::json_sax<Json> {
public:
    explicit TokenizerTextReader(const std::string& file) : file_(file) {}

    TokenizerText read(std::string_view text) && {
        expect_json_text(text, file_, "", tokenizer_bytes);
        Json::sax_parse(text, this);
        return std::move(text_);
    }

    bool null() override { return take(nullptr); }
    bool boolean(bool value) override { return take(value); }
    bool number_integer(number_integer_t value) override {
        return place_ == Place::vocabulary ? id(value) : take(value);
    }
    bool number_unsigned(number_unsigned_t value) override {
        if (place_ != Place::vocabulary) return take(value);
        return id(
            static_cast<std::int64_t>(std::min<std::uint64_t>(value, TokenizerParts::most_ids)));
    }
    bool number_float(number_float_t value, const string_t&) override { return take(value); }
    bool binary(binary_t&) override { return false; }  // JSON text has none
    bool string(string_t& value) override {
        if (place_ == Place::pair) {
            if (pair_.size() == 2) refuse_merge("more than two strings");
            pair_.push_back(std::move(value));
            return true;
        }
        if (place_ != Place::merges) return take(std::move(value));
        const std::size_t space = value.find(' ');
        if (space == value.npos || value.find(' ', space + 1) != value.npos)
            refuse_merge('"' + value + '"');
        text_.merges.emplace_back(value.substr(0, space), value.substr(space + 1));
        return true;
    }

    bool start_object(std::size_t) override {
        if (place_ == Place::rest && open_.size() == 2 && key_ == "vocab" && in_model_) {
            if (std::exchange(text_.has_vocabulary, true)) refuse_twice();
            place_ = Place::vocabulary;
            return true;
        }
        return open(Json::object());
    }
    bool start_array(std::size_t) override {
        if (place_ == Place::merges) {
            place_ = Place::pair;
            pair_.clear();
            return true;
        }
        if (place_ == Place::rest && open_.size() == 2 && key_ == "merges" && in_model_) {
            if (std::exchange(text_.has_merges, true)) refuse_twice();
            place_ = Place::merges;
            return true;
        }
        return open(Json::array());
    }
    bool end_object() override {
        if (place_ == Place::vocabulary) place_ = Place::rest;
        else open_.pop_back();
        return true;
    }
    bool end_array() override {
        if (place_ == Place::pair) {
            if (pair_.size() != 2) refuse_merge("another number of strings");
            text_.merges.emplace_back(std::move(pair_[0]), std::move(pair_[1]));
            place_ = Place::merges;
        } else if (place_ == Place::merges) {
            place_ = Place::rest;
        } else {
            open_.pop_back();
        }
        return true;
    }
    bool key(string_t& name) override {
        key_ = std::move(name);
        if (place_ == Place::rest) {
            if (open_.back()->contains(key_)) refuse_twice();
            if (open_.size() == 1) in_model_ = key_ == "model";
        }
        return true;
    }
    bool parse_error(std::size_t, const std::string&, const Json::exception& error) override {
        fail("", "JSON", plain_message(error),
             "mend the syntax; a file that was cut off must be copied again");
    }

private:
    enum class Place { rest, vocabulary, merges, pair };

    [[noreturn]] void fail(std::string field, std::string expected, std::string found,
                           const char* fix) const {
        raise({.file = file_,
               .field = std::move(field),
               .expected = std::move(expected),
               .found = std::move(found),
               .fix = fix});
    }
    [[noreturn]] void refuse_twice() const {
        fail("", "each key once", '"' + key_ + "\" twice", "remove one of the two");
    }
    [[noreturn]] void refuse_merge(const std::string& found) const {
        fail("model.merges[" + std::to_string(text_.merges.size()) + "]", R"(["a", "b"] or "a b")",
             found, "write the file again with the tool that made it");
    }

    bool id(std::int64_t value) {
        text_.vocabulary.push_back(
            {std::move(key_), static_cast<token_id>(std::max<std::int64_t>(-1, value))});
        return true;
    }

    // A value that is no list of its own.
    bool take(Json value) {
        if (place_ == Place::vocabulary)
            fail("model.vocab \"" + key_ + '"', "an integer", shown(value),
                 "write the file again with the tool that made it");
        if (place_ != Place::rest) refuse_merge(shown(value));
        put(std::move(value));
        return true;
    }
    bool open(Json list) {
        if (place_ != Place::rest) return take(std::move(list));
        if (std::ssize(open_) == json_depth)
            fail("", "at most " + std::to_string(json_depth) + " lists and objects in each other",
                 "more", "this is not what the file should hold: write it again");
        open_.push_back(&put(std::move(list)));
        return true;
    }
    Json& put(Json value) {
        if (++values_ > json_values)
            fail("",
                 "at most " + std::to_string(json_values) + " values beside vocabulary and merges",
                 "more", "this is not what the file should hold: write it again");
        if (open_.empty()) return text_.rest = std::move(value);
        Json& list = *open_.back();
        if (list.is_object()) return list[key_] = std::move(value);
        list.push_back(std::move(value));
        return list.back();
    }

    const std::string& file_;
    TokenizerText text_;
    Place place_ = Place::rest;
    std::vector<Json*>
        open_;  // lists and objects, the outermost first; a list grows at its end only
    std::string key_;
    bool in_model_ = false;  // the outermost key is "model"
    int values_ = 0;
    std::vector<std::string> pair_;
};

}  // namespace HYDRALM_NAMESPACE::detail
