// The tokenizer in the metadata of a GGUF file: byte-level BPE, tokenizer.ggml.*.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "hydralm/io/gguf.hpp"
#include "hydralm/io/tokenizer/tokenizer_parts.hpp"

namespace HYDRALM_NAMESPACE {
namespace detail {

// What tokenizer.ggml.token_type says of a token.
enum class GgufToken : std::int32_t { normal = 1, control = 3, user_defined = 4, unused = 5 };

inline void read_gguf_tokens(const GgufFile& file, TokenizerParts& parts) {
    const std::string field = "tokenizer.ggml.tokens", types = "tokenizer.ggml.token_type";
    const GgufValue& texts = file.array(field, GgufType::text);
    const GgufValue& kinds = file.array(types, GgufType::i32);
    if (texts.count > static_cast<std::uint64_t>(TokenizerParts::most_ids))
        file.refuse(field, "at most " + std::to_string(TokenizerParts::most_ids),
                    std::to_string(texts.count));
    if (kinds.count != texts.count)
        file.refuse(types, std::to_string(texts.count) + ", one for each token",
                    std::to_string(kinds.count));
    token_id id = 0;
    texts.for_each_text([&](std::string_view text) {
        const auto kind = kinds.integer_at(static_cast<std::size_t>(id));
        switch (static_cast<GgufToken>(kind)) {
            case GgufToken::normal: parts.vocabulary.push_back({std::string(text), id}); break;
            case GgufToken::control: parts.added.push_back({std::string(text), id, true}); break;
            case GgufToken::user_defined: parts.added.push_back({std::string(text), id}); break;
            case GgufToken::unused: break;
            default:
                file.refuse(types + "[" + std::to_string(id) + "]",
                            "1 (normal), 3 (control), 4 (user-defined) or 5 (unused)",
                            std::to_string(kind));
        }
        ++id;
    });
}

inline void read_gguf_merges(const GgufFile& file, TokenizerParts& parts) {
    const std::string field = "tokenizer.ggml.merges";
    file.array(field, GgufType::text).for_each_text([&](std::string_view merge) {
        const std::size_t space = merge.find(' ');
        if (space == merge.npos || merge.find(' ', space + 1) != merge.npos)
            file.refuse(field + "[" + std::to_string(parts.merges.size()) + "]", "\"a b\"",
                        '"' + std::string(merge) + '"');
        parts.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
    });
}

}  // namespace detail

// The parts that a file's metadata describe. What is before merging has a name there, as llama.cpp
// knows it; that of Qwen2 and that of Qwen3.5 are read, and compose texts (NFC) as their
// tokenizer.json says. Throws Error, by the key, for what is missing, of a wrong type, or not read.
inline TokenizerParts tokenizer_from_gguf(const GgufFile& file) {
    TokenizerParts parts;
    parts.file = file.name();
    const auto model = file.text("tokenizer.ggml.model"), pre = file.text("tokenizer.ggml.pre");
    constexpr const char* elsewhere =
        "docs/tokenizers.md says which tokenizers are read; others can be used through ids";
    if (model != "gpt2") file.refuse("tokenizer.ggml.model", "gpt2", std::string(model), elsewhere);
    if (pre != "qwen35" && pre != "qwen2")
        file.refuse("tokenizer.ggml.pre", "qwen35 or qwen2", std::string(pre), elsewhere);
    parts.split = SplitRule{.marks_are_letters = pre == "qwen35"};
    parts.nfc = true;
    detail::read_gguf_tokens(file, parts);
    detail::read_gguf_merges(file, parts);
    const GgufValue* const begins = file.find("tokenizer.ggml.add_bos_token");
    if (begins != nullptr && begins->json() == true) {
        const GgufValue* const id = file.find("tokenizer.ggml.bos_token_id");
        const auto is_it = [&](const auto& token) {
            return id != nullptr && id->json() == token.id;
        };
        const auto found = std::ranges::find_if(parts.added, is_it);
        if (found == parts.added.end())
            file.refuse("tokenizer.ggml.bos_token_id", "the id of an added token",
                        GgufFile::said(id));
        parts.prefix.push_back(found->id);
    }
    return parts;
}

}  // namespace HYDRALM_NAMESPACE
