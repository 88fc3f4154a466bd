// The JSON of files: what a small text could do to memory and stack.
#include "hydralm/io/json_text.hpp"

#include "support/allocations.hpp"
#include "support/files.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

std::string repeated(std::string_view text, std::size_t times) {
    std::string all;
    all.reserve(text.size() * times);
    for (std::size_t i = 0; i < times; ++i) all += text;
    return all;
}

// As the header of a safetensors file may be, so that other limits than the bytes are met.
detail::Json parse_header(const std::string& text) {
    return parse_json(text, "f", "header", 100'000'000);
}

void check_refused(const std::string& text, const std::vector<std::string>& parts) {
    check_error([&] { parse_header(text); }, parts);
}

}  // namespace

TEST_CASE("JSON is the whole text, without a byte-order mark", "[io]") {
    using namespace std::string_literals;
    CHECK(parse_header(" {}\r\n").is_object());
    check_refused("\uFEFF{}",
                  {"header: expected JSON, found a byte-order mark before it; save it as"});
    check_refused("{}\0"s, {"header: expected JSON, found a zero byte at 2; save it as UTF-8"});
    check_refused("{}\0{\"a\": 1}"s, {"found a zero byte at 2"});
    check_refused("{}x", {"expected JSON"});
}

TEST_CASE("lists and objects lie at most 16 deep", "[io]") {
    const std::string depth = "hydralm: f: header: expected at most 16 lists and objects";
    CHECK_NOTHROW(parse_json(repeated("[", 16) + "1" + repeated("]", 16), "f", ""));
    CHECK_NOTHROW(parse_json(repeated("{\"a\":", 16) + "1" + repeated("}", 16), "f", ""));
    check_refused(repeated("[", 17) + "1" + repeated("]", 17), {depth});
    check_refused(repeated("{\"a\":", 17) + "1" + repeated("}", 17), {depth});
    check_refused(repeated("[", 100'000'000), {depth});
    check_refused(repeated("{\"a\":[", 10'000'000), {depth});
}

TEST_CASE("a million values and keys, and the memory of a million", "[io]") {
    const std::string count = "expected at most 1000000 values and keys, found more";
    CHECK(parse_json("[" + repeated("1,", 999'998) + "1]", "f", "").size() == 999'999);
    check_refused("[" + repeated("1,", 999'999) + "1]", {count});
    // In time that grows with the text: were it with its square, this would take an hour.
    CHECK(parse_json("[" + repeated("{},", 999'998) + "{}]", "f", "").size() == 999'999);

    std::string keys = "{";
    for (int i = 0; i < 499'999; ++i) keys += "\"" + std::to_string(i) + "\":[],";
    const auto held_by = [](const std::string& text, bool taken) {
        const long before = held_bytes();
        forget_peak();
        if (taken) parse_header(text);
        else check_refused(text, {"values and keys"});
        return peak_bytes() - before;
    };
    CHECK(held_by(keys + "\"\":1}", false) < 100'000'000);
    CHECK(held_by(keys.substr(0, keys.size() - 1) + "}", true) < 100'000'000);
    CHECK(held_by("[" + repeated("[],", 999'998) + "1]", true) < 100'000'000);
    CHECK(held_by("[" + repeated("[],", 10'000'000), false) < 30'000'000);  // the text's size

    // Long strings come on top, with the bytes they have in the text.
    std::string words = "{";
    for (int i = 0; i < 499'999; ++i)
        words += "\"" + std::to_string(1'000'000 + i) + std::string(60, 'k') + "\":\"" +
                 std::string(60, 'v') + "\",";
    words.back() = '}';
    CHECK(held_by(words, true) < 100'000'000 + 2 * static_cast<long>(words.size()));
}

TEST_CASE("a text has at most 20 million bytes, and the index of 100,000 tensors fits", "[io]") {
    const std::string whole = "\"" + std::string(19'999'998, 'x') + "\"";
    CHECK(parse_json(whole, "f", "").get_ref<const std::string&>().size() == 19'999'998);
    const std::string longer = whole + " ";
    const long before = held_bytes();
    forget_peak();
    check_error([&] { parse_json(longer, "f", "table"); },
                {"hydralm: f: table: expected at most 20000000 bytes of JSON, found 20000001; "});
    CHECK(peak_bytes() - before < 10'000);  // refused unread

    std::string index = R"({"weight_map": {)";
    for (int i = 0; i < 100'000; ++i)
        index += "\n    \"model.layers." + std::to_string(i / 1000) + ".mlp.experts." +
                 std::to_string(i) + ".down_proj.weight_scale\": \"model-00" +
                 std::to_string(100 + i / 1000) + "-of-00200.safetensors\",";
    index.back() = '}';
    CHECK(index.size() < 10'000'000);
    CHECK(parse_json(index + "}", "f", "").at("weight_map").size() == 100'000);
}
