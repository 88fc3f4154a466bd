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

Answer answer(const Model& model, std::uint64_t seed) {
    Answer result{{}, model.new_state()};
    const auto take = [&](std::span<const float> logits) {
        result.logits.insert(result.logits.end(), logits.begin(), logits.end());
    };
    take(model.prefill(random_tokens(300, V, seed), result.state));
    take(logits_in_pieces(model, result.state, random_tokens(300, V, seed + 1), {170}));
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
    set_num_threads(1);
    const Answer expected = answer(model, 1);
    for (const int threads : {2, 3, 7}) {
        set_num_threads(threads);
        REQUIRE(num_threads() == threads);
        INFO(threads << " threads");
        check_same(answer(model, 1), expected);
    }
    set_num_threads(before);
}

TEST_CASE("Threads share a const model, each with its own state", "[threads]") {
    const Model model = random_model<Model>(2);
    constexpr std::size_t users = 4;
    std::vector<Answer> expected, actual;
    for (std::size_t i = 0; i < users; ++i) {
        expected.push_back(answer(model, 10 * i));
        actual.push_back({{}, model.new_state()});
    }
    {
        std::vector<std::jthread> threads;
        for (std::size_t i = 0; i < users; ++i)
            threads.emplace_back([&, i] { actual[i] = answer(model, 10 * i); });
    }
    for (std::size_t i = 0; i < users; ++i) check_same(actual[i], expected[i]);
}
