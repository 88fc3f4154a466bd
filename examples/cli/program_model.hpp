// The models of the program: of any config, read at run time, or, where it was built for one
// config, of that one as a type.
#pragma once

#include <hydralm/hydralm.hpp>
#include <hydralm/io.hpp>

#include <cstdio>
#include <string>
#include <type_traits>
#include <utility>

#include "model_config.hpp"
#include "runtime_kernels.hpp"
#include "with_scalar.hpp"

inline constexpr bool built_for_one_config = *program_config_file != '\0';

template <class T>
using ProgramModel = std::conditional_t<built_for_one_config, hydralm::HydraLM<program_config, T>,
                                        hydralm::RuntimeModel<T>>;

// Throws Error, listing the fields, where a program built for one config meets another.
inline void expect_program_config(const hydralm::HydraConfig& found, const std::string& file) {
    std::string list;
    for (const auto& difference : hydralm::config_differences(program_config, found))
        list += (list.empty() ? "" : "; ") + difference;
    if (!list.empty())
        throw hydralm::Error({.file = file,
                              .field = "config: " + list,
                              .fix = "this program was built for one config: use one built without "
                                     "-Dmodel_config, which opens any"});
}

// Of config FILE, or, without one, of the config that the program was built for. Throws Error for a
// file of another config than that.
template <class Model>
Model new_program_model(const std::string& config_file) {
    hydralm::HydraConfig config = program_config;
    if (!config_file.empty()) {
        const hydralm::MappedFile file(config_file);
        config = hydralm::config_from_json(file.text(), file.name());
    }
    if constexpr (built_for_one_config) {
        expect_program_config(config, config_file);
        return Model();
    } else {
        try {
            return Model(config);
        } catch (const hydralm::Error& error) {
            hydralm::ErrorDetail detail = error.detail();
            detail.file = config_file;
            throw hydralm::Error(std::move(detail));
        }
    }
}

// The checkpoint as the program's model. Weights that are not finite are a line on standard error.
template <class Model>
Model load_program_model(const std::string& path) {
    const auto warn = [](const std::string& line) {
        std::fprintf(stderr, "warning: %s\n", line.c_str());
    };
    if constexpr (built_for_one_config) {
        const hydralm::Checkpoint checkpoint(path);
        expect_program_config(hydralm::read_config(checkpoint), checkpoint.name());
        return hydralm::load<Model>(checkpoint, warn);
    } else {
        return hydralm::open<typename Model::Scalar>(path, hydralm::CommonKernels{}, warn);
    }
}
