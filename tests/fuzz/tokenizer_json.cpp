// tokenizer.json: a tokenizer that is made of any text encodes any bytes, and gives them back.
#include "hydralm/io/tokenizer/tokenizer_json.hpp"

#include "hydralm/io/tokenizer/bpe_tokenizer.hpp"
#include "target.hpp"

namespace hydralm::fuzz {
namespace {

void take(std::string_view input) {
    const TokenizerParts parts = tokenizer_from_json(input, "tokenizer.json");
    const BpeTokenizer tokenizer(parts);
    const std::string_view own = input.substr(0, 4096);
    const std::string_view texts[] = {"", "the  abc\r\n\n 'll 123\xE2\x96\x81x",
                                      "e\xCC\x81\xFF\xF0\x9F", own};
    for (const std::string_view text : texts) {
        const auto ids = tokenizer.encode(text);
        for (const token_id id : ids)
            expect(id >= 0 && id < tokenizer.vocab_size(), "an id is of the vocabulary");
        const std::string decoded = tokenizer.decode(ids);
        std::string joined;
        for (const token_id id : ids) joined += tokenizer.text(id);
        expect(joined.ends_with(decoded), "decoding joins what tokens are");
        const bool kept =
            parts.symbols == TokenizerParts::Symbols::bytes && !parts.nfc && parts.added.empty();
        if (kept) expect(decoded == text, "bytes come back");
    }
    for (const token_id id : {-1, 0, 300, TokenizerParts::most_ids})
        expect(tokenizer.decode({&id, 1}).size() <= tokenizer.text(id).size(),
               "any id can be decoded");
}

detail::Json file_of(const detail::Json& vocabulary, const char* rest) {
    detail::Json json = detail::Json::parse(rest);
    json["model"]["vocab"].update(vocabulary);
    return json;
}

std::vector<std::string> seeds() {
    detail::Json spelled, in_brackets;
    for (std::size_t c = 0; c < detail::spelled_bytes.size(); ++c) {
        const int byte = detail::spelled_bytes[c];
        if (byte < 0) continue;
        std::string text;
        detail::append_utf8(text, static_cast<char32_t>(c));
        spelled[text] = byte;
        static constexpr const char* digits = "0123456789ABCDEF";
        in_brackets[std::string("<0x") + digits[byte / 16] + digits[byte % 16] + ">"] = byte;
    }
    const char* const qwen =
        R"({"added_tokens": [{"id": 300, "content": "<end>", "special": true, "normalized": false}],
        "normalizer": {"type": "NFC"}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
        "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": {"ab": 256, "abc": 257}, "merges": ["a b", ["ab", "c"]]}})";
    const char* const llama =
        R"({"added_tokens": [{"id": 301, "content": "<s>", "special": true, "normalized": false}],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}},
        {"Sequence": {"id": "A"}}], "special_tokens": {"<s>": {"ids": [301]}}},
        "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"},
        "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "byte_fallback": true, "vocab": {"▁": 256, "a": 257, "b": 258,
        "▁a": 259, "▁ab": 260}, "merges": ["▁ a", "▁a b"]}})";
    detail::Json gpt = file_of(spelled, qwen);
    gpt["normalizer"] = nullptr;
    gpt["added_tokens"].clear();
    return {file_of(spelled, qwen).dump(), file_of(in_brackets, llama).dump(), gpt.dump()};
}

}  // namespace

const Target target{take, seeds, 1 << 26};

}  // namespace hydralm::fuzz
