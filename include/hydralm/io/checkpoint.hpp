// Checkpoint: the named tensors of a model, in one safetensors file or in several (shards), or in a
// GGUF file.
//
// A path names a file, a model.safetensors.index.json, or a directory that holds model.safetensors
// or such an index. Index: {"metadata": {...}, "weight_map": {tensor: shard}}, shards beside it, as
// the Hugging Face libraries write them.
#pragma once

#include <optional>
#include <unordered_map>

#include "hydralm/io/gguf.hpp"
#include "hydralm/io/safetensors.hpp"

namespace HYDRALM_NAMESPACE {
namespace detail {

// "3 tensors (a, b, c)", at most four by name.
inline std::string listed(std::span<const std::string_view> names) {
    std::string text =
        std::to_string(names.size()) + (names.size() == 1 ? " tensor (" : " tensors (");
    for (std::size_t i = 0; i < std::min<std::size_t>(names.size(), 4); ++i)
        text += (i > 0 ? ", " : "") + std::string(names[i]);
    return text + (names.size() > 4 ? ", ...)" : ")");
}

}  // namespace detail

class Checkpoint {
public:
    // Throws Error for all that SafetensorsFile and GgufFile refuse, a directory without a
    // checkpoint or with both forms, an index that is not as above, a missing shard, a tensor that
    // is not in its shard, is in two shards, or is in none of the index's lines, and shards whose
    // metadata contradict each other.
    explicit Checkpoint(const std::filesystem::path& path) : path_(resolve(path)) {
        if (path_.extension() == ".json") open_shards();
        else if (is_gguf(path_)) add(gguf_.emplace(path_).tensors());
        else files_.emplace_back(path_);
        for (const SafetensorsFile& file : files_) add(file);
    }

    // The file that was opened: of tensors or of the index.
    const std::filesystem::path& path() const noexcept { return path_; }
    std::string name() const { return path_.string(); }
    // Of safetensors files.
    const Metadata& metadata() const noexcept { return metadata_; }
    // The file where it is a GGUF file, else null.
    const GgufFile* gguf() const noexcept { return gguf_ ? &*gguf_ : nullptr; }
    // In the order of the files and of the bytes in each.
    const std::vector<const StoredTensor*>& tensors() const noexcept { return tensors_; }

    // Null when there is none of that name.
    const StoredTensor* find(std::string_view tensor) const noexcept {
        const auto found = by_name_.find(tensor);
        return found == by_name_.end() ? nullptr : found->second;
    }
    // Throws Error when there is none.
    const StoredTensor& tensor(std::string_view tensor_name) const {
        if (const StoredTensor* found = find(tensor_name)) return *found;
        fail(std::string(tensor_name), "a tensor of this name",
             std::to_string(tensors_.size()) + " others",
             "use the checkpoint of this configuration");
    }

    // Throws Error unless the checkpoint holds exactly these tensors, each with its shape and of a
    // floating dtype; names the missing ones, else the unknown ones, else the first that differs.
    void expect(std::span<const TensorSpec> expected) const {
        std::vector<std::string_view> missing;
        std::unordered_map<std::string_view, const TensorSpec*> known;
        for (const TensorSpec& spec : expected) {
            known.emplace(spec.name, &spec);
            if (find(spec.name) == nullptr) missing.push_back(spec.name);
        }
        std::vector<std::string_view> unknown;
        for (const StoredTensor* tensor : tensors_)
            if (!known.contains(tensor->name())) unknown.push_back(tensor->name());
        if (!missing.empty()) {
            fail(std::string(missing.front()), "every tensor of the configuration",
                 detail::listed(missing) + " missing" +
                     (unknown.empty() ? "" : " and " + detail::listed(unknown) + " unknown"),
                 "use the checkpoint of this configuration");
        }
        if (!unknown.empty()) {
            fail(std::string(unknown.front()), "only tensors of the configuration",
                 detail::listed(unknown) + " unknown",
                 "use the checkpoint of this configuration, or remove them");
        }
        for (const TensorSpec& spec : expected) {
            const StoredTensor& tensor = *find(spec.name);
            tensor.expect_shape(spec.shape);
            tensor.expect_floating();
        }
    }

private:
    static std::filesystem::path resolve(const std::filesystem::path& path) {
        std::error_code failure;
        if (!std::filesystem::is_directory(path, failure)) return path;
        const auto whole = path / "model.safetensors";
        const auto index = path / "model.safetensors.index.json";
        const bool has_whole = std::filesystem::exists(whole, failure);
        const bool has_index = std::filesystem::exists(index, failure);
        if (has_whole != has_index) return has_whole ? whole : index;
        raise({.file = path.string(),
               .expected = "model.safetensors or model.safetensors.index.json",
               .found = has_whole ? "both" : "neither",
               .fix = "give the path of the file itself"});
    }

    void open_shards() {
        const MappedFile index(path_);
        const detail::Json json = parse_json(index.text(), index.name(), "");
        const auto map = json.is_object() ? json.find("weight_map") : json.end();
        if (map == json.end() || !map->is_object())
            fail("weight_map", "an object of tensor: shard", "none",
                 "give a safetensors file, or the index of one in shards");
        std::map<std::string, std::size_t> shards;
        for (const auto& [tensor, value] : map->items()) {
            const std::string shard = value.is_string() ? value.get<std::string>() : "";
            if (shard.empty() || std::filesystem::path(shard).filename() != shard || shard == "." ||
                shard == ".." || shard.find('\0') != std::string::npos)
                fail(tensor, "the name of a file beside the index", detail::shown(value),
                     "write the index again");
            const auto [found, added] = shards.emplace(shard, files_.size());
            if (added) files_.push_back(open_shard(shard));
            if (files_[found->second].find(tensor) == nullptr)
                fail(tensor, "a tensor of " + shard, "none of this name there",
                     "copy index and shards again");
        }
        for (const SafetensorsFile& file : files_) {
            for (const StoredTensor& tensor : file.tensors()) {
                const auto line = map->find(tensor.name());
                if (line == map->end())
                    fail(tensor.name(), "a line in weight_map", "none, yet it is in " + file.name(),
                         "write the index again");
                if (&files_[shards.at(line->get<std::string>())] != &file)
                    fail(tensor.name(), "one shard that holds it", "two",
                         "copy index and shards again");
            }
        }
    }

    SafetensorsFile open_shard(const std::string& shard) const {
        const auto path = path_.parent_path() / shard;
        std::error_code failure;
        if (!std::filesystem::exists(path, failure)) {
            fail(shard, "every shard beside the index", "no such file",
                 "copy or download the missing shard to " + path.string());
        }
        return SafetensorsFile(path);
    }

    void add(const SafetensorsFile& file) {
        for (const auto& [key, text] : file.metadata()) {
            const auto [found, added] = metadata_.emplace(key, text);
            if (!added && found->second != text)
                fail("__metadata__." + key, "the same text in every shard",
                     "another in " + file.name(), "copy the shards again");
        }
        add(file.tensors());
    }
    void add(const std::vector<StoredTensor>& tensors) {
        for (const StoredTensor& tensor : tensors) {
            tensors_.push_back(&tensor);
            by_name_.emplace(tensor.name(), &tensor);
        }
    }

    [[noreturn]] void fail(std::string field, std::string expected, std::string found,
                           std::string fix) const {
        raise({.file = name(),
               .field = std::move(field),
               .expected = std::move(expected),
               .found = std::move(found),
               .fix = std::move(fix)});
    }

    std::filesystem::path path_;
    std::vector<SafetensorsFile> files_;
    std::optional<GgufFile> gguf_;
    Metadata metadata_;
    std::vector<const StoredTensor*> tensors_;
    std::map<std::string_view, const StoredTensor*> by_name_;
};

}  // namespace HYDRALM_NAMESPACE
