// The entry point of libFuzzer and of the replay: one input, and what must hold whatever it is.
#include "target.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "hydralm/core/error.hpp"
#include "hydralm/core/parallel.hpp"
#include "support/allocations.hpp"

namespace {

using namespace hydralm;

[[noreturn]] void found(const char* what, const char* detail) {
    std::fprintf(stderr, "%s: %s\n", what, detail);
    std::abort();
}

// A message is one line that a terminal can show.
bool is_one_line(std::string_view text) {
    return std::none_of(text.begin(), text.end(),
                        [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
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
