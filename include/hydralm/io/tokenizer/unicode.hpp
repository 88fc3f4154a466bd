// What tokenizers ask of a character: its class, and how it decomposes and composes.
//
// The tables of unicode_tables.hpp, spread out for looking up: 250 KB, made when first asked for.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hydralm/core/types.hpp"
#include "hydralm/core/utf8.hpp"
#include "hydralm/io/tokenizer/unicode_tables.hpp"

namespace HYDRALM_NAMESPACE::detail {

// Properties of characters, to be joined by |.
enum CharacterProperty : std::uint8_t {
    letter = 1,
    mark = 2,
    number = 4,
    white_space = 8,
    line_end = 16,           // \r and \n, which are white space too
    may_change_by_nfc = 32,  // or change with what stands before it
};

// The number of a character and its bytes. A byte that begins no well-formed character stands for
// itself, with a number no character has.
struct Character {
    char32_t value = 0;
    std::size_t length = 0;
};
inline constexpr char32_t no_character = 0xFFFFFFFF;

// The first character of a text that is not empty.
inline Character first_character(std::string_view text) noexcept {
    const auto byte = static_cast<unsigned char>(text[0]);
    if (byte < 0x80) return {byte, 1};
    const std::size_t length = utf8_length(text);
    if (length == 0) return {no_character, 1};
    return {code_point(text.substr(0, length)), length};
}

// value ≤ U+10FFFF, as UTF-8.
inline void append_utf8(std::string& text, char32_t value) {
    const auto byte = [&](char32_t bits) { text += static_cast<char>(bits); };
    const auto rest = [&](int shift) { byte(0x80 | (value >> shift & 0x3F)); };
    if (value < 0x80) return byte(value);
    if (value < 0x800) {
        byte(0xC0 | value >> 6);
    } else {
        if (value < 0x10000) {
            byte(0xE0 | value >> 12);
        } else {
            byte(0xF0 | value >> 18);
            rest(12);
        }
        rest(6);
    }
    rest(0);
}

class UnicodeTables {
public:
    // The one there is. Thread-safe.
    static const UnicodeTables& get() {
        static const UnicodeTables tables;
        return tables;
    }

    // Its CharacterProperties; 0 for no_character.
    std::uint8_t properties(char32_t character) const noexcept {
        if (character > 0x10FFFF) return 0;
        return rows_[static_cast<std::size_t>(row_of_[character >> 8]) << 8 | (character & 0xFF)];
    }

    // Canonical_Combining_Class; 0: a starter.
    std::uint8_t combining_class(char32_t character) const noexcept {
        const auto run = std::ranges::upper_bound(combining_, character, {}, &Combining::end);
        return run != combining_.end() && character >= run->begin ? run->combining_class : 0;
    }

    struct Decomposition {
        char32_t composed, first, second;  // second 0: none
    };
    // One step of the canonical decomposition, Hangul excepted; nullptr: there is none.
    const Decomposition* decomposition(char32_t character) const noexcept {
        const auto entry =
            std::ranges::lower_bound(decompositions_, character, {}, &Decomposition::composed);
        return entry != decompositions_.end() && entry->composed == character ? &*entry : nullptr;
    }

    // The primary composite of two characters, Hangul excepted; 0: there is none.
    char32_t composition(char32_t first, char32_t second) const noexcept {
        const std::uint64_t key = pair_of(first, second);
        const auto entry = std::ranges::lower_bound(compositions_, key, {}, &Composition::pair);
        return entry != compositions_.end() && entry->pair == key ? entry->composed : 0;
    }

private:
    struct Combining {
        char32_t begin, end;
        std::uint8_t combining_class;
    };
    struct Composition {
        std::uint64_t pair;
        char32_t composed;
    };
    static std::uint64_t pair_of(char32_t first, char32_t second) noexcept {
        return std::uint64_t{first} << 32 | second;
    }

    UnicodeTables() : rows_(256) {
        add_runs(letter_runs, letter);
        add_runs(mark_runs, mark);
        add_runs(number_runs, number);
        add_runs(space_runs, white_space);
        add('\n', line_end);
        add('\r', line_end);
        char32_t end = 0;
        for (std::size_t i = 0; i < std::size(combining_runs); i += 3) {
            const char32_t begin = end + combining_runs[i];
            end = begin + combining_runs[i + 1];
            combining_.push_back({begin, end, static_cast<std::uint8_t>(combining_runs[i + 2])});
            for (char32_t c = begin; c < end; ++c) add(c, may_change_by_nfc);
        }
        add_decompositions(never_composed);
        for (const Decomposition& d : decompositions_) add(d.composed, may_change_by_nfc);
        for (const Decomposition& d : add_decompositions(composites)) {
            add(d.second, may_change_by_nfc);
            compositions_.push_back({pair_of(d.first, d.second), d.composed});
        }
        for (char32_t c = 0x1161; c < 0x11C3; ++c)  // vowels and final consonants of Hangul
            if (c < 0x1176 || c > 0x11A7) add(c, may_change_by_nfc);
        std::ranges::sort(compositions_, {}, &Composition::pair);
        std::ranges::sort(decompositions_, {}, &Decomposition::composed);
    }

    void add(char32_t character, CharacterProperty property) {
        std::uint16_t& row = row_of_[character >> 8];
        if (row == 0) {  // the row of characters that have no property
            row = static_cast<std::uint16_t>(rows_.size() >> 8);
            rows_.resize(rows_.size() + 256);
        }
        std::uint8_t& properties = rows_[static_cast<std::size_t>(row) << 8 | (character & 0xFF)];
        properties = static_cast<std::uint8_t>(properties | property);
    }

    template <class Runs>
    void add_runs(const Runs& runs, CharacterProperty property) {
        char32_t c = 0;
        for (std::size_t i = 0; i < std::size(runs); i += 2) {
            c += runs[i];
            for (const char32_t end = c + runs[i + 1]; c < end; ++c) add(c, property);
        }
    }

    // Those added.
    template <class Steps>
    std::span<const Decomposition> add_decompositions(const Steps& steps) {
        const std::size_t before = decompositions_.size();
        char32_t composed = 0;
        for (std::size_t i = 0; i < std::size(steps); i += 3)
            decompositions_.push_back({composed += steps[i], steps[i + 1], steps[i + 2]});
        return std::span(decompositions_).subspan(before);
    }

    std::array<std::uint16_t, 0x1100> row_of_{};  // of each 256 characters
    std::vector<std::uint8_t> rows_;
    std::vector<Combining> combining_;
    std::vector<Decomposition> decompositions_;
    std::vector<Composition> compositions_;
};

}  // namespace HYDRALM_NAMESPACE::detail
