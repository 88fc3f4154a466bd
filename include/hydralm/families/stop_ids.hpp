// stop_ids: the tokens at which a published model ends its texts.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "hydralm/core/error.hpp"
#include "hydralm/core/types.hpp"
#include "hydralm/io/gguf.hpp"
#include "hydralm/io/json_text.hpp"
#include "hydralm/io/mapped_file.hpp"

namespace HYDRALM_NAMESPACE {
namespace detail {

// A number, or a list of them. field: what says it.
inline void take_ids(const Json& given, const std::string& file, const char* field,
                     Index vocab_size, std::vector<token_id>& ids) {
    for (const Json& id : given.is_array() ? given : Json::array({given})) {
        if (!id.is_number_integer() || id.get<double>() < 0 ||
            id.get<double>() >= static_cast<double>(vocab_size))
            raise({.file = file,
                   .field = field,
                   .expected = "an id or a list of ids in [0, " + std::to_string(vocab_size) + ")",
                   .found = shown(given),
                   .fix = "correct it, or remove it"});
        ids.push_back(id.get<token_id>());
    }
}

// eos_token_id of an object. True where there is any.
inline bool take_stop_ids(const Json& json, const std::string& file, Index vocab_size,
                          std::vector<token_id>& ids) {
    if (!json.is_object() || !json.contains("eos_token_id") || json["eos_token_id"].is_null())
        return false;
    take_ids(json["eos_token_id"], file, "eos_token_id", vocab_size, ids);
    return true;
}

inline std::vector<token_id> gguf_stop_ids(const GgufFile& file, Index vocab_size) {
    std::vector<token_id> ids;
    for (const char* const key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"})
        if (const GgufValue* const value = file.find(key))
            take_ids(value->json(), file.name(), key, vocab_size, ids);
    return ids;
}

}  // namespace detail

// eos_token_id of the folder's generation_config.json, else of its config.json (of the text's part
// in a composite one); none where neither says any. folder: or a file in it; of a GGUF file, those
// of its metadata. vocab_size: the model's. Throws Error for a file that is not JSON, for what
// GgufFile refuses, and for ids that are none or beyond it.
inline std::vector<token_id> stop_ids(const std::filesystem::path& folder, Index vocab_size) {
    if (is_gguf(folder)) return detail::gguf_stop_ids(GgufFile(folder), vocab_size);
    std::error_code failure;
    const auto directory =
        std::filesystem::is_directory(folder, failure) ? folder : folder.parent_path();
    std::vector<token_id> ids;
    for (const char* const name : {"generation_config.json", "config.json"}) {
        const std::string file = (directory / name).string();
        if (!std::filesystem::exists(file, failure)) continue;
        const detail::Json json = parse_json(MappedFile(file).text(), file, "");
        if (detail::take_stop_ids(json, file, vocab_size, ids)) break;
        if (json.is_object() && json.contains("text_config") &&
            detail::take_stop_ids(json["text_config"], file, vocab_size, ids))
            break;
    }
    return ids;
}

}  // namespace HYDRALM_NAMESPACE
