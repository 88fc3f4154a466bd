// open: the model of a checkpoint, ours or a published one, whatever its config, as one type.
#pragma once

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "hydralm/families/published.hpp"
#include "hydralm/io/model_file.hpp"
#include "hydralm/model/hybrid_mtp.hpp"
#include "hydralm/model/runtime_model.hpp"

namespace HYDRALM_NAMESPACE {

namespace detail {

// Every matrix in the format that its tensors are kept in (StoredTensor::kept), in a model of
// float; of several, blocks of different kinds in q8, and what else differs in the scalar.
// tensors(info): those that it is made of.
template <Real T, class F>
FormatChoice as_stored(const F& tensors) {
    return [tensors](const ParameterInfo& info) {
        using weights::Format;
        const std::vector<const StoredTensor*> found = tensors(info);
        const auto kept = [](const StoredTensor* tensor) {
            return tensor == nullptr ? Format::scalar : tensor->kept();
        };
        if (found.empty() || sizeof(T) != sizeof(float)) return Format::scalar;
        const Format first = kept(found.front());
        const auto all = [&](const auto& f) {
            return std::ranges::all_of(found,
                                       [&](const StoredTensor* tensor) { return f(kept(tensor)); });
        };
        if (all([&](Format format) { return format == first; })) return first;
        return all([](Format format) { return block_bytes(format) != 0; }) ? Format::q8
                                                                           : Format::scalar;
    };
}
// The same of a published checkpoint; in the scalar where the parameter cuts the tensor's blocks.
template <Real T>
FormatChoice as_stored(const Checkpoint& checkpoint, const families::TensorMap& map) {
    return as_stored<T>([&](const ParameterInfo& info) {
        std::vector<const StoredTensor*> found;
        const families::TensorSource& source = map.source(info);
        for (const families::TensorRows& part : source.parts) {
            const StoredTensor* const tensor = checkpoint.find(part.tensor);
            const bool cut = tensor != nullptr && block_bytes(tensor->kept()) != 0 &&
                             !source.columns.keeps_blocks();
            found.push_back(cut ? nullptr : tensor);
        }
        return found;
    });
}

// f(what a published model's checkpoint says of itself, its shape). Throws Error where it is none.
template <class F>
auto with_published(const Checkpoint& checkpoint, const F& f) {
    const auto published = families::published(checkpoint);
    if (!published)
        raise({.file = (checkpoint.path().parent_path() / "config.json").string(),
               .expected = "the config.json of a published model",
               .found = "none",
               .fix = "give the folder of a published checkpoint"});
    return f(*published, published->family->shape(published->config()));
}

// As ReadTensors, of a published checkpoint.
struct ReadMapped {
    const Checkpoint& checkpoint;
    const families::TensorMap& map;

    template <Real T>
    void operator()(const ParameterInfo& info, std::span<T> values) const {
        map.read(checkpoint, info, values);
    }
    template <Real T>
    std::unique_ptr<StoredRows<T>> rows(const ParameterInfo& info) const {
        return map.rows<T>(checkpoint, info);
    }
};

// choose: null, as the checkpoint has them.
template <Real T, class Warn>
RuntimeModel<T> open_published(const Checkpoint& checkpoint, const families::Published& published,
                               const FormatChoice& choose, const Warn& warn) {
    const HybridShape shape = published.family->shape(published.config());
    const families::TensorMap map = published.family->tensors(shape, checkpoint);
    RuntimeModel<T> model(
        shape, choose ? choose : as_stored<T>(checkpoint, map),
        [&](std::span<const ParameterInfo> parameters) { map.expect(checkpoint, parameters); });
    read_parameters(model, checkpoint.name(), ReadMapped{checkpoint, map}, warn);
    return model;
}

template <Real T, class Compiled, class Warn>
RuntimeModel<T> open_with(const Checkpoint& checkpoint, const FormatChoice& choose,
                          Compiled kernels, const Warn& warn) {
    const auto tensors = [&](const ParameterInfo& info) {
        return std::vector{checkpoint.find(info.name())};
    };
    const auto read = [&] {
        if (const auto published = families::published(checkpoint))
            return open_published<T>(checkpoint, *published, choose, warn);
        RuntimeModel<T> model(read_config(checkpoint), kernels,
                              choose ? choose : as_stored<T>(tensors),
                              [&](std::span<const ParameterInfo> parameters) {
                                  checkpoint.expect(tensor_specs(parameters));
                              });
        load_into(model, checkpoint, warn);
        return model;
    };
    return attempt(read, [&](const Error& error) -> RuntimeModel<T> {
        ErrorDetail detail = error.detail();
        if (detail.file.empty()) detail.file = checkpoint.name();  // the model knows of no file
        raise(std::move(detail));
    });
}

}  // namespace detail

// The model that a checkpoint describes, with its weights: a file, an index of shards, or a
// directory that holds one; ours, or, where the config.json beside it has a model_type or the file
// is a GGUF file, that of a published family. Matrices are kept as the file has them in a model of
// float, BF16 in bf16, Q8_0 in q8, IQ4_NL in q4, other blocks in q8; all else in the scalar.
// kernels: what one of ours may need (RuntimeModel). Otherwise as load: throws Error, too, for a
// config whose kernels are not among them, and, naming the field, for a published model that
// computes something that is not implemented.
template <Real T = float, class Compiled = CommonKernels, class Warn = Silent>
    requires(!weights::Policy<Compiled, T>)
RuntimeModel<T> open(const std::filesystem::path& path, Compiled kernels = {},
                     const Warn& warn = {}) {
    return detail::open_with<T>(Checkpoint(path), {}, kernels, warn);
}
// The same with matrices in the format of a policy, whatever the file has:
//     open("model.safetensors", weights::BF16{})
template <Real T = float, weights::Policy<T> Weights, class Compiled = CommonKernels,
          class Warn = Silent>
RuntimeModel<T> open(const std::filesystem::path& path, Weights policy, Compiled kernels = {},
                     const Warn& warn = {}) {
    return detail::open_with<T>(Checkpoint(path), format_choice<T>(policy), kernels, warn);
}

// A published model's checkpoint as the LanguageModel that `hydralm config` wrote for it
// (families/model_type.hpp), or one of the same layers. Throws Error as open does, and, naming the
// fields that differ, for a model of other layers.
template <class Model, class Warn = Silent>
Model load_published(const std::filesystem::path& path, const Warn& warn = {}) {
    using detail::Json;
    const Checkpoint checkpoint(path);
    return detail::with_published(checkpoint, [&](const families::Published& published,
                                                  const HybridShape& shape) {
        const std::string difference = detail::json_difference(Json::parse(stack_to_json<Model>()),
                                                               Json::parse(stack_to_json(shape)));
        if (!difference.empty())
            raise({.file = published.file,
                   .field = "layers: " + difference,
                   .fix = "write the model's type again: hydralm config FOLDER --out model.hpp"});
        const families::TensorMap map = published.family->tensors(shape, checkpoint);
        map.expect(checkpoint, Model::parameters);
        Model model;
        detail::read_parameters(model, checkpoint.name(), detail::ReadMapped{checkpoint, map},
                                warn);
        return model;
    });
}

// The module of multi-token prediction of a published model's checkpoint, which open leaves aside.
// Throws Error as open does, and for a checkpoint that has none.
template <Real T = float, class Warn = Silent>
HybridMtp<T> open_mtp(const std::filesystem::path& path, const Warn& warn = {}) {
    const Checkpoint checkpoint(path);
    return detail::with_published(checkpoint, [&](const families::Published& published,
                                                  const HybridShape& shape) {
        if (!shape.mtp)
            published.config().refuse("mtp_num_hidden_layers",
                                      "1: a module of multi-token prediction",
                                      "none that can be read");
        const families::TensorMap map = published.family->mtp_tensors(shape, checkpoint);
        HybridMtp<T> mtp(shape, [&](std::span<const ParameterInfo> parameters) {
            map.expect(checkpoint, parameters);
        });
        detail::read_parameters(mtp, checkpoint.name(), detail::ReadMapped{checkpoint, map}, warn);
        return mtp;
    });
}

}  // namespace HYDRALM_NAMESPACE
