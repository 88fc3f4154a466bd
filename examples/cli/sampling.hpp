// How tokens are drawn, as the command line says.
#pragma once

#include <hydralm/inference/sampling.hpp>

#include "options.hpp"

inline hydralm::SamplingOptions sampling(const Options& o) {
    return {.temperature = o.temperature,
            .top_k = o.top_k,
            .top_p = o.top_p,
            .min_p = o.min_p,
            .repetition_penalty = o.repetition_penalty,
            .seed = o.seed};
}
