// tokenizer.json of Hugging Face's tokenizers: BPE, byte-level or of characters with byte fallback.
//
// What changes the ids and is none of these is refused by its field. `truncation` and `padding`,
// which speak of batches, have no effect here.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "hydralm/io/tokenizer/byte_spelling.hpp"
#include "hydralm/io/tokenizer/tokenizer_json_text.hpp"
#include "hydralm/io/tokenizer/tokenizer_parts.hpp"

namespace HYDRALM_NAMESPACE {
namespace detail {

class TokenizerJsonReader {
public:
    TokenizerJsonReader(std::string_view text, const std::string& file)
        : text_(TokenizerTextReader(file).read(text)) {
        parts_.file = file;
    }

    TokenizerParts parts() && {
        expect(text_.rest.is_object(), "", "an object", text_.rest);
        read_model(member(text_.rest, "model"));
        read_added(member(text_.rest, "added_tokens"));
        for_each_step("normalizer", "normalizers",
                      [&](const auto& step, const auto& field) { read_normaliser(step, field); });
        for_each_step("pre_tokenizer", "pretokenizers",
                      [&](const auto& step, const auto& field) { read_splitter(step, field); });
        for_each_step("post_processor", "processors",
                      [&](const auto& step, const auto& field) { read_prefix(step, field); });
        for_each_step("decoder", "decoders",
                      [&](const auto& step, const auto& field) { read_decoder(step, field); });
        if (by_bytes())
            expect(parts_.split && is_byte_level_, "pre_tokenizer", "Split and ByteLevel",
                   member(text_.rest, "pre_tokenizer"));
        else
            expect(spaces_are_written_, "normalizer", R"(Replace of " " by "▁")",
                   member(text_.rest, "normalizer"));
        parts_.vocabulary = std::move(text_.vocabulary);
        parts_.merges = std::move(text_.merges);
        return std::move(parts_);
    }

private:
    bool by_bytes() const noexcept { return parts_.symbols == TokenizerParts::Symbols::bytes; }

    void expect(bool good, const std::string& field, const std::string& expected,
                const Json& found) const {
        if (!good)
            raise({.file = parts_.file,
                   .field = field,
                   .expected = expected,
                   .found = found.is_null() ? "none" : shown(found),
                   .fix = "docs/tokenizers.md says which tokenizers are read; others can be "
                          "used through ids"});
    }
    // null where there is none.
    static const Json& member(const Json& object, const char* name) {
        static const Json none;
        const auto found = object.is_object() ? object.find(name) : object.end();
        return found == object.end() ? none : *found;
    }
    bool flag(const Json& object, const char* name, const std::string& of, bool otherwise) const {
        const Json& value = member(object, name);
        expect(value.is_null() || value.is_boolean(), of + "." + name, "true or false", value);
        return value.is_null() ? otherwise : value.get<bool>();
    }
    // One of the values, or none.
    void expect_one_of(const Json& object, const char* name, const std::string& of,
                       std::initializer_list<Json> values, const std::string& said) const {
        const Json& value = member(object, name);
        expect(value.is_null() || std::ranges::count(values, value) > 0, of + "." + name, said,
               value);
    }

    // f(step, its field): of nothing, of one step, or of a Sequence of them.
    template <class F>
    void for_each_step(const char* field, const char* list, const F& f) const {
        const Json& value = member(text_.rest, field);
        if (value.is_null()) return;
        if (member(value, "type") != "Sequence") return f(value, std::string(field));
        const Json& steps = member(value, list);
        expect(steps.is_array(), std::string(field) + "." + list, "a list", steps);
        for (std::size_t i = 0; i < steps.size(); ++i)
            f(steps[i], std::string(field) + "." + list + "[" + std::to_string(i) + "]");
    }

    void read_model(const Json& model) {
        expect(model.is_object(), "model", "an object", model);
        expect_one_of(model, "type", "model", {"BPE"}, "BPE");
        expect(text_.has_vocabulary, "model.vocab", "an object of ids", member(model, "vocab"));
        expect(text_.has_merges, "model.merges", "a list", member(model, "merges"));
        expect_one_of(model, "dropout", "model", {0.0}, "null");
        for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"})
            expect_one_of(model, affix, "model", {""}, "null");
        if (flag(model, "byte_fallback", "model", false))
            parts_.symbols = TokenizerParts::Symbols::characters;
        parts_.whole_pieces_first = flag(model, "ignore_merges", "model", false);
    }

    void read_added(const Json& added) {
        expect(added.is_null() || added.is_array(), "added_tokens", "a list", added);
        for (std::size_t i = 0; i < added.size(); ++i) {
            const std::string field = "added_tokens[" + std::to_string(i) + "]";
            const Json &token = added[i], &content = member(token, "content"),
                       &id = member(token, "id");
            expect(content.is_string(), field + ".content", "a string", content);
            expect(id.is_number_integer(), field + ".id", "an integer", id);
            for (const char* option : {"single_word", "lstrip", "rstrip"})
                expect(!flag(token, option, field, false), field + "." + option, "false", true);
            const auto value = std::clamp<std::int64_t>(
                id.is_number_unsigned() && id.get<std::uint64_t>() > TokenizerParts::most_ids
                    ? TokenizerParts::most_ids
                    : id.get<std::int64_t>(),
                -1, TokenizerParts::most_ids);
            parts_.added.push_back({.text = content.get<std::string>(),
                                    .id = static_cast<token_id>(value),
                                    .special = flag(token, "special", field, false),
                                    .in_normalised = flag(token, "normalized", field, true)});
        }
    }

    void read_normaliser(const Json& step, const std::string& field) {
        const Json& type = member(step, "type");
        if (by_bytes()) {
            expect(type == "NFC", field + ".type", "NFC", type);
            parts_.nfc = true;
        } else if (type == "Prepend") {
            expect(member(step, "prepend") == written_space, field + ".prepend", "\"▁\"",
                   member(step, "prepend"));
            parts_.leading_space = TokenizerParts::LeadingSpace::always;
        } else {
            expect(type == "Replace", field + ".type", "Prepend or Replace", type);
            expect_replacement(step, field, " ", written_space);
            spaces_are_written_ = true;
        }
    }
    void expect_replacement(const Json& step, const std::string& field, std::string_view what,
                            std::string_view by) const {
        const Json& pattern = member(member(step, "pattern"), "String");
        expect(pattern == what, field + ".pattern.String", quoted(what), pattern);
        expect(member(step, "content") == by, field + ".content", quoted(by),
               member(step, "content"));
    }

    void read_splitter(const Json& step, const std::string& field) {
        const Json& type = member(step, "type");
        if (!by_bytes()) {
            expect(type == "Metaspace", field + ".type", "Metaspace", type);
            expect(!flag(step, "split", field, true), field + ".split", "false", true);
            read_metaspace(step, field);
        } else if (type == "Split") {
            const Json& regex = member(member(step, "pattern"), "Regex");
            expect(regex.is_string(), field + ".pattern.Regex", "a string", regex);
            parts_.split = split_rule(regex.get<std::string>());
            if (!parts_.split)
                raise({.file = parts_.file,
                       .field = field + ".pattern.Regex",
                       .expected = "that of Qwen2, Qwen3.5 or GPT-4",
                       .found = regex.get<std::string>(),
                       .fix = "docs/tokenizers.md says which tokenizers are read; others can "
                              "be used through ids"});
            // Every piece is matched: between them nothing is left, to be removed or not.
            const bool inverted = flag(step, "invert", field, false);
            const Json& behaviour = member(step, "behavior");
            expect(behaviour == (inverted ? "Removed" : "Isolated"), field + ".behavior",
                   inverted ? "Removed, where invert is true" : "Isolated", behaviour);
        } else {
            expect(type == "ByteLevel", field + ".type", "Split and ByteLevel", type);
            for (const char* option : {"add_prefix_space", "use_regex"})
                expect(!flag(step, option, field, true), field + "." + option, "false", true);
            is_byte_level_ = true;
        }
    }
    void read_metaspace(const Json& step, const std::string& field) {
        using LeadingSpace = TokenizerParts::LeadingSpace;
        expect(member(step, "replacement") == written_space, field + ".replacement", "\"▁\"",
               member(step, "replacement"));
        expect_one_of(step, "prepend_scheme", field, {"always", "first", "never"},
                      "always, first or never");
        const Json& scheme = member(step, "prepend_scheme");
        parts_.leading_space = scheme == "never"   ? LeadingSpace::never
                               : scheme == "first" ? LeadingSpace::unless_there_at_start
                                                   : LeadingSpace::unless_there;
        spaces_are_written_ = true;
    }

    // TemplateProcessing: what stands before the text itself, of one text.
    void read_prefix(const Json& step, const std::string& field) {
        const Json& type = member(step, "type");
        if (type == "ByteLevel") return;
        expect(type == "TemplateProcessing", field + ".type", "ByteLevel or TemplateProcessing",
               type);
        const Json& single = member(step, "single");
        expect(single.is_array(), field + ".single", "a list", single);
        for (const Json& part : single) {
            const Json& name = member(member(part, "SpecialToken"), "id");
            if (name.is_null()) return;  // the text
            expect(name.is_string(), field + ".single", "names of tokens", name);
            const Json& token =
                member(member(step, "special_tokens"), name.get<std::string>().c_str());
            const Json& ids = member(token, "ids");
            expect(ids.is_array(), field + ".special_tokens", "ids of " + name.get<std::string>(),
                   ids);
            for (const Json& id : ids) {
                const auto same = [&](const auto& added) { return id == added.id; };
                expect(std::ranges::any_of(parts_.added, same), field + ".special_tokens",
                       "ids of added tokens", id);
                parts_.prefix.push_back(id.get<token_id>());
            }
        }
    }

    void read_decoder(const Json& step, const std::string& field) {
        const Json& type = member(step, "type");
        if (by_bytes()) {
            expect(type == "ByteLevel", field + ".type", "ByteLevel", type);
        } else if (type == "Replace") {
            expect_replacement(step, field, written_space, " ");
        } else if (type == "Metaspace") {
            parts_.drops_first_space = member(step, "prepend_scheme") != "never";
        } else if (type == "Strip") {
            expect(member(step, "content") == " ", field + ".content", "\" \"",
                   member(step, "content"));
            expect_one_of(step, "start", field, {0, 1}, "0 or 1");
            expect_one_of(step, "stop", field, {0}, "0");
            parts_.drops_first_space = member(step, "start") == 1;
        } else {
            expect(type == "ByteFallback" || type == "Fuse", field + ".type",
                   "Replace, ByteFallback, Fuse, Strip or Metaspace", type);
        }
    }

    TokenizerText text_;
    TokenizerParts parts_;
    bool is_byte_level_ = false, spaces_are_written_ = false;
};

}  // namespace detail

// The parts that a tokenizer.json describes; file names it in messages. Throws Error for bad JSON,
// for fields of a wrong type, and, by name, for what is not read.
inline TokenizerParts tokenizer_from_json(std::string_view text, const std::string& file) {
    return detail::TokenizerJsonReader(text, file).parts();
}

}  // namespace HYDRALM_NAMESPACE
