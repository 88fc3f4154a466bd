// save_published: a published model that was trained, as a checkpoint of its own family.
#pragma once

#include <array>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "hydralm/families/published.hpp"
#include "hydralm/io/json_difference.hpp"
#include "hydralm/io/safetensors_writer.hpp"
#include "hydralm/io/stack_json.hpp"
#include "hydralm/model/runtime_model.hpp"

namespace HYDRALM_NAMESPACE {
namespace detail {

// The files of a published folder that say what its model is, beside its weights.
inline constexpr std::array published_files{"config.json", "generation_config.json"};

// The folder that a model may be saved from. Throws Error for a checkpoint of ours and a GGUF file.
inline families::Published expect_published_folder(const Checkpoint& from) {
    auto published = from.gguf() == nullptr ? families::published(from) : std::nullopt;
    if (!published)
        raise({.file = from.name(),
               .expected = "the folder of a published model, in safetensors",
               .found = from.gguf() != nullptr ? "a GGUF file" : "no config.json of one",
               .fix = from.gguf() != nullptr ? "GGUF files are read, not trained or written: give "
                                               "the folder that the file was made of"
                                             : "write a model of the library's own with save"});
    return *std::move(published);
}

// Throws Error where a checkpoint written as `to` would take the place of the one it comes from,
// through links of its folder too, or lie beside the config.json or the shards of another model.
inline void expect_published_target(const families::Published& published, const Checkpoint& from,
                                    const std::filesystem::path& to) {
    namespace fs = std::filesystem;
    std::error_code none;
    const auto refuse = [](const fs::path& file, std::string expected, std::string found) {
        raise({.file = file.string(),
               .expected = std::move(expected),
               .found = std::move(found),
               .fix = "write to a new folder"});
    };
    const fs::path folder = fs::absolute(to).parent_path(),
                   source = fs::absolute(from.path()).parent_path();
    if (fs::equivalent(folder, source, none))
        refuse(to, "another folder than the one the model was opened from", "the same");
    for (const auto& there : fs::directory_iterator(folder, none))
        for (const auto& read : fs::directory_iterator(source, none))
            if (fs::equivalent(there.path(), read.path(), none))
                refuse(there.path(), "no file of the folder the model was opened from",
                       "the same as " + read.path().string());
    const fs::path config = folder / "config.json", index = folder / "model.safetensors.index.json";
    if (fs::exists(config, none) &&
        parse_json(MappedFile(config).text(), config.string(), "") != published.json)
        refuse(config, "the config.json of the model that is written, or none", "another");
    if (fs::exists(index, none)) refuse(index, "a folder without a checkpoint in shards", "one");
}

// The tensors of a published checkpoint, each written when the last parameter that it is made of is
// there.
template <Real T>
class PublishedTensors {
public:
    PublishedTensors(const families::TensorMap& map, const Checkpoint& from,
                     std::span<const ParameterInfo> parameters)
        : map_(map), from_(from) {
        std::map<std::string, std::size_t> last;
        for (std::size_t i = 0; i < parameters.size(); ++i)
            for (const families::TensorRows& part : map.source(parameters[i]).parts)
                last[part.tensor] = i;
        finished_.resize(parameters.size());
        for (const auto& [tensor, i] : last) finished_[i].push_back(tensor);
        for (const auto* tensor : from.tensors())
            if (!last.contains(tensor->name()) && !map.repeats(tensor->name()))
                others_.push_back(tensor);
    }

    // In the order they are written in.
    std::vector<TensorSpec> specs() const {
        constexpr DType scalar = sizeof(T) == 4 ? DType::f32 : DType::f64;
        std::vector<TensorSpec> specs;
        for (const auto& tensors : finished_)
            for (const std::string& name : tensors)
                specs.push_back({name, from_.tensor(name).shape(), scalar});
        for (const StoredTensor* tensor : others_) {
            specs.push_back({tensor->name(), tensor->shape(), tensor->dtype()});
            specs.back().copied = true;
        }
        return specs;
    }
    // Parameter after parameter, in file order.
    void write(SafetensorsWriter& writer, const ParameterInfo& info, std::span<const T> values) {
        map_.write(info, values, [&](const families::TensorRows& part) {
            auto [found, made] = begun_.try_emplace(part.tensor, 0);
            if (made) found->second = AlignedBuffer<T>(part.rows * info.cols());
            return MatrixView<T>(found->second.data(), part.rows, info.cols());
        });
        for (const std::string& name : finished_[next_++]) {
            writer.write(name, std::span<const T>(begun_.at(name).span()));
            begun_.erase(name);
        }
    }
    // What is none of the model's, as it was.
    void write_others(SafetensorsWriter& writer) const {
        for (const StoredTensor* tensor : others_) writer.copy(*tensor);
    }

private:
    const families::TensorMap& map_;
    const Checkpoint& from_;
    std::vector<std::vector<std::string>> finished_;  // with parameter i
    std::vector<const StoredTensor*> others_;
    std::map<std::string, AlignedBuffer<T>> begun_;
    std::size_t next_ = 0;
};

}  // namespace detail

// Throws Error where save_published would refuse these paths: for before the training.
inline void expect_saves_published(const std::filesystem::path& from,
                                   const std::filesystem::path& to) {
    const Checkpoint source(from);
    detail::expect_published_target(detail::expect_published_folder(source), source, to);
}

// Writes a model that open made of the folder `from`, and that was changed since, as the
// safetensors file `to` (model.safetensors of a folder of its own, which there is): under the names
// and in the layout of its family, in the model's scalar; what of `from` is none of the model's
// (the vision tower, the module of multi-token prediction) byte for byte. config.json and
// generation_config.json are copied beside it. open(to) gives the weights back bit for bit, but for
// norms below a half that the family keeps less 1: those are rounded, in float to 2^-25 from 0 to a
// half. Every file whole or not at all, the weights last; what `to` held is replaced. Throws Error
// as open does of `from`; for a GGUF file; for a model of other layers than `from` has; where `to`
// lies in the folder of `from`, in one that links to its files, or beside another config.json or an
// index of shards; for a weight that no tensor of the family says and that was changed; and as
// AtomicFile does. Takes memory for a few tensors.
template <Real T>
void save_published(const RuntimeModel<T>& model, const std::filesystem::path& from,
                    const std::filesystem::path& to) {
    const Checkpoint source(from);
    const families::Published published = detail::expect_published_folder(source);
    detail::expect_published_target(published, source, to);
    const HybridShape shape = published.family->shape(published.config());
    if (!model.hybrid)
        raise({.file = published.file,
               .expected = "a model that open made of a published folder",
               .found = "one of the library's own",
               .fix = "write it with save"});
    const std::string difference =
        detail::json_difference(hybrid_json(*model.hybrid), hybrid_json(shape));
    if (!difference.empty())
        raise({.file = published.file,
               .field = "layers: " + difference,
               .fix = "save a model with the folder that it was opened from"});
    const families::TensorMap map = published.family->tensors(shape, source);
    map.expect(source, model.parameters);
    detail::PublishedTensors<T> tensors(map, source, model.parameters);
    for (const char* const name : detail::published_files) {
        const auto file = source.path().parent_path() / name;
        std::error_code none;
        if (std::filesystem::exists(file, none))
            write_file(to.parent_path() / name, MappedFile(file).text());
    }
    SafetensorsWriter writer(to, tensors.specs(), source.metadata());
    model.get_parameters([&](const ParameterInfo& info, std::span<const T> values) {
        attempt([&] { tensors.write(writer, info, values); },
                [&](const Error& error) {
                    ErrorDetail where = error.detail();
                    if (where.file.empty()) where.file = source.name();
                    raise(std::move(where));
                });
    });
    tensors.write_others(writer);
    writer.commit();
}

}  // namespace HYDRALM_NAMESPACE
