// The tokenizers that the program knows, behind one interface.
#include "program_tokenizer.hpp"

#include <hydralm/io/tokenizer/open_tokenizer.hpp>
#include <nlohmann/json.hpp>

namespace fs = std::filesystem;

fs::path tokenizer_file_of(const fs::path& checkpoint) {
    std::error_code unknown;
    if (fs::is_directory(checkpoint, unknown)) return checkpoint / "tokenizer.json";
    const std::string name = checkpoint.filename().string();
    if (name.starts_with("model.")) return checkpoint.parent_path() / "tokenizer.json";
    fs::path file = checkpoint;
    if (file.extension() == ".safetensors") file.replace_extension();
    return file += ".tokenizer.json";
}

ProgramTokenizer::ProgramTokenizer(const fs::path& path) : file_(path) {
    std::error_code unknown;
    if (fs::is_directory(path, unknown)) file_ /= "tokenizer.json";
    bpe_ = std::make_shared<const hydralm::BpeTokenizer>(hydralm::open_tokenizer(file_));
}

ProgramTokenizer ProgramTokenizer::of(const fs::path& checkpoint) {
    if (hydralm::is_gguf(checkpoint)) return ProgramTokenizer(checkpoint);
    std::error_code unknown;
    const fs::path file = tokenizer_file_of(checkpoint);
    return fs::exists(file, unknown) ? ProgramTokenizer(file) : ProgramTokenizer();
}

hydralm::Index ProgramTokenizer::vocab_size() const noexcept {
    return bpe_ ? bpe_->vocab_size() : hydralm::ByteTokenizer::bytes;
}
std::vector<hydralm::token_id> ProgramTokenizer::encode(std::string_view text) const {
    return bpe_ ? bpe_->encode(text) : hydralm::ByteTokenizer().encode(text);
}
std::string_view ProgramTokenizer::text(hydralm::token_id id) const noexcept {
    return bpe_ ? bpe_->text(id) : hydralm::ByteTokenizer().text(id);
}
std::string ProgramTokenizer::decode(std::span<const hydralm::token_id> ids) const {
    if (bpe_) return bpe_->decode(ids);
    std::string decoded;
    for (const hydralm::token_id id : ids) decoded += text(id);
    return decoded;
}
std::span<const hydralm::token_id> ProgramTokenizer::prefix() const noexcept {
    return bpe_ ? bpe_->prefix() : std::span<const hydralm::token_id>();
}

const hydralm::BpeTokenizer& ProgramTokenizer::bpe() const {
    if (!bpe_)
        throw hydralm::Error({.field = "tokenizer",
                              .expected = "a tokenizer.json beside the checkpoint",
                              .found = "none",
                              .fix = "copy it from where the model was published"});
    return *bpe_;
}

nlohmann::ordered_json ProgramTokenizer::description() const {
    if (!bpe_) return {{"type", "bytes"}, {"vocabulary", vocab_size()}};
    nlohmann::ordered_json special = nlohmann::ordered_json::object();
    for (hydralm::token_id id = 0; id < bpe_->vocab_size(); ++id)
        if (bpe_->is_special(id)) special[std::string(bpe_->text(id))] = id;
    return {
        {"type", bpe_->by_bytes() ? "BPE of bytes" : "BPE of characters"},
        {"pre_tokenizer", bpe_->split() ? std::string(name(*bpe_->split())) + "'s cuts" : "none"},
        {"normalizer", bpe_->composes() ? "NFC" : "none"},
        {"vocabulary", bpe_->vocab_size()},
        {"special", special}};
}

void ProgramTokenizer::expect_fits(hydralm::Index model_vocab_size) const {
    if (vocab_size() > model_vocab_size)
        throw hydralm::Error(
            {.file = file_.string(),
             .field = "vocab_size",
             .expected = "at most the model's " + std::to_string(model_vocab_size),
             .found = std::to_string(vocab_size()) + (is_bytes() ? ", an id for every byte" : ""),
             .fix = "give ids instead of text, or use a tokenizer and a model "
                    "that were made for each other"});
}
