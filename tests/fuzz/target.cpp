// The entry point of libFuzzer and of the replay: one input, and what must hold whatever it is.
#include "target.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "hydralm/core/error.hpp"
#include "hydralm/core/parallel.hpp"
#include "hydralm/io/utf8_stream.hpp"
#include "support/allocations.hpp"

namespace {

using namespace hydralm;

[[noreturn]] void found(const char* what, const char* detail) {
    std::fprintf(stderr, "%s: %s\n", what, detail);
    std::abort();
}

// A message is UTF-8 and one line: no control character of C0 or C1, no separator of lines or
// paragraphs, no other space than U+0020, nothing of no width or that turns the direction of text.
bool is_one_line(std::string_view text) {
    Utf8Stream stream;
    const std::string valid(stream.push(text));
    if (valid != text) return false;
    for (std::size_t i = 0; i < text.size();) {
        const auto byte = static_cast<unsigned char>(text[i++]);
        std::uint32_t c = byte < 0x80 ? byte : byte < 0xE0 ? byte & 31U : byte & 15U;
        while (i < text.size() && (text[i] & 0xC0) == 0x80)
            c = c << 6 | (static_cast<unsigned char>(text[i++]) & 63U);
        if (c < 0x20 || (c >= 0x7F && c <= 0xA0) || c == 0xAD || c == 0x61C || c == 0xFEFF ||
            (c >= 0x2000 && c <= 0x200F) || (c >= 0x2028 && c <= 0x202F) ||
            (c >= 0x205F && c <= 0x206F))
            return false;
    }
    return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view input(reinterpret_cast<const char*>(data), size);
    set_num_threads(1);
    const long before = test::held_bytes();
    test::forget_peak();
    try {
        fuzz::target.take(input);
    } catch (const Error& error) {
        if (!is_one_line(error.what())) found("a message of more than a line", error.what());
    } catch (const std::exception& error) {
        found("not an Error", error.what());
    }
    const long most = test::peak_bytes() - before - static_cast<long>(size);
    if (most > fuzz::target.allowance)
        found("bytes held beside those of the input", std::to_string(most).c_str());
    return 0;
}
