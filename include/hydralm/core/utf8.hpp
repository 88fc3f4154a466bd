// UTF-8: where its characters begin and end, and text that a terminal can show on one line.
//
// Well-formed byte sequences are those of Unicode, table 3-7 (RFC 3629).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "hydralm/core/abi.hpp"

namespace HYDRALM_NAMESPACE::detail {

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

// Whether a character moves the cursor, ends the line or turns the direction of what follows: the
// control characters C0, DEL and C1, U+2028 and U+2029, and the bidirectional controls.
constexpr bool is_control(std::string_view character) noexcept {
    const auto is_in = [character](std::string_view first, std::string_view last) {
        return character.size() == first.size() && character >= first && character <= last;
    };
    return is_in(std::string_view("\0", 1), "\x1F") || character == "\x7F" ||
           is_in("\xC2\x80", "\xC2\x9F") || character == "\xD8\x9C" ||  // U+061C
           is_in("\xE2\x80\x8E", "\xE2\x80\x8F") ||                     // U+200E
           is_in("\xE2\x80\xA8", "\xE2\x80\xAE") ||                     // U+2028
           is_in("\xE2\x81\xA6", "\xE2\x81\xA9");                       // U+2066
}

// The characters of text, at most so many bytes and then "..."; ? for each control character and
// each byte that is of no character.
inline std::string one_line(std::string_view text, std::size_t longest) {
    std::string line;
    while (!text.empty()) {
        const std::size_t length = utf8_length(text);
        const bool shown = length > 0 && !is_control(text.substr(0, length));
        const std::string_view next = shown ? text.substr(0, length) : "?";
        if (line.size() + next.size() > longest) return line + "...";
        line += next;
        text.remove_prefix(length > 0 ? length : 1);
    }
    return line;
}

}  // namespace HYDRALM_NAMESPACE::detail
