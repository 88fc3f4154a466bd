// A model trained in this process on texts of this machine, for reports that need a trained one.
#pragma once

#include <chrono>
#include <cstdio>

#include "hydralm/training.hpp"

namespace hydralm::benchmarks {

struct TextTraining {
    std::int64_t steps;
    Index batch, length;
    double rate;
};

// AdamW, a twentieth of the steps warm-up, then a cosine to a tenth; seed 1. Progress on stderr.
template <class Model>
Model trained_on_text(const TextCorpus& corpus, const TextTraining& training) {
    Model model;
    initialise(model, 1, InitScheme::fan_in);
    RandomWindows source(corpus, training.batch, training.length, 1);
    TrainerOptions options;
    options.optimiser.adamw.rate = training.rate;
    options.rate = {.peak = training.rate,
                    .least = training.rate / 10,
                    .warmup = training.steps / 20,
                    .total = training.steps};
    Trainer<Model> trainer(model, options);
    const auto begin = std::chrono::steady_clock::now();
    double loss = 0.0;
    while (trainer.steps() < training.steps) {
        const auto report = trainer.step(source);
        loss += report.loss;
        if (report.step % 50 != 0) continue;
        std::fprintf(
            stderr, "step %lld, loss %.3f, %.0f s\n", static_cast<long long>(report.step),
            loss / 50,
            std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
        loss = 0.0;
    }
    return model;
}

// n bytes of a text from its middle on, as tokens.
inline std::vector<token_id> passage(TextCorpus::Text text, Index n) {
    const auto half = text.subspan(text.size() / 2);
    std::vector<token_id> ids;
    for (Index i = 0; i < n && i < static_cast<Index>(half.size()); ++i)
        ids.push_back(static_cast<token_id>(half[static_cast<std::size_t>(i)]));
    return ids;
}

}  // namespace hydralm::benchmarks
