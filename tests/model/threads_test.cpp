// The same bits for any number of threads, and one const model shared by many.
#include <thread>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/small_model.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

using Model = HydraLM<wide_remembering>;
constexpr int V = wide_remembering.vocab_size;

// All that a stream has to say from here on: after a prompt, in pieces, step by step.
struct Answer {
    std::vector<float> logits;
    Model::State state;
};

Answer answer(const Model& model, std::uint64_t seed, Model::State state) {
    Answer result{{}, std::move(state)};
    const auto take = [&](std::span<const float> logits) {
        result.logits.insert(result.logits.end(), logits.begin(), logits.end());
    };
    take(model.prefill(random_tokens(200, V, seed), result.state));
    take(logits_in_pieces(model, result.state, random_tokens(200, V, seed + 1), {70}));
    take(logits_by_step(model, result.state, random_tokens(20, V, seed + 2)));
    return result;
}

// A stream under each policy of banks, before its first token.
std::vector<Model::State> new_states(const Model& model) {
    std::vector<Model::State> states;
    for (const BankPolicy& policy : bank_policies())
        states.push_back(model.new_state(Model::prefill_tile, policy));
    return states;
}

void check_same(const Answer& actual, const Answer& expected) {
    CHECK(same_bits(actual.logits, expected.logits));
    CHECK(same_state(actual.state, expected.state));
}

// Whether streams that go on in threads of their own, all at once, do as they do one by one.
void check_together(const Model& model, std::vector<Model::State> starts) {
    std::vector<Answer> expected, actual;
    for (std::size_t i = 0; i < starts.size(); ++i) {
        expected.push_back(answer(model, 10 * i, starts[i]));
        actual.push_back({{}, starts[i]});
    }
    starts.clear();  // what they share is theirs alone
    {
        std::vector<std::jthread> threads;
        for (std::size_t i = 0; i < actual.size(); ++i)
            threads.emplace_back(
                [&, i] { actual[i] = answer(model, 10 * i, std::move(actual[i].state)); });
    }
    for (std::size_t i = 0; i < actual.size(); ++i) check_same(actual[i], expected[i]);
}

}  // namespace

TEST_CASE("Any number of threads gives the same bits", "[threads]") {
    const Model model = random_model<Model>(1);
    const int before = num_threads();
    for (const Model::State& state : new_states(model)) {
        set_num_threads(1);
        const Answer expected = answer(model, 1, state);
        for (const int threads : {2, 3, 7}) {
            set_num_threads(threads);
            REQUIRE(num_threads() == threads);
            INFO(threads << " threads");
            check_same(answer(model, 1, state), expected);
        }
    }
    set_num_threads(before);
}

TEST_CASE("Threads share a const model, each with its own state", "[threads]") {
    const Model model = random_model<Model>(2);
    check_together(model, new_states(model));
}

TEST_CASE("Threads share the pages of a fork's banks", "[threads]") {
    const Model model = random_model<Model>(3);
    for (Model::State& trunk : new_states(model)) {
        model.prefill(random_tokens(300, V, 3), trunk);
        std::vector<Model::State> forks(4, trunk);
        trunk.reset();
        check_together(model, std::move(forks));
    }
}
