// Utf8Stream: what comes out is UTF-8, the input itself where that is, and the same for any cut.
#include "hydralm/io/utf8_stream.hpp"

#include "hydralm/io/json_text.hpp"
#include "target.hpp"

namespace hydralm::fuzz {
namespace {

bool is_utf8(const std::string& text) {
    try {
        detail::quoted(text);
        return true;
    } catch (const detail::Json::exception&) {
        return false;
    }
}

std::string streamed(std::string_view input, std::size_t piece) {
    Utf8Stream stream;
    std::string out;
    for (; input.size() > piece; input.remove_prefix(piece))
        out += stream.push(input.substr(0, piece));
    out += stream.push(input);
    out += stream.flush();
    return out;
}

void take(std::string_view input) {
    input = input.substr(0, 256);  // a longer one reaches nothing else
    const std::string out = streamed(input, input.size());
    expect(is_utf8(out), "the output is UTF-8");
    expect(streamed(input, 1) == out, "the output is the same byte by byte");
    expect(streamed(input, 3) == out, "the output is the same for pieces of three");
    if (is_utf8(std::string(input))) expect(out == input, "UTF-8 stays as it is");
}

std::vector<std::string> seeds() {
    return {"plain",
            "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x90\xA7",
            "\xEF\xBB\xBFmark",
            "\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF",
            "\xC0\xAF\xED\xA0\x80\xF4\x90\x80\x80",
            "\xE2\x82",
            "\xF0\x9F\x90"};
}

}  // namespace

const Target target{take, seeds, 1 << 18};

}  // namespace hydralm::fuzz
