// A model that is written, read and run: what units of different flags do in one program.
#pragma once

#include <hydralm/hydralm.hpp>
#include <hydralm/inference/sampling.hpp>
#include <hydralm/io.hpp>

#include <vector>

namespace {

constexpr hydralm::HydraConfig config{.vocab_size = 11,
                                      .d_model = 16,
                                      .n_layers = 3,
                                      .n_heads = 2,
                                      .head_dim = 8,
                                      .mlp_multiple_of = 8,
                                      .swa_window = 5,
                                      .swa_every = 3,
                                      .retrieval_every = 2,
                                      .retrieval_chunk_size = 4,
                                      .retrieval_top_k = 1};
using Model = hydralm::HydraLM<config>;

// Logits of a prefill and of the steps behind it, of a model that was written and read.
std::vector<float> answers(const char* file) {
    Model written;
    hydralm::initialise(written, 1, hydralm::InitScheme::fan_in);
    hydralm::save(written, file);
    const auto model = hydralm::load<Model>(file);
    auto state = model.new_state();
    std::vector<float> all;
    const std::vector<hydralm::token_id> prompt{3, 1, 4, 1, 5, 9, 2, 6, 5, 3};
    auto logits = model.prefill(prompt, state);
    hydralm::Sampler<float> sampler(config.vocab_size, {.temperature = 0.8, .seed = 1});
    hydralm::generate(model, state, logits, sampler, 9, [&](hydralm::token_id token) {
        all.push_back(static_cast<float>(token));
        return true;
    });
    logits = model.step(7, state);
    all.insert(all.end(), logits.begin(), logits.end());
    return all;
}

}  // namespace
