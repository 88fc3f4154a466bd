// The tokenizer of a GGUF file: that of the tokenizer.json it was made of, and what is refused.
#include "hydralm/io/tokenizer/tokenizer_gguf.hpp"

#include <algorithm>
#include <vector>

#include "hydralm/io/tokenizer/open_tokenizer.hpp"
#include "support/files.hpp"
#include "support/gguf_writer.hpp"

namespace hydralm {
namespace {

const std::string golden = HYDRALM_GOLDEN_DIR "/";

// Every byte a token, "ab" by a merge, two added ones and one that is not used.
struct Small {
    std::vector<std::string> tokens;
    std::vector<std::int32_t> types;
    std::vector<std::string> merges{"a b"};
    std::string model = "gpt2", pre = "qwen35";

    Small() {
        for (int byte = 0; byte < 256; ++byte) {
            const auto place = std::ranges::find(detail::spelled_bytes, byte);
            std::string text;
            detail::append_utf8(text, static_cast<char32_t>(place - detail::spelled_bytes.begin()));
            add(text, 1);
        }
        add("ab", 1);
        add("<end>", 3);
        add("<tool>", 4);
        add("[PAD]", 5);
    }
    void add(const std::string& text, std::int32_t type) {
        tokens.push_back(text);
        types.push_back(type);
    }
    test::GgufWriter writer() const {
        test::GgufWriter w;
        w.text("tokenizer.ggml.model", model)
            .text("tokenizer.ggml.pre", pre)
            .texts("tokenizer.ggml.tokens", tokens)
            .i32s("tokenizer.ggml.token_type", types)
            .texts("tokenizer.ggml.merges", merges);
        return w;
    }
};

BpeTokenizer made(const test::GgufWriter& writer) {
    const test::TemporaryDirectory directory;
    test::write_text(directory / "t.gguf", writer.file());
    return open_tokenizer(directory / "t.gguf");
}
void check_refused(const test::GgufWriter& writer, std::vector<std::string> parts) {
    parts.emplace_back("t.gguf: ");
    test::check_error([&] { made(writer); }, parts);
}

TEST_CASE("a GGUF file's tokenizer is that of its tokenizer.json", "[io][gguf][golden]") {
    const BpeTokenizer published = open_tokenizer(golden + "published/qwen35_text");
    const auto texts = detail::Json::parse(test::read_text(golden + "tokenizer/cases.json"));
    for (const char* const name : {"f16", "q8_0", "q4_0", "q4_k_m"}) {
        const BpeTokenizer tokenizer = open_tokenizer(golden + "gguf/" + name + ".gguf");
        CHECK(tokenizer.vocab_size() == published.vocab_size());
        for (const auto& example : texts["encode"]) {
            const auto text = example["text"].get<std::string>();
            const auto ids = tokenizer.encode(text);
            CHECK(ids == published.encode(text));
            CHECK(tokenizer.decode(ids, false) == published.decode(ids, false));
        }
        for (token_id id = 0; id < tokenizer.vocab_size(); ++id) {
            CHECK(tokenizer.text(id) == published.text(id));
            CHECK(tokenizer.is_special(id) == published.is_special(id));
        }
    }
}

TEST_CASE("types of tokens, cuts and beginnings of a GGUF file's tokenizer", "[io][gguf]") {
    Small small;
    const BpeTokenizer tokenizer = made(small.writer());
    CHECK(tokenizer.vocab_size() == 259);
    CHECK(tokenizer.encode("ab<end>b<tool>[PAD]") ==
          std::vector<token_id>{256, 257, 'b', 258, '[', 'P', 'A', 'D', ']'});
    CHECK(tokenizer.is_special(257));
    CHECK_FALSE(tokenizer.is_special(258));
    CHECK(tokenizer.prefix().empty());
    // A mark is a letter in Qwen3.5's cut alone; both compose.
    CHECK(tokenizer.split() == SplitRule{.marks_are_letters = true});
    CHECK(tokenizer.encode("e\xCC\x81") == tokenizer.encode("\xC3\xA9"));
    small.pre = "qwen2";
    const BpeTokenizer of_qwen2 = made(small.writer());
    CHECK(of_qwen2.split() == SplitRule{});
    CHECK(of_qwen2.encode("e\xCC\x81") == tokenizer.encode("\xC3\xA9"));

    auto begins = small.writer();
    begins.number("tokenizer.ggml.add_bos_token", GgufType::boolean, std::uint8_t{1});
    check_refused(begins, {"tokenizer.ggml.bos_token_id: expected the id of an added token"});
    begins.u32("tokenizer.ggml.bos_token_id", 257);
    const BpeTokenizer with_prefix = made(begins);
    CHECK(std::ranges::equal(with_prefix.prefix(), std::vector<token_id>{257}));
}

TEST_CASE("a GGUF file without a tokenizer, or with another, is refused by the key", "[io][gguf]") {
    check_refused(test::GgufWriter(), {"tokenizer.ggml.model: expected a text, found none"});
    const auto changed = [](const auto& change, const std::vector<std::string>& parts) {
        Small small;
        change(small);
        check_refused(small.writer(), parts);
    };
    changed([](Small& s) { s.model = "llama"; },
            {"tokenizer.ggml.model: expected gpt2, found llama"});
    changed([](Small& s) { s.pre = "dbrx"; },
            {"tokenizer.ggml.pre: expected qwen35 or qwen2, found dbrx", "through ids"});
    changed([](Small& s) { s.types.pop_back(); },
            {"tokenizer.ggml.token_type: expected 260, one for each token, found 259"});
    changed([](Small& s) { s.types[3] = 6; },
            {"tokenizer.ggml.token_type[3]: expected 1 (normal)", "found 6"});
    changed([](Small& s) { s.merges.emplace_back("ab"); },
            {"tokenizer.ggml.merges[1]: expected \"a b\", found \"ab\""});
    changed([](Small& s) { s.merges.emplace_back("a b c"); }, {"tokenizer.ggml.merges[1]"});
    changed([](Small& s) { s.merges.emplace_back("a x"); }, {"merges[1]"});
    changed([](Small& s) { s.tokens[97] = "ab"; }, {"t.gguf: "});
}

}  // namespace
}  // namespace hydralm
