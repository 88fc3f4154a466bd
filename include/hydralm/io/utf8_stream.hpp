// Utf8Stream: bytes in, whole UTF-8 characters out, whatever the cuts between pieces.
//
// The UTF-8 decoder of the WHATWG Encoding Standard (Unicode, table 3-7: well-formed byte
// sequences; RFC 3629) as a state machine: every maximal part of an ill-formed sequence that could
// have begun a character becomes one U+FFFD. A byte order mark is passed on.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "hydralm/core/abi.hpp"

namespace HYDRALM_NAMESPACE {

// Holds back at most three bytes, the beginning of a character. What it returns in all is valid
// UTF-8, and the same for any cutting of the input. Memory: the longest output of one piece.
class Utf8Stream {
public:
    // Takes bytes, returns the characters they complete: a view valid until the next call.
    // Allocates only while the longest output so far grows.
    std::string_view push(std::string_view bytes) {
        text_.clear();
        for (const char c : bytes) take(static_cast<unsigned char>(c));
        return text_;
    }

    // The end of the stream: U+FFFD for a character that was cut off, else nothing. The stream is
    // as new afterwards.
    std::string_view flush() {
        text_.clear();
        if (held_ > 0) replace();
        return text_;
    }

private:
    void take(unsigned char byte) {
        if (held_ > 0 && (byte < lowest_ || byte > highest_)) replace();  // then byte begins anew
        if (held_ == 0) {
            begin(byte);
            return;
        }
        hold(byte);
        lowest_ = 0x80;
        highest_ = 0xBF;
        if (held_ < length_) return;
        text_.append(character_.data(), held_);
        held_ = 0;
    }

    // The first byte fixes the length and the range of the second: no overlong form, no surrogate,
    // nothing past U+10FFFF.
    void begin(unsigned char byte) {
        if (byte < 0x80) {
            text_ += static_cast<char>(byte);
            return;
        }
        if (byte < 0xC2 || byte > 0xF4) {
            replace();
            return;
        }
        length_ = byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
        lowest_ = byte == 0xE0 ? 0xA0 : byte == 0xF0 ? 0x90 : 0x80;
        highest_ = byte == 0xED ? 0x9F : byte == 0xF4 ? 0x8F : 0xBF;
        hold(byte);
    }

    void hold(unsigned char byte) { character_[held_++] = static_cast<char>(byte); }

    void replace() {
        text_ += "\xEF\xBF\xBD";  // U+FFFD
        held_ = 0;
    }

    std::array<char, 4> character_{};  // the character under way
    std::size_t held_ = 0;             // bytes of it
    std::size_t length_ = 0;           // bytes it will have
    unsigned char lowest_ = 0x80;      // what its next byte may be
    unsigned char highest_ = 0xBF;
    std::string text_;  // what the last call returned
};

}  // namespace HYDRALM_NAMESPACE
