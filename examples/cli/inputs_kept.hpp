// A command that would overwrite what it reads is refused.
#pragma once

#include <filesystem>
#include <hydralm/core/error.hpp>
#include <string>
#include <utility>
#include <vector>

#include "options.hpp"

// What a published model is read from: the files of a folder that is given itself or by its index;
// of one file, the config beside it.
inline std::vector<std::string> files_of_folder(const std::string& model) {
    std::vector<std::string> files;
    if (model.empty()) return files;
    std::filesystem::path folder(model);
    if (model.ends_with(".index.json")) folder = std::filesystem::absolute(folder).parent_path();
    std::error_code none;
    if (std::filesystem::is_regular_file(folder, none))
        files.push_back((std::filesystem::absolute(folder).parent_path() / "config.json").string());
    for (const auto& entry : std::filesystem::directory_iterator(folder, none)) {
        const auto extension = entry.path().extension();
        if (extension == ".safetensors" || extension == ".json" || extension == ".jinja")
            files.push_back(entry.path().string());
    }
    return files;
}

// Throws Error where an output is one of the other files.
inline void expect_apart(const std::string& output, const char* option,
                         const std::vector<std::string>& others) {
    std::error_code unknown;
    for (const std::string& other : others)
        if (std::filesystem::equivalent(output, other, unknown))
            throw hydralm::Error({.file = output,
                                  .field = option,
                                  .expected = "a file that is not used otherwise",
                                  .found = "the same as " + other,
                                  .fix = "give the output a name of its own"});
}

// What `embed --assembler` writes with a header.
inline std::string beside(const std::string& header, const char* extension) {
    return std::filesystem::path(header).replace_extension(extension).string();
}

// Refuses an output that would take the place of what is read for it. A checkpoint that training
// begins from may be replaced by what it becomes.
inline void expect_inputs_kept(const Options& o) {
    std::vector<std::string> inputs{o.ids,    o.text,      o.in,          o.model,
                                    o.config, o.tokenizer, o.train.stages};
    for (const std::string& model : {o.model, o.config, o.tokenizer})
        for (std::string& file : files_of_folder(model)) inputs.push_back(std::move(file));
    for (const std::string& text : o.train.text) {
        inputs.push_back(text);
        std::error_code unreadable;
        for (const auto& entry : std::filesystem::recursive_directory_iterator(text, unreadable))
            inputs.push_back(entry.path().string());
    }
    expect_apart(o.out, "--out", inputs);
    if (o.assembler)
        for (const char* const extension : {".S", ".bin"})
            expect_apart(beside(o.out, extension), "--assembler", inputs);
    // The folder of a published model may not be there yet.
    const std::filesystem::path log(o.train.log), out(o.out);
    const auto extension = log.extension();
    std::error_code unknown;
    if ((extension == ".safetensors" || extension == ".json") &&
        std::filesystem::weakly_canonical(std::filesystem::absolute(log, unknown), unknown) ==
            std::filesystem::weakly_canonical(
                std::filesystem::absolute(out / log.filename(), unknown), unknown))
        throw hydralm::Error({.file = o.train.log,
                              .field = "--log",
                              .expected = "a file that is not used otherwise",
                              .found = "one of the folder of --out",
                              .fix = "give the log a name of its own"});
    inputs.insert(inputs.end(), {o.out, o.train.init});
    for (std::string& file : files_of_folder(o.train.init)) inputs.push_back(std::move(file));
    expect_apart(o.train.log, "--log", inputs);
}
