// What two units of one program do, one compiled with exceptions and one without: a model's
// answers, and calls that are refused.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "answers.hpp"

// In the unit with exceptions.
std::vector<float> answers_with_exceptions();
std::string text_with_exceptions(int refusal);

namespace {

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
