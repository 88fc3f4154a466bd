// UTF-8: where its characters begin and end, and text that a terminal can show on one line.
//
// Well-formed byte sequences are those of Unicode, table 3-7 (RFC 3629).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "hydralm/core/abi.hpp"

namespace HYDRALM_NAMESPACE::detail {

// U+FEFF, which some editors write before a text.
inline constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";

// What the first byte of a character says: how many bytes it has, and the range of the second. All
// others are in [0x80, 0xBF].
struct Utf8Lead {
    std::size_t length = 0;  // 0: no character begins so
    unsigned char lowest = 0x80, highest = 0xBF;
};

// No overlong form, no surrogate, nothing past U+10FFFF.
constexpr Utf8Lead utf8_lead(unsigned char byte) noexcept {
    if (byte < 0x80) return {1};
    if (byte < 0xC2 || byte > 0xF4) return {0};
    if (byte < 0xE0) return {2};
    if (byte == 0xE0) return {3, 0xA0};
    if (byte == 0xED) return {3, 0x80, 0x9F};
    if (byte < 0xF0) return {3};
    if (byte == 0xF0) return {4, 0x90};
    if (byte == 0xF4) return {4, 0x80, 0x8F};
    return {4};
}

// Bytes of the character that text begins with; 0 when it begins with none.
constexpr std::size_t utf8_length(std::string_view text) noexcept {
    if (text.empty()) return 0;
    const Utf8Lead lead = utf8_lead(static_cast<unsigned char>(text[0]));
    if (lead.length > text.size()) return 0;
    for (std::size_t i = 1; i < lead.length; ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        if (byte < (i == 1 ? lead.lowest : 0x80) || byte > (i == 1 ? lead.highest : 0xBF)) return 0;
    }
    return lead.length;
}

constexpr bool is_utf8(std::string_view text) noexcept {
    while (!text.empty()) {
        const std::size_t length = utf8_length(text);
        if (length == 0) return false;
        text.remove_prefix(length);
    }
    return true;
}

// The number of a character, given its bytes.
constexpr char32_t code_point(std::string_view character) noexcept {
    const std::size_t length = character.size();
    char32_t value =
        static_cast<unsigned char>(character[0]) & (length == 1 ? 0x7F : 0xFF >> (length + 1));
    for (std::size_t i = 1; i < length; ++i)
        value = value << 6 | (static_cast<unsigned char>(character[i]) & 0x3F);
    return value;
}

struct CharacterRange {
    char32_t first, last;
};
// Characters that cannot be seen, or do more than stand in their place: the control characters C0,
// DEL and C1, the separators of lines, the bidirectional controls, spaces other than U+0020, and
// what Unicode lets a terminal show as nothing (the byte-order mark, characters of no width).
inline constexpr CharacterRange unseen_characters[] = {
    {0x0000, 0x001F}, {0x007F, 0x00A0}, {0x00AD, 0x00AD}, {0x034F, 0x034F},   {0x061C, 0x061C},
    {0x115F, 0x1160}, {0x1680, 0x1680}, {0x17B4, 0x17B5}, {0x180B, 0x180F},   {0x2000, 0x200F},
    {0x2028, 0x202F}, {0x205F, 0x206F}, {0x3000, 0x3000}, {0x3164, 0x3164},   {0xFE00, 0xFE0F},
    {0xFEFF, 0xFEFF}, {0xFFA0, 0xFFA0}, {0xFFF0, 0xFFFB}, {0x1D173, 0x1D17A}, {0xE0000, 0xE0FFF}};

constexpr bool is_unseen(std::string_view character) noexcept {
    const char32_t value = code_point(character);
    for (const auto [first, last] : unseen_characters)
        if (value >= first && value <= last) return true;
    return false;
}

// The characters of text, at most so many bytes and then "..."; ? for each that cannot be seen and
// each byte that is of no character.
inline std::string one_line(std::string_view text, std::size_t longest) {
    std::string line;
    while (!text.empty()) {
        const std::size_t length = utf8_length(text);
        const bool shown = length > 0 && !is_unseen(text.substr(0, length));
        const std::string_view next = shown ? text.substr(0, length) : "?";
        if (line.size() + next.size() > longest) return line + "...";
        line += next;
        text.remove_prefix(length > 0 ? length : 1);
    }
    return line;
}

}  // namespace HYDRALM_NAMESPACE::detail
