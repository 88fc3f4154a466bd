// open: the model of a checkpoint, whatever its config, as one type.
#pragma once

#include <utility>

#include "hydralm/io/model_file.hpp"
#include "hydralm/model/runtime_model.hpp"

namespace HYDRALM_NAMESPACE {

// The model that a checkpoint describes, with its weights: a file, an index of shards, or a
// directory that holds one. kernels: what it may need (RuntimeModel). Otherwise as load: throws
// Error, too, for a config whose kernels are not among them.
template <Real T = float, class Compiled = CommonKernels, class Warn = Silent>
RuntimeModel<T> open(const std::filesystem::path& path, Compiled kernels = {},
                     const Warn& warn = {}) {
    const Checkpoint checkpoint(path);
    const auto accept = [&](std::span<const ParameterInfo> parameters) {
        checkpoint.expect(detail::tensor_specs(parameters, DType::f32));
    };
    const auto read = [&] {
        RuntimeModel<T> model(read_config(checkpoint), kernels, accept);
        detail::load_into(model, checkpoint, warn);
        return model;
    };
    return attempt(read, [&](const Error& error) -> RuntimeModel<T> {
        ErrorDetail detail = error.detail();
        if (detail.file.empty()) detail.file = checkpoint.name();  // the model knows of no file
        raise(std::move(detail));
    });
}

}  // namespace HYDRALM_NAMESPACE
