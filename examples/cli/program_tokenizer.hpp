// The tokenizer of a checkpoint: that of the tokenizer.json beside it or of a GGUF file, or bytes.
#pragma once

#include <filesystem>
#include <hydralm/io/tokenizer.hpp>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace HYDRALM_NAMESPACE {
class BpeTokenizer;
}

// The file that a checkpoint's tokenizer is in, whether it is there or not: tokenizer.json in a
// folder and beside model.safetensors, NAME.tokenizer.json beside NAME.safetensors. A GGUF file has
// its own in it.
std::filesystem::path tokenizer_file_of(const std::filesystem::path& checkpoint);

// A value; copies share the tables.
class ProgramTokenizer {
public:
    ProgramTokenizer() = default;  // bytes
    explicit ProgramTokenizer(
        const std::filesystem::path& path);  // a tokenizer.json, its folder, or a GGUF file
    // Of a checkpoint.
    static ProgramTokenizer of(const std::filesystem::path& checkpoint);

    bool is_bytes() const noexcept { return bpe_ == nullptr; }
    // The file it was read from; empty for bytes.
    const std::filesystem::path& file() const noexcept { return file_; }

    hydralm::Index vocab_size() const noexcept;
    std::vector<hydralm::token_id> encode(std::string_view text) const;
    std::string decode(std::span<const hydralm::token_id> ids) const;
    std::string_view text(hydralm::token_id id) const noexcept;
    // The ids that begin a text to go on with.
    std::span<const hydralm::token_id> prefix() const noexcept;

    // The tables. Throws Error for bytes.
    const hydralm::BpeTokenizer& bpe() const;
    // What it is, as JSON.
    nlohmann::ordered_json description() const;

    // Throws Error unless a model of so many ids can read what is encoded.
    void expect_fits(hydralm::Index model_vocab_size) const;

private:
    std::filesystem::path file_;
    std::shared_ptr<const hydralm::BpeTokenizer> bpe_;
};
static_assert(hydralm::Tokenizer<ProgramTokenizer>);
