// How tokenizer.json spells what could not be seen or written: bytes and spaces.
//
// Byte-level (the `bytes_to_unicode` of GPT-2): printable characters of Latin-1 stand for
// themselves, the other 68 bytes, in order, are U+0100 on. Of characters (SentencePiece): a space
// is U+2581, and a byte <0x00> to <0xFF>.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "hydralm/io/tokenizer/unicode.hpp"

namespace HYDRALM_NAMESPACE::detail {

constexpr bool stands_for_itself(int byte) noexcept {
    return (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
}

// The byte that each of the characters up to U+0143 spells; -1: none.
inline constexpr auto spelled_bytes = [] {
    std::array<int, 0x144> bytes{};
    bytes.fill(-1);
    std::size_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte)
        bytes[stands_for_itself(byte) ? static_cast<std::size_t>(byte) : next++] = byte;
    return bytes;
}();

// The bytes that a text of such characters spells; none: another character is among them.
inline std::optional<std::string> spelled(std::string_view text) {
    std::string bytes;
    while (!text.empty()) {
        const Character c = first_character(text);
        if (c.value >= spelled_bytes.size() || spelled_bytes[c.value] < 0) return {};
        bytes += static_cast<char>(spelled_bytes[c.value]);
        text.remove_prefix(c.length);
    }
    return bytes;
}

// U+2581.
inline constexpr std::string_view written_space = "\xE2\x96\x81";

// text with spaces for U+2581.
inline std::string with_spaces(std::string_view text) {
    std::string result;
    for (std::size_t at; (at = text.find(written_space)) != text.npos;) {
        (result += text.substr(0, at)) += ' ';
        text.remove_prefix(at + written_space.size());
    }
    return result += text;
}

// The byte that <0x00> to <0xFF> spell; -1: it is something else.
inline int byte_in_brackets(std::string_view text) {
    static constexpr std::string_view digits = "0123456789ABCDEF";
    if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return -1;
    const std::size_t high = digits.find(text[3]), low = digits.find(text[4]);
    return high == digits.npos || low == digits.npos ? -1 : static_cast<int>(high * 16 + low);
}

}  // namespace HYDRALM_NAMESPACE::detail
