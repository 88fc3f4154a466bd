// Utf8Stream: valid text passes, every ill-formed sequence becomes what the WHATWG decoder makes of
// it, however it is cut.
#include "hydralm/io/utf8_stream.hpp"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/catch.hpp"

using hydralm::Utf8Stream;

namespace {

const std::string R = "\xEF\xBF\xBD";  // U+FFFD

std::string decode(const std::vector<std::string_view>& pieces) {
    Utf8Stream stream;
    std::string text;
    for (const auto piece : pieces) text += stream.push(piece);
    text += stream.flush();
    return text;
}

struct Case {
    std::string bytes, text;
};

std::vector<Case> cases() {
    const std::string valid =
        "a \xC2\x80 \xC3\xA9 \xDF\xBF \xE0\xA0\x80 \xE2\x82\xAC \xED\x9F\xBF \xEE\x80\x80 "
        "\xEF\xBF\xBF "
        "\xF0\x90\x80\x80 \xF0\x9F\x90\x89 \xF4\x8F\xBF\xBF \xEF\xBB\xBF";
    return {
        {"", ""},
        {std::string("a\0b", 3), std::string("a\0b", 3)},
        {valid, valid},
        {"\x80", R},
        {"\xBF\xBF", R + R},
        {"\xC0\x80", R + R},  // overlong
        {"\xC1\xBF", R + R},
        {"\xE0\x80\x80", R + R + R},
        {"\xE0\x9F\xBF", R + R + R},
        {"\xF0\x80\x80\x80", R + R + R + R},
        {"\xF0\x8F\xBF\xBF", R + R + R + R},
        {"\xED\xA0\x80", R + R + R},  // surrogates
        {"\xED\xBF\xBF", R + R + R},
        {"\xED\xA0\xBD\xED\xB0\x80", R + R + R + R + R + R},
        {"\xF4\x90\x80\x80", R + R + R + R},  // past U+10FFFF
        {"\xF5\x80\x80\x80", R + R + R + R},
        {"\xFE\xFF", R + R},
        {"\xC3", R},  // cut off
        {"\xE2\x82", R},
        {"\xF0\x9F\x90", R},
        {"\xF0\x9F", R},
        {"\xC3"
         "a",
         R + "a"},  // cut off by something else
        {"\xE2\x82"
         "a",
         R + "a"},
        {"\xF0\x9F\x90"
         "a",
         R + "a"},
        {"\xF0\x9F\x90\xC3\xA9", R + "\xC3\xA9"},
        {"\xE2\xE2\x82\xAC", R + "\xE2\x82\xAC"},
        {"\xC3\xA9\xA9", "\xC3\xA9" + R},
        {"\xF0\x9F\x90\xF0\x9F\x90\x89", R + "\xF0\x9F\x90\x89"},
        // the example of the Unicode Standard, table 3-11 and its neighbours 3-8 to 3-10
        {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF"
         "A",
         R + R + R + R + "A"},
        {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82"
         "A",
         R + R + R + R + R + R + R + R + "A"},
        {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF"
         "A",
         R + R + R + R + R + R + R + R + "A"},
        {"\xF4\x91\x92\x93\xFF"
         "A\x80\xBF"
         "B",
         R + R + R + R + R + "A" + R + R + "B"},
    };
}

}  // namespace

TEST_CASE("utf8: every case whole, and cut at every two places") {
    for (const auto& [bytes, text] : cases()) {
        const std::string_view all = bytes;
        CHECK(decode({all}) == text);
        for (std::size_t i = 0; i <= all.size(); ++i)
            for (std::size_t j = i; j <= all.size(); ++j)
                CHECK(decode({all.substr(0, i), all.substr(i, j - i), all.substr(j)}) == text);
    }
}

TEST_CASE("utf8: every code point passes byte by byte, whole and at its last byte") {
    Utf8Stream stream;
    int wrong = 0;
    for (unsigned c = 0x80; c <= 0x10FFFF; ++c) {
        if (c >= 0xD800 && c < 0xE000) continue;
        std::string s;
        const auto tail = [&](unsigned shift) {
            s += static_cast<char>(0x80 | ((c >> shift) & 0x3F));
        };
        if (c < 0x800) {
            s += static_cast<char>(0xC0 | (c >> 6));
        } else if (c < 0x10000) {
            s += static_cast<char>(0xE0 | (c >> 12));
            tail(6);
        } else {
            s += static_cast<char>(0xF0 | (c >> 18));
            tail(12);
            tail(6);
        }
        tail(0);
        for (std::size_t i = 0; i + 1 < s.size(); ++i)
            wrong += stream.push({&s[i], 1}).empty() ? 0 : 1;
        wrong += stream.push({&s.back(), 1}) == s ? 0 : 1;
    }
    CHECK(wrong == 0);
    CHECK(stream.flush().empty());
}

TEST_CASE("utf8: a stream is as new after flush") {
    Utf8Stream stream;
    CHECK(stream.push("\xF0\x9F").empty());
    CHECK(stream.flush() == R);
    CHECK(stream.flush().empty());
    CHECK(stream.push("\x90\x89") == R + R);
    CHECK(stream.push("ok") == "ok");
}
