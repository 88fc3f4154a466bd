// What train writes: a checkpoint of ours, or, where it begins from a published model, a folder of
// that model's family.
#pragma once

#include <hydralm/io.hpp>
#include <hydralm/training/trainer_options.hpp>

#include <filesystem>
#include <utility>

#include "options.hpp"

template <class Model>
bool is_published(const Model& model) {
    if constexpr (requires { model.hybrid; }) return model.hybrid.has_value();
    else return false;
}

// Throws Error for a file of blocks, which training cannot begin from.
inline void expect_no_gguf(const Options& o) {
    if (!o.train.init.empty() && hydralm::is_gguf(o.train.init))
        throw hydralm::Error({.file = o.train.init,
                              .field = "--init",
                              .expected = "a checkpoint in safetensors",
                              .found = "a GGUF file",
                              .fix = "begin from the folder that it was made of"});
}

// The checkpoint that --out names: of a published model in the folder of that name.
template <class Model>
std::filesystem::path out_checkpoint(const Options& o, const Model& model) {
    const std::filesystem::path out(o.out);
    return is_published(model) ? out / "model.safetensors" : out;
}

// Checkpoints of a run that writes model.safetensors lie in model.training, of one that writes
// another name in name.training.
inline std::filesystem::path run_directory(const Options& o) {
    if (!o.train.resume.empty()) return o.train.resume;
    std::filesystem::path directory(o.out);
    if (!directory.has_filename()) directory = directory.parent_path();  // a folder, with its slash
    if (directory.extension() == ".safetensors") directory.replace_extension();
    return directory += ".training";
}

inline std::filesystem::path best_checkpoint(const Options& o) {
    return run_directory(o) / "best.safetensors";
}

// Throws Error, with the option that names it, where a published model may not be written.
inline void expect_saves_published(const Options& o, const std::filesystem::path& checkpoint,
                                   const char* option) {
    try {
        hydralm::expect_saves_published(o.train.init, checkpoint);
    } catch (const hydralm::Error& error) {
        hydralm::ErrorDetail detail = error.detail();
        if (detail.field.empty()) detail.field = option;
        throw hydralm::Error(std::move(detail));
    }
}

// Refuses before the training what could not be written after it, or would take the place of
// another model.
inline void expect_writable(const std::filesystem::path& path) { hydralm::AtomicFile{path}; }
template <class Model>
void prepare_out(const Options& o, const Model& model) {
    const auto checkpoint = out_checkpoint(o, model);
    std::error_code failure;  // writing says it better
    if (is_published(model)) {
        if (std::filesystem::path(o.out).extension() == ".safetensors")
            throw hydralm::Error({.file = o.out,
                                  .field = "--out",
                                  .expected = "the name of a folder, as a published model has",
                                  .found = "that of a file",
                                  .fix = "leave .safetensors out"});
        const bool resumes = !o.train.resume.empty();
        expect_saves_published(o, checkpoint, "--out");
        expect_saves_published(o, best_checkpoint(o), resumes ? "--resume" : "--out");
        if (!resumes && std::filesystem::exists(checkpoint, failure))
            throw hydralm::Error({.file = checkpoint.string(),
                                  .field = "--out",
                                  .expected = "a new folder, or --resume with the run that wrote "
                                              "this one",
                                  .found = "a model",
                                  .fix = "write to a new folder"});
        std::filesystem::create_directories(checkpoint.parent_path(), failure);
    }
    expect_writable(checkpoint);
    if (std::filesystem::exists(best_checkpoint(o), failure)) expect_writable(best_checkpoint(o));
}

template <class Model>
void save_trained(const Options& o, const Model& model, const std::filesystem::path& checkpoint) {
    if constexpr (requires { model.hybrid; })
        if (model.hybrid) return hydralm::save_published(model, o.train.init, checkpoint);
    hydralm::save(model, checkpoint);
}
// To --out, with the tokenizer of a published model unless --tokenizer names another.
template <class Model>
void save_out(const Options& o, const Model& model) {
    save_trained(o, model, out_checkpoint(o, model));
    if (!is_published(model) || !o.tokenizer.empty()) return;
    const std::filesystem::path to(o.out), from = hydralm::Checkpoint(o.train.init).path();
    for (const char* const name :
         {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
          "vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja"}) {
        const auto file = from.parent_path() / name;
        std::error_code none;
        if (std::filesystem::exists(file, none))
            hydralm::write_file(to / name, hydralm::MappedFile(file).text());
    }
}

// What no tensor of a published model says stays as it is: the convolution where it has none.
inline void keep_constants(hydralm::TrainerOptions& options) {
    options.frozen = [frozen = std::move(options.frozen)](const hydralm::ParameterInfo& info,
                                                          std::int64_t step) {
        const bool none = info.rank == 3 && info.cols() == 1;
        return none || (frozen && frozen(info, step));
    };
}
