// The same bits for any number of threads, and one const model shared by many.
#include <thread>
#include <vector>

#include "support/catch.hpp"
#include "support/small_model.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

using Model = HydraLM<wide_remembering>;
constexpr int V = wide_remembering.vocab_size;

// All that a stream has to say: after a long prompt, in pieces, step by step.
struct Answer {
    std::vector<float> logits;
    Model::State state;
};

Answer answer(const Model& model, std::uint64_t seed, const BankPolicy& policy) {
    Answer result{{}, model.new_state(Model::prefill_tile, policy)};
    const auto take = [&](std::span<const float> logits) {
        result.logits.insert(result.logits.end(), logits.begin(), logits.end());
    };
    take(model.prefill(random_tokens(200, V, seed), result.state));
    take(logits_in_pieces(model, result.state, random_tokens(200, V, seed + 1), {70}));
    take(logits_by_step(model, result.state, random_tokens(20, V, seed + 2)));
    return result;
}

void check_same(const Answer& actual, const Answer& expected) {
    CHECK(same_bits(actual.logits, expected.logits));
    CHECK(same_state(actual.state, expected.state));
}

}  // namespace

TEST_CASE("Any number of threads gives the same bits", "[threads]") {
    const Model model = random_model<Model>(1);
    const int before = num_threads();
    for (const BankPolicy& policy : bank_policies()) {
        set_num_threads(1);
        const Answer expected = answer(model, 1, policy);
        for (const int threads : {2, 3, 7}) {
            set_num_threads(threads);
            REQUIRE(num_threads() == threads);
            INFO(threads << " threads");
            check_same(answer(model, 1, policy), expected);
        }
    }
    set_num_threads(before);
}

TEST_CASE("Threads share a const model, each with its own state", "[threads]") {
    const Model model = random_model<Model>(2);
    const auto policies = bank_policies();
    std::vector<Answer> expected, actual;
    for (std::size_t i = 0; i < policies.size(); ++i) {
        expected.push_back(answer(model, 10 * i, policies[i]));
        actual.push_back({{}, model.new_state()});
    }
    {
        std::vector<std::jthread> threads;
        for (std::size_t i = 0; i < policies.size(); ++i)
            threads.emplace_back([&, i] { actual[i] = answer(model, 10 * i, policies[i]); });
    }
    for (std::size_t i = 0; i < policies.size(); ++i) check_same(actual[i], expected[i]);
}
