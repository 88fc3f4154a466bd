// The model this program is built for.
#pragma once

#include <hydralm/hydralm.hpp>
#include <hydralm/io.hpp>

#include <cstdio>
#include <string>

#include "model_config.hpp"
#include "with_scalar.hpp"

template <class T>
using ProgramModel = hydralm::HydraLM<program_config, T>;

// The checkpoint as the program's model; a checkpoint of another config says how to build the
// program for it. Weights that are not finite are a line on standard error.
template <class Model>
Model load_program_model(const std::string& path) {
    const hydralm::Checkpoint checkpoint(path);
    std::string list;
    for (const auto& difference :
         hydralm::config_differences(Model::config, hydralm::read_config(checkpoint)))
        list += (list.empty() ? "" : "; ") + difference;
    if (!list.empty())
        throw hydralm::Error({.file = checkpoint.name(),
                              .field = "config: " + list,
                              .fix =
                                  "write its config to config.json and build the program for it: "
                                  "meson setup build-other -Dmodel_config=config.json && meson "
                                  "compile -C build-other"});
    return hydralm::load<Model>(checkpoint, [](const std::string& line) {
        std::fprintf(stderr, "warning: %s\n", line.c_str());
    });
}
