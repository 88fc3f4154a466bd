// BpeTokenizer: the ids and texts of the golden vectors; normalisation, pieces and streaming alone.
#include <iterator>
#include <map>
#include <set>

#include "hydralm/io/tokenizer.hpp"
#include "hydralm/io/tokenizer/open_tokenizer.hpp"
#include "hydralm/io/utf8_stream.hpp"
#include "support/catch.hpp"
#include "support/temporary_directory.hpp"

namespace hydralm {
namespace {

using detail::Json;

static_assert(Tokenizer<BpeTokenizer> && Tokenizer<ByteTokenizer>);

const std::string golden = HYDRALM_GOLDEN_DIR "/tokenizer/";

Json read(const std::string& name) { return Json::parse(test::read_text(golden + name)); }

std::string utf8(std::string_view bytes) {
    Utf8Stream stream;
    std::string text(stream.push(bytes));
    return text += stream.flush();
}

std::string streamed(const BpeTokenizer& tokenizer, const std::vector<token_id>& ids) {
    Utf8Stream stream;
    std::string text;
    for (const token_id id : ids) text += stream.push(tokenizer.text(id));
    return text += stream.flush();
}

const BpeTokenizer& qwen() {
    static const BpeTokenizer tokenizer = open_tokenizer(golden);
    return tokenizer;
}

TEST_CASE("bpe: every golden text and its ids, both ways") {
    for (const auto& [folder, count] :
         std::map<std::string, std::size_t>{{"", 562}, {"gpt4/", 562}, {"llama/", 176}}) {
        INFO("folder: " << folder);
        const BpeTokenizer tokenizer = open_tokenizer(golden + folder + "tokenizer.json");
        const Json cases = read(folder + "cases.json");
        std::size_t compared = 0;
        for (const Json& c : cases.at("encode")) {
            const std::string text = c.at("text");
            INFO("text: " << text);
            const std::vector<token_id> ids = c.at("ids");
            CHECK(tokenizer.encode(text) == ids);
            const std::string decoded = c.at("decoded");
            CHECK(utf8(tokenizer.decode(ids)) == decoded);
            if (folder != "llama/") CHECK(streamed(tokenizer, ids) == decoded);
            CHECK(utf8(tokenizer.decode(ids, false)) ==
                  c.value("decoded_without_special", decoded));
            ++compared;
        }
        for (const Json& c : cases.at("decode")) {
            const std::vector<token_id> ids = c.at("ids");
            INFO("ids: " << c.at("ids").dump());
            CHECK(utf8(tokenizer.decode(ids)) == c.at("decoded").get<std::string>());
            if (folder != "llama/")
                CHECK(streamed(tokenizer, ids) == c.at("decoded").get<std::string>());
            ++compared;
        }
        CHECK(compared == count);
    }
}

TEST_CASE("bpe: as docs/tokenizers.md shows it") {
    const std::string folder = golden;
    const auto tokenizer = hydralm::open_tokenizer(folder);  // its tokenizer.json, or that file
    const std::vector<hydralm::token_id> ids = tokenizer.encode("The history of caf\u00E9s");
    hydralm::Utf8Stream characters;  // holds back a character whose bytes are not all there
    std::string text;
    for (const auto id : ids) text += characters.push(tokenizer.text(id));
    text += characters.flush();
    CHECK(text == "The history of caf\u00E9s");
}

TEST_CASE("bpe: the pieces of every golden text") {
    for (const auto& [folder, rule] : std::map<std::string, SplitRule>{
             {"", {.marks_are_letters = true}}, {"gpt4/", {.most_digits = 3}}}) {
        const detail::Splitter splitter(rule);
        const Json cases = read(folder + "cases.json");
        for (const Json& c : cases.at("pieces")) {
            const std::string text = c.at("text");
            std::vector<std::string> pieces;
            for (std::string_view left = text; !left.empty();) {
                pieces.emplace_back(left.substr(0, splitter.first_piece(left)));
                left.remove_prefix(pieces.back().size());
            }
            INFO("text: " << text);
            CHECK(pieces == c.at("pieces").get<std::vector<std::string>>());
        }
    }
}

TEST_CASE("bpe: every character has the class of the tables of Unicode 16") {
    const Json classes = read("unicode.json");
    REQUIRE(std::string(detail::unicode_of_classes).starts_with("16."));
    std::vector<std::uint8_t> expected(0x110000);
    const auto add = [&](const char* name, detail::CharacterProperty property) {
        for (const Json& range : classes.at(name))
            for (std::size_t c = range[0]; c <= range[1].get<std::size_t>(); ++c)
                expected[c] = static_cast<std::uint8_t>(expected[c] | property);
    };
    add("L", detail::letter);
    add("M", detail::mark);
    add("N", detail::number);
    add("White_Space", detail::white_space);
    const auto& tables = detail::UnicodeTables::get();
    std::size_t wrong = 0;
    for (std::size_t c = 0; c < expected.size(); ++c)
        wrong += (tables.properties(static_cast<char32_t>(c)) & 15) != expected[c];
    CHECK(wrong == 0);
    CHECK(tables.properties(detail::no_character) == 0);
}

TEST_CASE("bpe: the normalisation of every golden pair, alone and within a text") {
    detail::NfcNormaliser nfc;
    for (const Json& pair : read("nfc.json")) {
        const std::string text = pair[0], expected = pair[1];
        INFO("text: " << text);
        CHECK(nfc(text) == expected);
        CHECK(nfc(expected) == expected);
        const std::string around = "\xFF plain " + text + " \xF0\x9F\x90\xA7 " + text;
        CHECK(nfc(around) == "\xFF plain " + expected + " \xF0\x9F\x90\xA7 " + expected);
    }
    const std::string plain = "caf\xC3\xA9 \xE2\x82";
    CHECK(nfc(plain).data() == plain.data());  // nothing is copied
}

TEST_CASE("bpe: any bytes come back") {
    const std::string bytes = [] {
        std::string all;
        for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
        return all + "\xED\xA0\x80\xF0\x9F e\xCC\x81\n a";
    }();
    const BpeTokenizer without_nfc = open_tokenizer(golden + "gpt4");
    CHECK(without_nfc.decode(without_nfc.encode(bytes)) == bytes);
    CHECK(qwen().encode("").empty());
    CHECK(qwen().decode({}).empty());
}

TEST_CASE("bpe: a space before a text, and none behind decoding") {
    const std::string file = golden + "llama/tokenizer.json";
    const BpeTokenizer llama = open_tokenizer(file);
    CHECK(std::vector<token_id>(llama.prefix().begin(), llama.prefix().end()) ==
          std::vector<token_id>{1});
    CHECK(llama.encode("a b") == llama.encode("a\xE2\x96\x81"
                                              "b"));
    CHECK(streamed(llama, llama.encode("a b")) == " a b");
    const std::string bytes = "a\xFF \xE2\x82 b";
    CHECK(llama.decode(llama.encode(bytes)) == bytes);
    // Where it is put when a pre-tokenizer does it: before what begins with none.
    Json json = Json::parse(test::read_text(file));
    json["normalizer"] = nullptr;
    json["pre_tokenizer"] = {{"type", "Metaspace"},
                             {"replacement", "\xE2\x96\x81"},
                             {"split", false},
                             {"prepend_scheme", "first"}};
    const auto made = [&](const char* scheme) {
        json["pre_tokenizer"]["prepend_scheme"] = scheme;
        return BpeTokenizer(tokenizer_from_json(json.dump(), "t.json"));
    };
    const std::string text = "a<s>a";
    CHECK(streamed(made("first"), made("first").encode(text)) == " a<s>a");
    CHECK(streamed(made("always"), made("always").encode(text)) == " a<s> a");
    CHECK(streamed(made("never"), made("never").encode(text)) == text);
    CHECK(made("always").encode(" a") == llama.encode("a"));
}

TEST_CASE("bpe: long pieces merge as short ones do") {
    std::string text;
    for (int i = 0; i < 20000; ++i) text += i % 3 == 0 ? "in" : "the";
    const auto ids = qwen().encode(text);
    CHECK(ids.size() < text.size() / 2);
    CHECK(qwen().decode(ids) == text);
}

TEST_CASE("bpe: ids without a token give nothing") {
    const std::vector<token_id> ids{-1, 0, 1499, 1500, 1 << 30};
    CHECK(qwen().decode(ids) == "!<|fim_prefix|>");
    CHECK(qwen().text(1500).empty());
    CHECK(qwen().text(-1).empty());
    CHECK(qwen().vocab_size() == 1500);
    CHECK(qwen().is_special(1489));
    CHECK(!qwen().is_special(1499));
    CHECK(!qwen().is_special(-1));
    CHECK(!qwen().is_special(1500));
    CHECK(qwen().prefix().empty());
}

TEST_CASE("bpe: added tokens are the leftmost, of those the longest") {
    const detail::AddedTokens tokens({{"<a", 1}, {"<a>", 2}, {"<ab>", 3}, {"a>", 4}, {"<", 5}});
    std::string said;
    const auto split = [&](std::string_view text) {
        said.clear();
        tokens.split(text, [&](std::string_view between, token_id id) {
            said += std::string(between) + "[" + std::to_string(id) + "]";
        });
        return said;
    };
    CHECK(split("x<a>y<ab<ab>") == "x[2]y[1]b[3][-1]");
    CHECK(split("<<a") == "[5][1][-1]");
    CHECK(split("aa>") == "a[4][-1]");
    CHECK(split("") == "[-1]");
    const detail::AddedTokens none;
    CHECK(none.find("<a>", 0).id == -1);
}

}  // namespace
}  // namespace hydralm
