// The prefix cache: the bits of a prefill without it, what it resumes from, what leaves first.
#include "hydralm/inference/prefix_cache.hpp"

#include "support/catch.hpp"
#include "support/small_model.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

using Model = HydraLM<small_remembering>;
constexpr Index plenty = Index{1} << 30;

std::vector<token_id> joined(std::vector<token_id> a, const std::vector<token_id>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

// Logits and state after prompt through the cache are those without it: bit for bit from a cut at a
// multiple of prefill_tile, else to rounding. Returns how many tokens were not computed again.
std::int64_t check_prompt(const Model& model, PrefixCache<Model>& cache,
                          const std::vector<token_id>& prompt) {
    const auto before = cache.statistics().resumed;
    auto expected = model.new_state(), state = model.new_state();
    model.prefill(random_tokens(7, small_remembering.vocab_size, 99), state);  // not new
    const auto a = model.prefill(prompt, expected);
    const auto b = cache.prefill(prompt, state);
    const auto resumed = cache.statistics().resumed - before;
    check_close(b, a, 2e-4, "logits");
    if (resumed % Model::prefill_tile == 0) {
        CHECK(same_bits(a, b));
        CHECK(same_state(state, expected));
    }
    return resumed;
}

}  // namespace

TEST_CASE("A prompt goes on from the longest prefix that was read before", "[prefix_cache]") {
    const auto model = random_model<Model>(1);
    PrefixCache<Model> cache(model, plenty);
    const auto shared = random_tokens(600, 53, 1);
    const auto one = joined(shared, random_tokens(50, 53, 2));
    const auto two = joined(shared, random_tokens(300, 53, 3));
    const auto resumed = [&](const std::vector<token_id>& prompt) {
        return check_prompt(model, cache, prompt);
    };
    CHECK(resumed(one) == 0);
    CHECK(resumed(two) == 512);  // diverges in the middle: the last kept before it
    CHECK(resumed(two) == 768);  // its end is kept, but its last token must be fed
    CHECK(resumed(joined(one, {1})) == 650);
    CHECK(resumed(random_tokens(300, 53, 4)) == 0);
    CHECK(resumed({shared.begin(), shared.begin() + 256}) == 0);
    CHECK(resumed({shared.begin(), shared.begin() + 257}) == 256);
    CHECK(cache.statistics().prompts == 7);
    CHECK(cache.statistics().tokens == 650 + 900 + 900 + 651 + 300 + 256 + 257);
    cache.clear();
    CHECK(cache.size() == 0);
    CHECK(cache.bytes() == 0);
    CHECK(resumed(one) == 0);
}

TEST_CASE("A prompt goes on from an end within a stride only", "[prefix_cache]") {
    const auto model = random_model<Model>(5);
    PrefixCache<Model> cache(model, plenty);
    const auto text = random_tokens(900, 53, 6);
    const auto resumed = [&](std::ptrdiff_t tokens, std::uint64_t other) {
        return check_prompt(
            model, cache,
            joined({text.begin(), text.begin() + tokens}, random_tokens(9, 53, other)));
    };
    auto state = model.new_state();
    cache.prefill(slice(text, 0, 100), state);
    CHECK(resumed(100, 1) == 100);
    CHECK(resumed(246, 2) == 100);  // 255 tokens
    CHECK(resumed(247, 3) == 0);    // 256: a state that others will go on from
    CHECK(resumed(700, 4) == 0);
    CHECK(resumed(600, 5) == 512);
    CHECK(resumed(700, 6) == 512);
}

TEST_CASE("A prompt goes on only from a state that kept the past as its own does",
          "[prefix_cache]") {
    const auto model = random_model<Model>(4);
    PrefixCache<Model> cache(model, plenty);
    const auto prompt = random_tokens(700, 53, 4);
    for (int round = 0; round < 2; ++round)
        for (const BankPolicy& policy : bank_policies()) {
            auto state = model.new_state(Model::prefill_tile, policy), expected = state;
            const auto before = cache.statistics().resumed;
            CHECK(same_bits(cache.prefill(prompt, state), model.prefill(prompt, expected)));
            CHECK(cache.statistics().resumed - before == 512 * round);
            CHECK(state.keeps_as(expected));
            CHECK(same_state(state, expected));
        }
    CHECK(cache.size() == 3 * bank_policies().size());
}

TEST_CASE("Within its budget the cache forgets what was used least recently", "[prefix_cache]") {
    const auto model = random_model<Model>(2);
    const auto prompt = [](std::uint64_t seed) { return random_tokens(100, 53, seed); };
    auto one = model.new_state();
    model.prefill(prompt(1), one);
    const Index each = one.size() + 600;  // with tokens and account
    PrefixCache<Model> cache(model, 2 * each);
    const auto resumes = [&](std::uint64_t seed) {
        return check_prompt(model, cache, joined(prompt(seed), {2})) > 0;
    };
    auto state = model.new_state();
    cache.prefill(prompt(1), state);
    cache.prefill(prompt(2), state);
    CHECK(cache.size() == 2);
    cache.prefill(prompt(1), state);  // used again
    CHECK(cache.size() == 2);
    cache.prefill(prompt(3), state);  // the second leaves
    CHECK(cache.size() == 2);
    CHECK(cache.bytes() <= 2 * each);
    CHECK(resumes(1));
    CHECK_FALSE(resumes(2));
}

TEST_CASE("A cut anywhere agrees to rounding; bad input changes nothing", "[prefix_cache]") {
    const auto model = random_model<Model>(3);
    PrefixCache<Model> cache(model, plenty, 100);
    const auto text = random_tokens(450, 53, 5);
    auto state = model.new_state(), expected = model.new_state();
    cache.prefill(slice(text, 0, 330), state);
    const auto logits = cache.prefill(text, state);
    CHECK(cache.statistics().resumed == 330);
    check_close(logits, model.prefill(text, expected), 2e-4, "cut at 330");

    const auto position = state.position();
    auto bad = text;
    bad[440] = 53;
    CHECK_THROWS_AS(cache.prefill(bad, state), Error);
    CHECK_THROWS_AS(cache.prefill({}, state), Error);
    CHECK(state.position() == position);
    CHECK(cache.statistics().prompts == 2);
    CHECK_THROWS_AS(PrefixCache<Model>(model, 100), Error);
    CHECK_THROWS_AS(PrefixCache<Model>(model, plenty, 0), Error);

    PrefixCache<Model> narrow(model, Model::new_memory().size() + 4096);  // no room for a bank
    narrow.prefill(text, state);
    CHECK(narrow.size() <= 1);
}
