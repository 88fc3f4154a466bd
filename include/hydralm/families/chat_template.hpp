// expect_chat_ml: refuses folders whose template for dialogues is another than ChatML.
#pragma once

#include <filesystem>
#include <string>

#include "hydralm/core/error.hpp"
#include "hydralm/io/gguf.hpp"
#include "hydralm/io/json_text.hpp"
#include "hydralm/io/mapped_file.hpp"

namespace HYDRALM_NAMESPACE {

// Throws Error, naming the file, where chat_template.jinja of the folder, or chat_template of its
// tokenizer_config.json, has no <|im_start|>; nothing is known of a folder without both. folder:
// or a file in it. Of a GGUF file its own tokenizer.chat_template decides.
inline void expect_chat_ml(const std::filesystem::path& folder) {
    const auto expect = [](const std::string& file, std::string_view text) {
        if (text.find("<|im_start|>") == std::string_view::npos)
            raise({.file = file,
                   .field = "chat_template",
                   .expected = "ChatML: <|im_start|>, the role, the text, <|im_end|>",
                   .found = "another template",
                   .fix = "ask with generate, and write the model's own template"});
    };
    if (is_gguf(folder)) {
        const GgufFile file(folder);
        if (file.find("tokenizer.chat_template") != nullptr)
            expect(folder.string(), file.text("tokenizer.chat_template"));
        return;
    }
    std::error_code failure;
    const auto directory =
        std::filesystem::is_directory(folder, failure) ? folder : folder.parent_path();
    const std::string alone = (directory / "chat_template.jinja").string(),
                      config = (directory / "tokenizer_config.json").string();
    if (std::filesystem::exists(alone, failure)) return expect(alone, MappedFile(alone).text());
    if (!std::filesystem::exists(config, failure)) return;
    const detail::Json json = parse_json(MappedFile(config).text(), config, "");
    const auto found = json.is_object() ? json.find("chat_template") : json.end();
    if (found != json.end() && !found->is_null()) expect(config, found->dump());
}

}  // namespace HYDRALM_NAMESPACE
