// Where published tokenizers cut a text before they merge: three regular expressions as a function.
//
//     (?i:'s|'t|'re|'ve|'m|'ll|'d) | [^\r\n\p{L}\p{N}]?\p{L}+ | \p{N} | ?[^\s\p{L}\p{N}]+[\r\n]*
//     | \s*[\r\n]+ | \s+(?!\S) | \s+
//
// is Qwen2's (without the spaces around |). Qwen3.5 takes marks for letters, [\p{L}\p{M}]; GPT-4
// takes numbers three at a time, \p{N}{1,3}. They are tried in this order at every place.
#pragma once

#include <array>
#include <optional>
#include <string_view>

#include "hydralm/io/tokenizer/unicode.hpp"

namespace HYDRALM_NAMESPACE {

// One of the family.
struct SplitRule {
    bool marks_are_letters = false;
    int most_digits = 1;

    bool operator==(const SplitRule&) const = default;
};
// After the models that brought it.
constexpr std::string_view name(const SplitRule& rule) noexcept {
    return rule.most_digits > 1 ? "GPT-4" : rule.marks_are_letters ? "Qwen3.5" : "Qwen2";
}

// The rule that a regular expression of a tokenizer.json is; none: it is not one of the three.
inline std::optional<SplitRule> split_rule(std::string_view regex) {
    static constexpr std::string_view qwen2 =
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
    static constexpr std::string_view qwen3_5 =
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
    static constexpr std::string_view gpt4 =
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
    if (regex == qwen2) return SplitRule{};
    if (regex == qwen3_5) return SplitRule{.marks_are_letters = true};
    if (regex == gpt4) return SplitRule{.most_digits = 3};
    return {};
}

namespace detail {

class Splitter {
public:
    explicit Splitter(SplitRule rule)
        : letters_(static_cast<std::uint8_t>(rule.marks_are_letters ? letter | mark : letter)),
          most_digits_(rule.most_digits) {}

    // Bytes of the first piece of a text that is not empty. Every text is pieces from end to end,
    // and where one begins depends on nothing before it. Bytes that are not UTF-8 are of no class.
    std::size_t first_piece(std::string_view text) const noexcept {
        const At first = at(text, 0);
        if (const std::size_t length = contraction(text)) return length;
        if (first.is(letters_)) return run(text, first.end, letters_);
        const At second = at(text, first.end);
        if (!first.is(letter | number | line_end) && second.is(letters_))
            return run(text, second.end, letters_);
        if (first.is(number)) return numbers(text, first.end);
        const bool spaced = text[0] == ' ' && second.end > first.end && symbol(second);
        if (spaced || symbol(first)) return symbols(text, first.end);
        return space(text);
    }

private:
    struct At {
        std::size_t end = 0;  // behind the character; at the end of the text: the text's
        std::uint8_t properties = 0;

        bool is(int set) const noexcept { return (properties & set) != 0; }
    };
    At at(std::string_view text, std::size_t place) const noexcept {
        if (place == text.size()) return {place, 0};
        const Character c = first_character(text.substr(place));
        return {place + c.length, tables_.properties(c.value)};
    }
    bool symbol(const At& at) const noexcept { return !at.is(white_space | letters_ | number); }

    // Where the characters of a set end that begin at `place`.
    std::size_t run(std::string_view text, std::size_t place, int set) const noexcept {
        for (At next = at(text, place); next.is(set); next = at(text, place)) place = next.end;
        return place;
    }

    // 's, 't, 're, 've, 'm, 'll, 'd in either case; U+017F is an s as well. 0: none of them.
    static std::size_t contraction(std::string_view text) noexcept {
        if (text[0] != '\'' || text.size() < 2) return 0;
        const auto lower = [&](std::size_t i) {
            return i < text.size() ? static_cast<char>(text[i] | 0x20) : '\0';
        };
        const char first = lower(1), second = lower(2);
        if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
        if ((first == 'r' || first == 'v') && second == 'e') return 3;
        if (first == 'l' && second == 'l') return 3;
        return text.substr(1).starts_with("\xC5\xBF") ? 3 : 0;
    }

    std::size_t numbers(std::string_view text, std::size_t place) const noexcept {
        for (int n = 1; n < most_digits_; ++n) {
            const At next = at(text, place);
            if (!next.is(number)) break;
            place = next.end;
        }
        return place;
    }

    // ` ?[^\s\p{L}\p{N}]+[\r\n]*` behind its first character.
    std::size_t symbols(std::string_view text, std::size_t place) const noexcept {
        for (At next = at(text, place); next.end > place && symbol(next); next = at(text, place))
            place = next.end;
        return run(text, place, line_end);
    }

    // `\s*[\r\n]+`: up to the last line end of the run. `\s+(?!\S)`: the last character of a run is
    // left to what follows. `\s+`: unless it is the only one.
    std::size_t space(std::string_view text) const noexcept {
        std::size_t place = 0, last = 0, behind_line = 0;
        for (At next = at(text, 0); next.is(white_space); next = at(text, place)) {
            last = place;
            place = next.end;
            if (next.is(line_end)) behind_line = place;
        }
        if (behind_line > 0) return behind_line;
        return place == text.size() || last == 0 ? place : last;
    }

    const UnicodeTables& tables_ = UnicodeTables::get();
    std::uint8_t letters_;
    int most_digits_;
};

}  // namespace detail
}  // namespace HYDRALM_NAMESPACE
