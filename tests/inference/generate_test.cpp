// Generation feeds what the sampler chooses, until told to stop.
#include "hydralm/inference/generate.hpp"

#include <algorithm>
#include <vector>

#include "hydralm/inference/stop_tokens.hpp"
#include "support/catch.hpp"
#include "support/small_model.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

using Model = HydraLM<small_hybrid>;
constexpr Index V = small_hybrid.vocab_size;

struct Run {
    std::vector<token_id> tokens;
    Index fed = 0;
    std::int64_t position = 0;
};

// After a prompt of 30 tokens. stop: how many tokens keep_going has accepted when it says no.
Run run(const Model& model, SamplingOptions options, Index count, std::size_t stop = 1000) {
    auto state = model.new_state();
    const auto logits = model.prefill(random_tokens(30, V, 5), state);
    Sampler<float> sampler(V, options);
    Run result;
    result.fed = generate(model, state, logits, sampler, count, [&](token_id token) {
        result.tokens.push_back(token);
        return result.tokens.size() <= stop;
    });
    result.position = state.position();
    return result;
}

}  // namespace

TEST_CASE("Greedy generation is the argmax of every step", "[generate]") {
    const Model model = random_model<Model>(1);
    auto state = model.new_state();
    auto logits = model.prefill(random_tokens(30, V, 5), state);
    std::vector<token_id> expected;
    for (int n = 0; n < 20; ++n) {
        expected.push_back(
            static_cast<token_id>(std::ranges::max_element(logits) - logits.begin()));
        logits = model.step(expected.back(), state);
    }
    const Run greedy = run(model, {.temperature = 0}, 20);
    CHECK(greedy.tokens == expected);
    CHECK(greedy.fed == 20);
    CHECK(greedy.position == 50);
}

TEST_CASE("A seed is a text", "[generate]") {
    const Model model = random_model<Model>(2);
    const Run a = run(model, {.seed = 1}, 50), b = run(model, {.seed = 1}, 50),
              c = run(model, {.seed = 2}, 50);
    CHECK(a.tokens == b.tokens);
    CHECK(a.tokens != c.tokens);
    CHECK(std::ranges::all_of(a.tokens, [](token_id token) { return token >= 0 && token < V; }));
}

TEST_CASE("Generation ends when told to, the last token not fed", "[generate]") {
    const Model model = random_model<Model>(3);
    const Run whole = run(model, {.seed = 3}, 50);
    const Run stopped = run(model, {.seed = 3}, 50, 7);
    CHECK(stopped.fed == 7);
    CHECK(stopped.position == 37);
    REQUIRE(stopped.tokens.size() == 8);
    CHECK(std::equal(stopped.tokens.begin(), stopped.tokens.end(), whole.tokens.begin()));
    for (const Index count : {0, -3}) {
        const Run none = run(model, {}, count);
        CHECK(none.fed == 0);
        CHECK(none.tokens.empty());
        CHECK(none.position == 30);
    }
}

TEST_CASE("A stop token ends the text, neither fed nor shown", "[generate]") {
    const Model model = random_model<Model>(4);
    const Run whole = run(model, {.seed = 4}, 50);
    const auto stopped = [&](const std::vector<token_id>& stops) {
        auto state = model.new_state();
        const auto logits = model.prefill(random_tokens(30, V, 5), state);
        Sampler<float> sampler(V, {.seed = 4});
        Run result;
        result.fed =
            generate(model, state, logits, sampler, 50, stop_at(stops, [&](token_id token) {
                         result.tokens.push_back(token);
                         return true;
                     }));
        result.position = state.position();
        return result;
    };
    const token_id stop = whole.tokens[20];
    const auto first = std::ranges::find(whole.tokens, stop) - whole.tokens.begin();
    for (const auto& stops : {std::vector<token_id>{stop}, {V + 7, stop, -1}}) {
        const Run run = stopped(stops);
        CHECK(run.fed == first);
        CHECK(run.position == 30 + first);
        CHECK(run.tokens == std::vector(whole.tokens.begin(), whole.tokens.begin() + first));
    }
    CHECK(stopped({}).tokens == whole.tokens);
}
