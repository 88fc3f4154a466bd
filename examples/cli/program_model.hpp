// The models of the program: of any config, read at run time, or, where it was built for one
// config, of that one as a type.
#pragma once

#include <hydralm/hydralm.hpp>
#include <hydralm/io.hpp>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <type_traits>
#include <utility>

#include "model_config.hpp"
#include "options.hpp"
#include "ranks.hpp"
#include "runtime_kernels.hpp"
#include "with_scalar.hpp"

inline constexpr bool built_for_one_config = *program_config_file != '\0';

// Weights: of the program built for one config; any other's are known when it runs.
template <class T, class Weights = hydralm::weights::Float>
using ProgramModel =
    std::conditional_t<built_for_one_config, hydralm::HydraLM<program_config, T, Weights>,
                       hydralm::RuntimeModel<T>>;

// Of config FILE, or, without one, of the config that the program was built for. Throws Error for a
// file of another config than that. This and load_program_model are compiled once, in
// model_of_any_config.cpp or model_of_one_config.cpp.
template <class Model>
Model new_program_model(const std::string& config_file);

// Whether every matrix of a checkpoint that may be in bf16 is.
template <class Model>
bool is_bf16(const hydralm::Checkpoint& checkpoint) {
    return std::ranges::all_of(Model::parameters, [&](const hydralm::ParameterInfo& info) {
        const auto* const tensor = checkpoint.find(info.name());
        return !info.law.any_format ||
               (tensor != nullptr && tensor->dtype() == hydralm::DType::bf16);
    });
}

// f.operator()<Model>(), with the type of the model that --scalar, --weights and the checkpoint ask
// for.
template <class F>
void with_model(const Options& o, const F& f) {
    expect_weights_of_scalar(o);
    if constexpr (built_for_one_config) {
        if (o.weights == "q8" || o.weights == "q4" || o.weights == "mixed")
            throw hydralm::Error({.field = "--weights",
                                  .expected = "float or bf16",
                                  .found = o.weights,
                                  .fix = "use the program that is built for any config"});
        if (o.scalar == "float" && o.weights != "float" &&
            (o.weights == "bf16" ||
             (!o.model.empty() && is_bf16<ProgramModel<float>>(hydralm::Checkpoint(o.model))))) {
            f.template operator()<ProgramModel<float, hydralm::weights::BF16>>();
            return;
        }
    }
    with_scalar(o.scalar, [&]<class T>(T) { f.template operator()<ProgramModel<T>>(); });
}

// What training keeps to go on from has no model by itself; where it lies, the best one does.
inline void expect_no_training(const std::filesystem::path& path) {
    const auto of_training = [](const std::filesystem::path& file) {
        return file.extension() == ".train";
    };
    std::error_code failure;
    bool found = of_training(path);
    for (const auto& entry : std::filesystem::directory_iterator(path, failure))
        found = found || of_training(entry.path());
    if (found)
        throw hydralm::Error({.file = path.string(),
                              .expected = "a checkpoint of weights",
                              .found = "what a training run goes on from",
                              .fix = "give the file that train --out wrote, or best.safetensors "
                                     "of the run's directory; --resume takes the directory"});
}

// The ids at which the model of a checkpoint ends its texts: a published one's.
template <class Model>
std::vector<hydralm::token_id> stop_ids_of(const std::string& path, const Model& model) {
    if constexpr (requires { model.hybrid; })
        if (model.hybrid) return hydralm::stop_ids(path, model.vocab_size());
    return {};
}

// The checkpoint as the program's model, its matrices in the format that is named: float, bf16, q8,
// q4, mixed, or, empty, as the file has them. Weights that are not finite are a line on standard
// error.
template <class Model>
Model load_program_model(const std::string& path, const std::string& format);

// How such a line is said.
inline constexpr auto warn_of_weights = [](const std::string& line) {
    if (speaks()) std::fprintf(stderr, "warning: %s\n", line.c_str());
};
