// The same bits for any number of threads, and one const model shared by many.
#include <thread>
#include <vector>

#include "support/catch.hpp"
#include "support/small_model.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

// Wide enough that products, heads and windows are all split between threads.
constexpr HydraConfig wide{.vocab_size = 301,
                           .d_model = 160,
                           .n_layers = 2,
                           .n_heads = 5,
                           .swa_window = 100,
                           .swa_every = 2};
using Model = HydraLM<wide>;

struct Answer {
    std::vector<float> logits;
    std::vector<std::byte> state;
};

Answer answer(const Model& model, std::uint64_t seed) {
    auto state = model.new_state();
    Answer result{logits_in_pieces(model, state, random_tokens(500, wide.vocab_size, seed)), {}};
    const auto steps = logits_by_step(model, state, random_tokens(20, wide.vocab_size, seed + 1));
    result.logits.insert(result.logits.end(), steps.begin(), steps.end());
    result.state.assign(state.bytes().begin(), state.bytes().end());
    return result;
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
        const Answer actual = answer(model, 1);
        INFO(threads << " threads");
        CHECK(same_bits(actual.logits, expected.logits));
        CHECK(same_bits(actual.state, expected.state));
    }
    set_num_threads(before);
}

TEST_CASE("Threads share a const model, each with its own state", "[threads]") {
    const Model model = random_model<Model>(2);
    constexpr std::size_t users = 4;
    std::vector<Answer> expected, actual(users);
    for (std::size_t i = 0; i < users; ++i) expected.push_back(answer(model, 10 * i));
    {
        std::vector<std::jthread> threads;
        for (std::size_t i = 0; i < users; ++i)
            threads.emplace_back([&, i] { actual[i] = answer(model, 10 * i); });
    }
    for (std::size_t i = 0; i < users; ++i) {
        CHECK(same_bits(actual[i].logits, expected[i].logits));
        CHECK(same_bits(actual[i].state, expected[i].state));
    }
}
