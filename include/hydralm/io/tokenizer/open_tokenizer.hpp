// open_tokenizer: the tokenizer of a tokenizer.json, of its folder, or of a GGUF file.
#pragma once

#include <filesystem>

#include "hydralm/io/tokenizer/bpe_tokenizer.hpp"
#include "hydralm/io/tokenizer/tokenizer_gguf.hpp"
#include "hydralm/io/tokenizer/tokenizer_json.hpp"

namespace HYDRALM_NAMESPACE {

// Throws Error when the file is missing, for all that tokenizer_from_json or tokenizer_from_gguf
// refuses, and for parts that make no tokenizer.
inline BpeTokenizer open_tokenizer(const std::filesystem::path& path) {
    if (is_gguf(path)) return BpeTokenizer(tokenizer_from_gguf(GgufFile(path)));
    std::error_code unknown;
    const bool folder = std::filesystem::is_directory(path, unknown);
    const MappedFile file(folder ? path / "tokenizer.json" : path);
    return BpeTokenizer(tokenizer_from_json(file.text(), file.name()));
}

}  // namespace HYDRALM_NAMESPACE
