// Utf8Stream: bytes in, whole UTF-8 characters out, whatever the cuts between pieces.
//
// The UTF-8 decoder of the WHATWG Encoding Standard as a state machine: every maximal part of an
// ill-formed sequence that could have begun a character becomes one U+FFFD. A byte order mark is
// passed on.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "hydralm/core/utf8.hpp"

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
        if (held_ > 0 && (byte < lead_.lowest || byte > lead_.highest))
            replace();  // then byte begins anew
        if (held_ == 0) lead_ = detail::utf8_lead(byte);
        else lead_ = {lead_.length};  // behind the second, any continuation
        if (lead_.length == 0) {
            replace();
            return;
        }
        character_[held_++] = static_cast<char>(byte);
        if (held_ < lead_.length) return;
        text_.append(character_.data(), held_);
        held_ = 0;
    }

    void replace() {
        text_ += "\xEF\xBF\xBD";  // U+FFFD
        held_ = 0;
    }

    std::array<char, 4> character_{};  // the character under way
    std::size_t held_ = 0;             // bytes of it
    detail::Utf8Lead lead_;            // its length, and what its next byte may be
    std::string text_;                 // what the last call returned
};

}  // namespace HYDRALM_NAMESPACE
