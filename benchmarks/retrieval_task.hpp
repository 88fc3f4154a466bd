// The small model of the retrieval reports, and its training by the curriculum of
// docs/retrieval.md.
#pragma once

#include <hydralm/evaluation.hpp>
#include <hydralm/hydralm.hpp>

#include <chrono>

namespace hydralm::benchmarks {

// S R, with these chunks.
constexpr HydraConfig retrieval_config(int chunk_size, int top_k) {
    return {.vocab_size = 512,
            .d_model = 64,
            .n_layers = 2,
            .n_heads = 2,
            .mlp_mult = 2.0,
            .swa_window = 64,
            .layer_types = {LayerType::swa, LayerType::retrieval},
            .retrieval_chunk_size = chunk_size,
            .retrieval_top_k = top_k};
}

inline double seconds_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// A model that has learned retrieval_qa on at most 1,024 tokens.
template <HydraConfig config>
HydraLM<config> trained_on_retrieval(std::uint64_t seed) {
    // length, facts, queries, vocabulary; batch; steps
    const std::vector<TaskStage> stages{{{96, 6, 6, 512}, 48, 500},
                                        {{256, 8, 8, 512}, 18, 300},
                                        {{512, 12, 12, 512}, 10, 300},
                                        {{1024, 16, 16, 512}, 5, 200}};
    TaskSource source(TaskKind::retrieval_qa, stages, Split::training, seed);
    TrainerOptions options;
    options.optimiser.adamw.rate = 3e-3;
    options.optimiser.adamw.decay = 0.01;
    options.rate = {.peak = 3e-3,
                    .least = 3e-4,
                    .warmup = 50,
                    .total = source.steps(),
                    .hold = source.steps() * 6 / 10};
    HydraLM<config> model;
    initialise(model, seed, InitScheme::fan_in);
    Trainer<HydraLM<config>> trainer(model, options);
    while (trainer.steps() < source.steps()) trainer.step(source);
    return model;
}

}  // namespace hydralm::benchmarks
