// tokenizer.json: what is read, and what is refused with its field.
#include "hydralm/io/tokenizer/open_tokenizer.hpp"

#include "support/files.hpp"

namespace hydralm {
namespace {

using detail::Json;

const std::string golden = HYDRALM_GOLDEN_DIR "/tokenizer/";

// Qwen3.5's structure, of bytes and a few tokens.
Json small() {
    Json json = Json::parse(test::read_text(golden + "tokenizer.json"));
    Json vocabulary = Json::object();
    for (const auto& [text, id] : json["model"]["vocab"].items())
        if (id < 256) vocabulary[text] = id;
    vocabulary["ab"] = 256;
    vocabulary["abc"] = 257;
    json["model"]["vocab"] = vocabulary;
    json["model"]["merges"] = Json::parse(R"([["a", "b"], ["ab", "c"]])");
    json["added_tokens"] = Json::parse(R"([{"id": 300, "content": "<end>", "special": true}])");
    return json;
}

BpeTokenizer made(const Json& json) {
    return BpeTokenizer(tokenizer_from_json(json.dump(), "t.json"));
}

void check_refused(const Json& json, const std::vector<std::string>& parts) {
    test::check_error([&] { made(json); }, parts);
}

// With the value at a JSON pointer, "/model/type", changed.
void check_refused(const char* pointer, const Json& value, const std::vector<std::string>& parts) {
    Json json = small();
    json[Json::json_pointer(pointer)] = value;
    check_refused(json, parts);
}

TEST_CASE("tokenizer.json: the small one, its merges spelled both ways") {
    const BpeTokenizer tokenizer = made(small());
    CHECK(tokenizer.vocab_size() == 301);
    CHECK(tokenizer.encode("abc<end>abab") == std::vector<token_id>{257, 300, 256, 256});
    CHECK(tokenizer.text(299).empty());
    Json json = small();
    json["model"]["merges"] = Json::parse(R"(["a b", "ab c"])");
    const std::string text = json.dump();
    const BpeTokenizer same(tokenizer_from_json(text, "t.json"));
    CHECK(same.encode("xabc") == tokenizer.encode("xabc"));
    json["model"]["ignore_merges"] = true;
    json["model"]["merges"] = Json::array();
    CHECK(made(json).encode("abc") == std::vector<token_id>{257});
    json["model"]["ignore_merges"] = false;
    CHECK(made(json).encode("abc").size() == 3);
}

TEST_CASE("tokenizer.json: added tokens before and behind normalisation") {
    Json json = small();
    json["added_tokens"] = Json::parse(R"([{"id": 300, "content": "e\u0301", "normalized": false},
                        {"id": 301, "content": "o\u0301", "normalized": true}])");
    const BpeTokenizer tokenizer = made(json);
    CHECK(tokenizer.encode("e\u0301o\u0301\u00F3") == std::vector<token_id>{300, 301, 301});
    CHECK(tokenizer.encode("\u00E9").size() == 2);
}

TEST_CASE("tokenizer.json: a file that is none") {
    const auto refused = [](const std::string& text, const std::vector<std::string>& parts) {
        test::check_error([&] { tokenizer_from_json(text, "t.json"); }, parts);
    };
    const std::string whole = small().dump();
    for (std::size_t n = 1; n < whole.size(); n += 1 + n / 7)
        refused(whole.substr(0, n), {"t.json: expected JSON", "copied again"});
    refused("[]", {"t.json: expected an object, found []"});
    refused("\xEF\xBB\xBF{}", {"byte-order mark"});
    refused("{\"a\": 1, \"a\": 2}", {"expected each key once, found \"a\" twice"});
    refused(R"({"model": {"vocab": {}, "vocab": {}}})", {"\"vocab\" twice"});
    refused(R"({"model": {"merges": [], "merges": []}})", {"\"merges\" twice"});
    refused(std::string(20, '['), {"at most 16 lists and objects"});
    refused(R"({"model": {"vocab": {"a": "b"}}})", {"model.vocab \"a\": expected an integer"});
    refused(R"({"model": {"vocab": {"a": [1]}}})", {"model.vocab \"a\": expected an integer"});
    refused(R"({"model": {"vocab": {"a": 1.5}}})", {"model.vocab \"a\": expected an integer"});
    refused(R"({"model": {"merges": [1]}})",
            {"model.merges[0]", R"(["a", "b"] or "a b")", "found 1"});
    refused(R"({"model": {"merges": ["ab"]}})", {"model.merges[0]", "found \"ab\""});
    refused(R"({"model": {"merges": ["a b c"]}})", {"model.merges[0]", "found \"a b c\""});
    refused(R"({"model": {"merges": [["a","b"],["a"]]}})", {"model.merges[1]", "another number"});
    refused(R"({"model": {"merges": [["a","b","c"]]}})", {"model.merges[0]", "more than two"});
    refused(R"({"model": {"merges": [["a",["b"]]]}})", {"model.merges[0]"});
    refused(R"({"model": {"merges": [{}]}})", {"model.merges[0]"});
    test::check_error([] { open_tokenizer("/nowhere/tokenizer.json"); }, {"/nowhere", "readable"});
}

TEST_CASE("tokenizer.json: what is not read is refused by its field") {
    check_refused("/model", 1, {"model: expected an object, found 1"});
    check_refused("/model/type", "Unigram", {"model.type: expected BPE, found \"Unigram\""});
    check_refused("/model/vocab", 7, {"model.vocab: expected an object of ids, found 7"});
    check_refused("/model/merges", nullptr, {"model.merges: expected a list, found none"});
    check_refused("/model/dropout", 0.1, {"model.dropout: expected null, found 0.1"});
    check_refused("/model/end_of_word_suffix", "</w>", {"model.end_of_word_suffix"});
    check_refused("/model/ignore_merges", 1, {"model.ignore_merges: expected true or false"});
    check_refused("/normalizer/type", "NFKC", {"normalizer.type: expected NFC, found \"NFKC\""});
    check_refused("/normalizer", Json::parse(R"({"type": "Sequence"})"),
                  {"normalizer.normalizers: expected a list"});
    check_refused("/pre_tokenizer", nullptr, {"pre_tokenizer: expected Split and ByteLevel"});
    check_refused(
        "/pre_tokenizer/pretokenizers/0/pattern/Regex", R"( ?\p{L}+)",
        {"pre_tokenizer.pretokenizers[0].pattern.Regex: expected that of Qwen2, Qwen3.5 or "
         "GPT-4, found  ?\\p{L}+"});
    check_refused("/pre_tokenizer/pretokenizers/0/pattern/Regex", 1,
                  {"expected a string, found 1"});
    check_refused("/pre_tokenizer/pretokenizers/0/behavior", "Removed", {"expected Isolated"});
    check_refused("/pre_tokenizer/pretokenizers/1/use_regex", true,
                  {"[1].use_regex: expected false"});
    check_refused("/pre_tokenizer/pretokenizers/1/type", "Digits",
                  {"expected Split and ByteLevel"});
    check_refused("/post_processor/type", "BertProcessing", {"post_processor.type"});
    check_refused("/decoder/type", "WordPiece", {"decoder.type: expected ByteLevel"});
    check_refused("/added_tokens", 1, {"added_tokens: expected a list"});
    check_refused("/added_tokens/0", 1, {"added_tokens[0].content: expected a string"});
    check_refused("/added_tokens/0/id", "1", {"added_tokens[0].id: expected an integer"});
    check_refused("/added_tokens/0/lstrip", true, {"added_tokens[0].lstrip: expected false"});
}

TEST_CASE("tokenizer.json: tables that contradict themselves") {
    check_refused("/model/vocab/ab", -5, {"model.vocab \"ab\": expected an id in [0, 2097152)"});
    check_refused("/model/vocab/ab", std::uint64_t{1} << 63, {"expected an id in [0, 2097152)"});
    check_refused("/added_tokens/0/id", std::uint64_t{1} << 63,
                  {"added_tokens[0]: expected an id in"});
    check_refused("/model/vocab/ab", 257, {"model.vocab \"abc\"", "257, which is taken"});
    check_refused("/added_tokens/0/id", 257, {"added_tokens[0]", "257, which is taken"});
    check_refused("/added_tokens/0/content", "ab", {"added_tokens[0].id: expected 256"});
    check_refused("/added_tokens/0/content", "",
                  {"added_tokens[0].content: expected at least one"});
    check_refused("/added_tokens/1", Json::parse(R"({"id": 301, "content": "<end>"})"),
                  {"\"<end>\" twice"});
    check_refused("/model/merges/0", Json::parse(R"(["a", "x"])"),
                  {"model.merges[0]", "found \"a\" and \"x\""});
    check_refused("/model/merges/1", Json::parse(R"(["", "ab"])"),
                  {"model.merges[1]"});  // would merge for ever
    check_refused("/model/merges/1", Json::parse(R"(["€", "ab"])"), {"model.merges[1]"});
    Json json = small();
    json["model"]["vocab"].erase("a");
    check_refused(json, {"model.vocab: expected a token for each byte, found none for byte 97"});
}

TEST_CASE("tokenizer.json: a token of many bytes") {
    Json json = small();
    json["model"]["vocab"][std::string(1 << 20, 'a')] = 258;
    const BpeTokenizer tokenizer = made(json);
    CHECK(tokenizer.text(258).size() == 1 << 20);
    CHECK(tokenizer.encode(std::string(1 << 16, 'a')).size() == 1 << 16);
}

}  // namespace
}  // namespace hydralm
