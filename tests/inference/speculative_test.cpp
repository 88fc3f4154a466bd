// Speculative decoding: the model's own output with any draft, greedy and sampled; how much a
// trained draft is worth.
#include "hydralm/inference/speculative.hpp"

#include <map>
#include <stdexcept>

#include "hydralm/inference/generate.hpp"
#include "hydralm/training.hpp"
#include "support/few_pages.hpp"
#include "support/files.hpp"
#include "support/small_model.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

using Model = HydraLM<small_drafting>;

Sampler<float> sampler_of(const SamplingOptions& options) {
    return Sampler<float>(small_drafting.vocab_size, options);
}

std::vector<token_id> plain(const Model& model, std::span<const token_id> prompt,
                            const SamplingOptions& options, Index count) {
    auto state = model.new_state();
    auto sampler = sampler_of(options);
    for (const token_id token : prompt) sampler.observe(token);
    std::vector<token_id> out;
    generate(model, state, model.prefill(prompt, state), sampler, count, [&](token_id token) {
        out.push_back(token);
        return true;
    });
    return out;
}

template <class Draft>
std::vector<token_id> speculative(const Model& model, Draft& draft, Index k,
                                  std::span<const token_id> prompt, const SamplingOptions& options,
                                  Index count, SpeculativeStatistics* statistics = nullptr) {
    auto state = model.new_state();
    auto sampler = sampler_of(options);
    for (const token_id token : prompt) sampler.observe(token);
    SpeculativeDecoder<Model, Draft> decoder(model, draft, k);
    decoder.prefill(prompt, state);
    std::vector<token_id> out;
    const Index fed = decoder.generate(state, sampler, count, [&](token_id token) {
        out.push_back(token);
        return true;
    });
    CHECK(fed == count);
    CHECK(state.position() == static_cast<std::int64_t>(prompt.size()) + count);
    const auto& s = decoder.statistics();
    CHECK(s.tokens == count);
    CHECK(s.tokens == s.rounds + s.accepted);
    CHECK(s.accepted <= s.proposed);
    if (statistics != nullptr) *statistics = s;
    return out;
}

// A model that has learnt a sequence of period 7 it reads with some noise.
const Model& trained_model() {
    static const Model model = [] {
        class Cycle : public BatchSource {
        public:
            void next(Batch& batch) override {
                Random random(3, position_++);
                batch.streams = 8;
                batch.length = 40;
                batch.tokens.resize(320);
                batch.labels.resize(320);
                for (std::size_t b = 0; b < 8; ++b) {
                    auto at = random.below(7);
                    for (std::size_t n = 0; n <= 40; ++n, ++at) {
                        const auto token =
                            static_cast<token_id>(at * at % 7 + random.below(50) / 48);
                        if (n < 40) batch.tokens[b * 40 + n] = token;
                        if (n > 0) batch.labels[b * 40 + n - 1] = token;
                    }
                }
            }
            std::uint64_t position() const override { return position_; }
            void seek(std::uint64_t position) override { position_ = position; }

        private:
            std::uint64_t position_ = 0;
        } source;
        Model made = random_model<Model>(1);
        TrainerOptions options;
        options.optimiser.adamw.rate = 3e-3;
        options.rate = {.peak = 3e-3, .total = 150};
        Trainer<Model> trainer(made, options);
        for (int i = 0; i < 150; ++i) trainer.step(source);
        return made;
    }();
    return model;
}

// Draws of two tokens after a prompt, counted.
using Counts = std::map<std::vector<token_id>, double>;

template <class F>
Counts count_draws(int draws, const F& two_tokens) {
    Counts counts;
    for (int i = 0; i < draws; ++i) counts[two_tokens(static_cast<std::uint64_t>(i))] += 1.0;
    return counts;
}

// The two-sample statistic Σ (a − b)²/(a + b) over outcomes, in deviations from its mean, the
// number of outcomes: above 5 hardly ever when both samples come from one distribution.
double distance(const Counts& a, const Counts& b) {
    Counts all = a;
    for (const auto& [outcome, n] : b) all[outcome] += 0.0;
    double sum = 0.0, outcomes = 0.0;
    for (const auto& [outcome, n] : all) {
        const double x = a.contains(outcome) ? a.at(outcome) : 0.0,
                     y = b.contains(outcome) ? b.at(outcome) : 0.0;
        sum += (x - y) * (x - y) / (x + y);
        outcomes += 1.0;
    }
    return (sum - (outcomes - 1.0)) / std::sqrt(2.0 * (outcomes - 1.0));
}

}  // namespace

TEST_CASE("Greedy speculative decoding is greedy decoding, whatever the draft", "[speculative]") {
    const auto prompt = random_tokens(30, 11, 1);
    const SamplingOptions greedy{.temperature = 0.0};
    for (const double penalty : {1.0, 1.3}) {
        SamplingOptions options = greedy;
        options.repetition_penalty = penalty;
        for (const bool trained : {false, true}) {
            const Model random = random_model<Model>(5);
            const Model& model = trained ? trained_model() : random;
            const auto expected = plain(model, prompt, options, 60);
            for (const Index k : {0, 1, 2, 3, 5, 23}) {
                MtpDraft<Model> own(model);
                CHECK(speculative(model, own, k, prompt, options, 60) == expected);
                ModelDraft<Model> same(model);
                SpeculativeStatistics statistics;
                CHECK(speculative(model, same, k, prompt, options, 60, &statistics) == expected);
                CHECK(statistics.accepted == statistics.proposed);  // it drafts for itself
                const Model stranger = random_model<Model>(6);
                ModelDraft<Model> other(stranger);
                CHECK(speculative(model, other, k, prompt, options, 60) == expected);
            }
        }
    }
}

TEST_CASE("Sampled speculative decoding has the model's distribution", "[speculative]") {
    const Model model = random_model<Model>(7), stranger = random_model<Model>(8);
    const auto prompt = random_tokens(9, 11, 2);
    constexpr int draws = 4000;
    for (const SamplingOptions& given :
         {SamplingOptions{.temperature = 0.4}, SamplingOptions{.temperature = 0.8, .top_p = 0.8},
          SamplingOptions{.temperature = 0.6, .repetition_penalty = 1.5}}) {
        const auto with_seed = [&](std::uint64_t seed) {
            SamplingOptions options = given;
            options.seed = seed;
            return options;
        };
        const auto expected = count_draws(
            draws, [&](std::uint64_t i) { return plain(model, prompt, with_seed(i), 3); });
        const auto again = count_draws(draws, [&](std::uint64_t i) {
            return plain(model, prompt, with_seed(i + 1000000), 3);
        });
        CHECK(distance(expected, again) < 5.0);
        SpeculativeStatistics statistics;
        const auto own = count_draws(draws, [&](std::uint64_t i) {
            MtpDraft<Model> draft(model);
            return speculative(model, draft, 2, prompt, with_seed(i + 2000000), 3, &statistics);
        });
        CHECK(distance(expected, own) < 5.0);
        const auto other = count_draws(draws, [&](std::uint64_t i) {
            ModelDraft<Model> draft(stranger);
            return speculative(model, draft, 2, prompt, with_seed(i + 3000000), 3, &statistics);
        });
        CHECK(distance(expected, other) < 5.0);
        // Planted: drafts taken as they come would be the other model's words.
        const auto biased = count_draws(draws, [&](std::uint64_t i) {
            return plain(i % 4 == 0 ? stranger : model, prompt, with_seed(i + 4000000), 3);
        });
        CHECK(distance(expected, biased) > 5.0);
    }
}

TEST_CASE("A trained draft is mostly right, and begins at the hidden state after the final norm",
          "[speculative]") {
    const Model& model = trained_model();
    const auto prompt = [] {
        std::vector<token_id> ids;
        for (token_id i = 0; i < 30; ++i) ids.push_back(i * i % 7);
        return ids;
    }();
    const SamplingOptions greedy{.temperature = 0.0};
    MtpDraft<Model> own(model);
    SpeculativeStatistics statistics;
    speculative(model, own, 2, prompt, greedy, 120, &statistics);
    INFO("acceptance " << statistics.acceptance());
    CHECK(statistics.acceptance() > 0.8);
    CHECK(statistics.tokens_per_round() > 2.5);

    // From any other hidden state the text is the same, the drafts are worse.
    struct Elsewhere : MtpDraft<Model> {
        using MtpDraft<Model>::MtpDraft;
        void begin(std::span<const token_id> fed, MatrixView<const float> hidden) {
            std::vector<float> other(24);
            for (std::size_t i = 0; i < 24; ++i)
                other[i] = (i % 2 == 0 ? -1.0F : 1.0F) * hidden(0, static_cast<Index>(23 - i));
            MtpDraft<Model>::begin(fed, {other.data(), 1, 24});
        }
    } elsewhere(model);
    SpeculativeStatistics worse;
    CHECK(speculative(model, elsewhere, 2, prompt, greedy, 120, &worse) ==
          plain(model, prompt, greedy, 120));
    CHECK(worse.acceptance() < statistics.acceptance());
}

TEST_CASE("A draft follows turns, streams and samplers", "[speculative]") {
    const Model& model = trained_model();
    ModelDraft<Model> draft(model);  // the model itself: what is greedy is accepted
    SpeculativeDecoder<Model, ModelDraft<Model>> decoder(model, draft, 3);
    const auto turn = [&](Model::State& state, const SamplingOptions& options) {
        const auto before = decoder.statistics();
        auto sampler = sampler_of(options);
        decoder.prefill(random_tokens(9, 11, 6), state);
        CHECK(decoder.generate(state, sampler, 17, [](token_id) { return true; }) == 17);
        const auto after = decoder.statistics();
        CHECK(after.proposed > before.proposed);
        return std::pair(after.proposed - before.proposed, after.accepted - before.accepted);
    };
    for (int stream = 0; stream < 2; ++stream) {
        auto state = model.new_state();
        for (int i = 0; i < 3; ++i) {
            turn(state, {.temperature = 1.5, .repetition_penalty = 3.0, .seed = 5});
            const auto [proposed, accepted] = turn(state, {.temperature = 0.0});
            CHECK(accepted == proposed);
        }
    }
}

TEST_CASE("A decoder refuses a sampler of another vocabulary", "[speculative]") {
    const Model& model = trained_model();
    MtpDraft<Model> draft(model);
    SpeculativeDecoder<Model, MtpDraft<Model>> decoder(model, draft, 2);
    auto state = model.new_state();
    decoder.prefill(random_tokens(9, 11, 5), state);
    Sampler<float> other(12);
    check_error([&] { decoder.generate(state, other, 4, [](token_id) { return true; }); },
                {"sampler: expected a vocabulary of 11, found 12"});
    CHECK(state.position() == 9);
    Sampler<float> own(11);
    check_error([&] { own.follow(other); }, {"sampler: expected a vocabulary of 11, found 12"});
}

TEST_CASE("Speculative decoding ends where it is told to", "[speculative]") {
    const Model& model = trained_model();
    const auto prompt = random_tokens(12, 11, 3);
    const SamplingOptions greedy{.temperature = 0.0};
    const auto expected = plain(model, prompt, greedy, 40);
    for (const Index stop : {0, 1, 2, 3, 7, 12}) {
        auto state = model.new_state();
        auto sampler = sampler_of(greedy);
        MtpDraft<Model> draft(model);
        SpeculativeDecoder<Model, MtpDraft<Model>> decoder(model, draft, 2);
        decoder.prefill(prompt, state);
        std::vector<token_id> out;
        const Index fed = decoder.generate(state, sampler, 40, [&](token_id token) {
            if (static_cast<Index>(out.size()) == stop) return false;
            out.push_back(token);
            return true;
        });
        CHECK(fed == stop);
        CHECK(state.position() == 12 + stop);
        CHECK(std::equal(out.begin(), out.end(), expected.begin()));
        // The state is that of the tokens fed.
        auto fresh = model.new_state();
        auto logits = model.prefill(prompt, fresh);
        for (const token_id token : out) logits = model.step(token, fresh);
        const auto next = argmax<float>(model.step(3, state));
        CHECK(next == argmax<float>(model.step(3, fresh)));
    }
    // In two calls as in one.
    auto state = model.new_state();
    auto sampler = sampler_of(greedy);
    MtpDraft<Model> draft(model);
    SpeculativeDecoder<Model, MtpDraft<Model>> decoder(model, draft, 2);
    decoder.prefill(prompt, state);
    std::vector<token_id> out;
    for (const Index count : {7, 0, 33})
        decoder.generate(state, sampler, count, [&](token_id token) {
            out.push_back(token);
            return true;
        });
    CHECK(out == expected);
}

TEST_CASE("Speculative decoding refuses what it cannot do", "[speculative]") {
    const Model& model = trained_model();
    MtpDraft<Model> draft(model);
    using Decoder = SpeculativeDecoder<Model, MtpDraft<Model>>;
    CHECK_THROWS_AS(Decoder(model, draft, -1), Error);
    CHECK_THROWS_AS(Decoder(model, draft, 24), Error);  // the window
    Decoder decoder(model, draft, 23);
    auto state = model.new_state();
    CHECK_THROWS_AS(decoder.prefill({}, state), Error);
    const std::vector<token_id> unknown{1, 11};
    CHECK_THROWS_AS(decoder.prefill(unknown, state), Error);
    CHECK(state.position() == 0);
}

TEST_CASE("Rounds of drafts stay within a bounded bank", "[speculative]") {
    constexpr HydraConfig config{.vocab_size = 11,
                                 .d_model = 8,
                                 .n_layers = 1,
                                 .n_heads = 2,
                                 .mlp_multiple_of = 5,
                                 .layer_types = LayerTypes{LayerType::retrieval},
                                 .retrieval_chunk_size = 4,
                                 .retrieval_top_k = 2};
    using Remembering = HydraLM<config>;
    using Draft = ModelDraft<Remembering>;
    constexpr Index budget = 200000, most = Remembering::prefill_tile - 1;
    const auto model = random_model<Remembering>(9), stranger = random_model<Remembering>(10);
    const BankPolicy policy = Remembering::bounded_banks(budget);
    const auto prompt = random_tokens(2000, 11, 9);
    const auto text = [&](Draft draft, double temperature) {
        SpeculativeDecoder<Remembering, Draft> decoder(model, draft, most);
        auto state = model.new_state(Remembering::prefill_tile, policy);
        auto sampler = sampler_of({.temperature = temperature});
        decoder.prefill(prompt, state);
        std::vector<token_id> out;
        for (int i = 0; i < 4; ++i) {
            decoder.generate(state, sampler, 400, [&](token_id token) {
                out.push_back(token);
                return true;
            });
            CHECK(state.size() - Remembering::state_bytes <= budget);
        }
        const auto& s = decoder.statistics();
        return std::pair(out, s.acceptance());
    };
    const auto expected = text(Draft(model, policy), 0.0);
    CHECK(expected.second == 1.0);
    CHECK(text(Draft(stranger, policy), 0.0).first == expected.first);
    CHECK(text(Draft(model), 0.0).first == expected.first);
    // A draft that keeps the past as the model does guesses its very distributions.
    CHECK(text(Draft(model, policy), 1.0).second == 1.0);
    CHECK(text(Draft(model), 1.0).second < 1.0);
    Draft draft(model);
    CHECK_THROWS_AS((SpeculativeDecoder<Remembering, Draft>(model, draft, most + 1)), Error);

    // Banks for a smaller tile hold rounds of less.
    const BankPolicy smaller = Remembering::bounded_banks(budget, BankFormat::exact, 8);
    Draft drafting_less(model, smaller, 8);
    SpeculativeDecoder<Remembering, Draft> decoder(model, drafting_less, 7);
    auto state = model.new_state(8, smaller);
    auto sampler = sampler_of({.temperature = 1.0});
    decoder.prefill(prompt, state);
    for (int i = 0; i < 200; ++i) {
        decoder.generate(state, sampler, 9, [](token_id) { return true; });
        REQUIRE(state.size() - Remembering::state_bytes <= budget);
    }
    SpeculativeDecoder<Remembering, Draft> too_many(model, drafting_less, 8);
    check_error([&] { too_many.prefill(prompt, state); },
                {"draft_tokens: expected 0 to 7, less than the tile"});
    check_error([&] { too_many.generate(state, sampler, 1, [](token_id) { return true; }); },
                {"draft_tokens: expected 0 to 7"});
    auto growing = model.new_state(8);
    too_many.prefill(prompt, growing);  // has room for any
}

TEST_CASE("An exception in the middle of a round leaves the state at the tokens kept",
          "[speculative]") {
    const Model& model = trained_model();
    const auto prompt = random_tokens(12, 11, 4);
    const SamplingOptions greedy{.temperature = 0.0};
    const auto expected = plain(model, prompt, greedy, 40);
    for (const std::size_t at : {0, 1, 2, 3, 4, 9}) {
        auto state = model.new_state();
        auto sampler = sampler_of(greedy);
        MtpDraft<Model> draft(model);
        SpeculativeDecoder<Model, MtpDraft<Model>> decoder(model, draft, 3);
        decoder.prefill(prompt, state);
        std::vector<token_id> out;
        const auto listen = [&](bool throws) {
            return [&, throws](token_id token) {
                if (throws && out.size() == at) throw std::runtime_error("enough");
                out.push_back(token);
                return true;
            };
        };
        CHECK_THROWS_AS(decoder.generate(state, sampler, 40, listen(true)), std::runtime_error);
        CHECK(out.size() == at);
        CHECK(state.position() == static_cast<std::int64_t>(12 + at));
        auto fresh = model.new_state();
        model.prefill(prompt, fresh);
        for (const token_id token : out) model.step(token, fresh);
        auto copy = state;  // behind the position banks may hold what was taken back
        const auto next = random_tokens(30, 11, 6);
        CHECK(same_bits(logits_by_step(model, copy, next), logits_by_step(model, fresh, next)));
        decoder.generate(state, sampler, 40 - static_cast<Index>(at), listen(false));
        CHECK(out == expected);
    }
}

TEST_CASE("Logits that are not numbers are an error, the state at the tokens kept",
          "[speculative]") {
    static constexpr HydraConfig config = [] {
        HydraConfig c = small_drafting;
        c.tie_embeddings = false;
        return c;
    }();
    using Untied = HydraLM<config>;
    const auto healthy = random_model<Untied>(12);
    std::vector<std::vector<float>> weights;
    healthy.get_parameters([&](const ParameterInfo&, std::span<const float> values) {
        weights.emplace_back(values.begin(), values.end());
    });
    // Fed token 3, the model answers nothing but NaN.
    std::fill_n(weights.front().begin() + 3 * config.d_model, config.d_model,
                std::numeric_limits<float>::quiet_NaN());
    Untied model;
    model.set_parameters(
        [&, i = std::size_t{0}](const ParameterInfo&, std::span<float> values) mutable {
            std::copy_n(weights[i++].begin(), values.size(), values.begin());
        });
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
        auto state = model.new_state();
        auto sampler = sampler_of({.seed = seed});
        ModelDraft<Untied> draft(healthy);
        SpeculativeDecoder<Untied, ModelDraft<Untied>> decoder(model, draft, 2);
        const token_id prompt[] = {1};
        decoder.prefill(prompt, state);
        std::vector<token_id> out;
        check_error(
            [&] {
                decoder.generate(state, sampler, 1000, [&](token_id token) {
                    out.push_back(token);
                    return true;
                });
            },
            {"only NaN"});
        REQUIRE(out.back() == 3);
        CHECK(state.position() == 1 + static_cast<std::int64_t>(out.size()));
        check_error([&] { decoder.generate(state, sampler, 1, [](token_id) { return true; }); },
                    {"only NaN"});
    }
}

TEST_CASE("A draft or a bank that fails loses no token", "[speculative]") {
    const Model& model = trained_model();
    const auto prompt = random_tokens(12, 11, 4);
    const SamplingOptions greedy{.temperature = 0.0};
    const auto expected = plain(model, prompt, greedy, 40);
    // Fails at every third call, the first included, before it has done anything.
    struct Failing : ModelDraft<Model> {
        using ModelDraft<Model>::ModelDraft;
        int calls = 0;
        void fail() {
            if (calls++ % 3 == 0) throw std::bad_alloc();
        }
        void begin(std::span<const token_id> fed, MatrixView<const float> hidden) {
            fail();
            ModelDraft<Model>::begin(fed, hidden);
        }
        std::span<const float> next(token_id token) {
            fail();
            return ModelDraft<Model>::next(token);
        }
    };
    const auto check_text = [&](auto draft, Index k, const std::shared_ptr<FewPages>& few) {
        auto state = model.new_state(Model::prefill_tile, {.pages = few});
        auto sampler = sampler_of(greedy);
        SpeculativeDecoder<Model, decltype(draft)> decoder(model, draft, k);
        int failures = 0;
        try {
            decoder.prefill(prompt, state);
        } catch (const std::bad_alloc&) {
            ++failures;
        }
        CHECK(state.position() == 12);
        std::vector<token_id> out;
        while (out.size() < 40 || state.position() < 52) {
            try {
                const auto count = static_cast<Index>(52 - state.position());
                decoder.generate(state, sampler, count, [&](token_id token) {
                    out.push_back(token);
                    return true;
                });
            } catch (const std::bad_alloc&) {
                ++failures;
                if (few != nullptr) few->left = 1;
            }
            REQUIRE(failures < 100);
        }
        CHECK(failures > 2);
        CHECK(out == expected);
        const auto& s = decoder.statistics();
        CHECK(s.tokens == 40);
        CHECK(s.tokens == s.rounds + s.accepted);
        CHECK(s.accepted == s.proposed);  // it drafts for itself
    };
    check_text(Failing(model), 1, nullptr);
    const auto few = std::make_shared<FewPages>();
    few->left = 1;
    check_text(ModelDraft<Model>(model), 3, few);
}

TEST_CASE("A moved-from state is refused", "[speculative]") {
    const Model& model = trained_model();
    MtpDraft<Model> draft(model);
    SpeculativeDecoder<Model, MtpDraft<Model>> decoder(model, draft, 2);
    auto state = model.new_state();
    auto sampler = sampler_of({.temperature = 0.0});
    decoder.prefill(random_tokens(9, 11, 5), state);
    const auto taken = std::move(state);
    check_error([&] { decoder.generate(state, sampler, 4, [](token_id) { return true; }); },
                {"state: expected", "found 0"});
    CHECK(taken.position() == 9);
}
