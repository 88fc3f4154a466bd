// Time and state of a stream: tokens in prefill, then single steps.
#include <algorithm>
#include <chrono>

#include "measure.hpp"

namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

Json forward(const Json& asked) {
    using Model = hydralm::RuntimeModel<float>;
    const Model model = measured_model<float>(asked);
    const auto tokens = asked.at("tokens").get<std::int64_t>();
    const auto steps = asked.value("steps", std::int64_t{0});
    RandomTokens random(model.vocab_size(), 2);
    std::vector<hydralm::token_id> piece(4096);
    {  // Another stream first: what the first one meets is not of the length.
        auto other = model.new_state(Model::prefill_tile, measured_policy(asked));
        random.fill(piece);
        model.prefill(piece, other);
    }
    auto state = model.new_state(Model::prefill_tile, measured_policy(asked));
    double seconds = 0;
    for (std::int64_t fed = 0; fed < tokens;) {
        const auto part = std::span(piece).first(
            static_cast<std::size_t>(std::min<std::int64_t>(4096, tokens - fed)));
        random.fill(part);
        const auto begin = Clock::now();
        model.prefill(part, state);
        seconds += since(begin);
        fed += static_cast<std::int64_t>(part.size());
    }
    std::vector<double> step_seconds;
    for (std::int64_t i = 0; i < steps; ++i) {
        random.fill(std::span(piece).first(1));
        const auto begin = Clock::now();
        model.step(piece[0], state);
        step_seconds.push_back(since(begin));
    }
    Json found{{"tokens", tokens},
               {"seconds", seconds},
               {"parameters", model.parameter_count},
               {"state_bytes", state.size()}};
    if (!step_seconds.empty()) {
        std::ranges::nth_element(step_seconds, step_seconds.begin() + steps / 2);
        found["step_seconds"] = step_seconds[static_cast<std::size_t>(steps / 2)];
    }
    return found;
}
