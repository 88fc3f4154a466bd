// What two units of one program do, one compiled with exceptions and one without: a model's
// answers, and calls that are refused.
#pragma once

#include <hydralm/hydralm.hpp>
#include <hydralm/inference/sampling.hpp>
#include <hydralm/io.hpp>

#include <cstdio>
#include <limits>
#include <string>
#include <vector>

// In the unit with exceptions.
std::vector<float> answers_with_exceptions();
std::string text_with_exceptions(int refusal);

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

constexpr int refusals = 8;

// One call that is refused.
void refused(int which) {
    Model model;
    auto state = model.new_state();
    const std::vector<hydralm::token_id> outside{1, config.vocab_size};
    switch (which) {
        case 0: model.prefill({}, state); break;
        case 1: model.prefill(outside, state); break;
        case 2: hydralm::Sampler<float>(config.vocab_size, {.top_p = 2.0}); break;
        case 3: hydralm::load<Model>("nowhere.safetensors"); break;
        case 4: hydralm::config_from_json("{\"d_model\": 64,}", "config.json"); break;
        case 5: hydralm::config_from_json("{\"d_model\": 65}", "config.json"); break;
        case 6: hydralm::SafetensorsWriter("names.safetensors", {{"\xff", {2}}}); break;
        case 7: hydralm::AlignedBuffer<double>{std::numeric_limits<hydralm::Index>::max()}; break;
        default: break;
    }
}

}  // namespace
