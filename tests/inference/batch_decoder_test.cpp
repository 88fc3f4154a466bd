// Streams that step together have the bits they would have alone.
#include "hydralm/inference/batch_decoder.hpp"

#include <vector>

#include "support/catch.hpp"
#include "support/small_model.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

constexpr Index V = small_hybrid.vocab_size;

// Token n of stream b.
std::vector<token_id> column(const std::vector<std::vector<token_id>>& texts, Index n) {
    std::vector<token_id> tokens;
    for (const auto& text : texts) tokens.push_back(text[static_cast<std::size_t>(n)]);
    return tokens;
}

template <class Model>
void check_neighbours() {
    using T = typename Model::Scalar;
    const Model model = random_model<Model>(1);
    for (const Index B : {1, 2, 3, 4, 5, 8, 17}) {
        BatchDecoder<Model> batch(model, B);
        REQUIRE(batch.streams() == B);
        std::vector<typename Model::State> alone;
        std::vector<std::vector<token_id>> texts;
        for (Index b = 0; b < B; ++b) {
            // Streams of different ages: some past the window, some new.
            const auto seed = static_cast<std::uint64_t>(b);
            alone.push_back(model.new_state());
            if (b % 3 > 0)
                model.prefill(random_tokens(b % 3 == 1 ? 11 : 300, V, seed), alone.back());
            batch.state(b) = alone.back();
            texts.push_back(random_tokens(40, V, 100 + seed));
        }
        for (Index n = 0; n < 40; ++n) {
            const auto logits = batch.step(column(texts, n));
            REQUIRE(logits.rows() == B);
            REQUIRE(logits.cols() == V);
            for (Index b = 0; b < B; ++b) {
                const auto i = static_cast<std::size_t>(b);
                const auto expected = model.step(texts[i][static_cast<std::size_t>(n)], alone[i]);
                INFO(B << " streams, stream " << b << ", token " << n);
                REQUIRE(same_bits(std::span<const T>(logits.row(b), V), expected));
            }
        }
        for (Index b = 0; b < B; ++b) {
            const auto& state = alone[static_cast<std::size_t>(b)];
            CHECK(batch.state(b).position() == state.position());
            CHECK(same_state(batch.state(b), state));
        }
    }
}

}  // namespace

TEST_CASE("A stream in a batch has the bits it has alone", "[batch_decoder]") {
    check_neighbours<HydraLM<small_hybrid, float>>();
    check_neighbours<HydraLM<small_hybrid, double>>();
    check_neighbours<HydraLM<small_remembering, float>>();
}

TEST_CASE("Streams of a batch keep the past as its policy says", "[batch_decoder]") {
    using Model = HydraLM<small_remembering>;
    const Model model = random_model<Model>(6);
    auto policies = bank_policies();
    policies.push_back({.state = StateFormat::int16});
    policies.push_back({.format = BankFormat::int8, .state = StateFormat::int16});
    for (const BankPolicy& policy : policies) {
        BatchDecoder<Model> batch(model, 2, policy);
        std::vector<Model::State> alone(2, model.new_state(1, policy));
        for (Index b = 0; b < 2; ++b) {
            REQUIRE(batch.state(b).keeps_as(model.new_memory(policy)));
            const auto prompt = random_tokens(5 + 30 * b, V, 60);
            model.prefill(prompt, batch.state(b));
            model.prefill(prompt, alone[static_cast<std::size_t>(b)]);
        }
        for (std::uint64_t n = 0; n < 40; ++n) {
            const auto tokens = random_tokens(2, V, 61 + n);
            const auto logits = batch.step(tokens);
            for (std::size_t b = 0; b < 2; ++b)
                REQUIRE(same_bits(std::span<const float>(logits.row(static_cast<Index>(b)), V),
                                  model.step(tokens[b], alone[b])));
        }
        for (Index b = 0; b < 2; ++b)
            CHECK(same_state(batch.state(b), alone[static_cast<std::size_t>(b)]));
    }
    CHECK_THROWS_AS(BatchDecoder<Model>(model, 2, {.exact_chunks = 2}), Error);  // and no means
}

TEST_CASE("Identical streams give one answer, with any number of threads", "[batch_decoder]") {
    using Model = HydraLM<small_hybrid>;
    const Model model = random_model<Model>(2);
    const auto tokens = random_tokens(30, V, 2);
    auto alone = model.new_state();
    const auto expected = logits_by_step(model, alone, tokens);
    const int threads_before = num_threads();
    for (const int threads : {1, 2, 3, 7}) {
        set_num_threads(threads);
        BatchDecoder<Model> batch(model, 19);
        for (std::size_t n = 0; n < tokens.size(); ++n) {
            const auto logits = batch.step(std::vector<token_id>(19, tokens[n]));
            for (Index b = 0; b < 19; ++b)
                REQUIRE(same_bits(std::span<const float>(logits.row(b), V),
                                  std::span(expected).subspan(n * V, V)));
        }
    }
    set_num_threads(threads_before);
}

TEST_CASE("A batch has the same bits with any number of threads", "[batch_decoder][threads]") {
    using Model = HydraLM<wide_remembering>;
    constexpr Index B = 16;
    const Model model = random_model<Model>(5);
    // Streams of every age up to some chunks.
    std::vector<Model::State> starts;
    for (Index b = 0; b < B; ++b) {
        starts.push_back(model.new_state());
        model.prefill(random_tokens(1 + 11 * b, wide_remembering.vocab_size, 50), starts.back());
    }
    std::vector<float> expected;
    std::vector<Model::State> ends;
    const int threads_before = num_threads();
    for (const int threads : {1, 2, 3, 7}) {
        set_num_threads(threads);
        INFO(threads << " threads");
        BatchDecoder<Model> batch(model, B);
        for (Index b = 0; b < B; ++b) batch.state(b) = starts[static_cast<std::size_t>(b)];
        std::vector<float> found;
        for (std::uint64_t n = 0; n < 10; ++n) {
            const auto logits = batch.step(random_tokens(B, wide_remembering.vocab_size, n));
            found.insert(found.end(), logits.data(), logits.data() + logits.rows() * logits.cols());
        }
        if (threads == 1) {
            expected = found;
            for (Index b = 0; b < B; ++b) ends.push_back(batch.state(b));
        }
        CHECK(same_bits(found, expected));
        for (Index b = 0; b < B; ++b)
            CHECK(same_state(batch.state(b), ends[static_cast<std::size_t>(b)]));
    }
    set_num_threads(threads_before);
}

TEST_CASE("A prompt may be fed into a stream of the batch", "[batch_decoder]") {
    using Model = HydraLM<small_hybrid>;
    const Model model = random_model<Model>(3);
    BatchDecoder<Model> batch(model, 2);
    const auto prompt = random_tokens(20, V, 3);
    model.prefill(prompt, batch.state(1), Form::recurrent);
    auto alone = model.new_state();
    logits_by_step(model, alone, prompt);
    const auto logits = batch.step(std::vector<token_id>{1, 2});
    CHECK(same_bits(std::span<const float>(logits.row(1), V), model.step(2, alone)));
}

TEST_CASE("A batch refuses bad tokens, its states unchanged", "[batch_decoder]") {
    using Model = HydraLM<small_hybrid>;
    const Model model = random_model<Model>(4);
    BatchDecoder<Model> batch(model, 3);
    batch.step(std::vector<token_id>{1, 2, 3});
    const std::vector<typename Model::State> before{batch.state(0), batch.state(1), batch.state(2)};
    const auto message = [&](std::vector<token_id> tokens) -> std::string {
        try {
            batch.step(tokens);
        } catch (const Error& error) {
            return error.what();
        }
        return "accepted";
    };
    CHECK(message({1, 2}) ==
          "hydralm: tokens: expected 3 ids, one per stream, found 2; give every stream a token");
    CHECK(message({}) ==
          "hydralm: tokens: expected 3 ids, one per stream, found 0; give every stream a token");
    CHECK(message({1, 2, 53}) ==
          "hydralm: token 2: expected an id in [0, 53), found 53; use the tokeniser the model was "
          "made for");
    CHECK(message({1, -1, 3}) ==
          "hydralm: token 1: expected an id in [0, 53), found -1; use the tokeniser the model was "
          "made for");
    const auto taken = std::move(batch.state(1));
    CHECK(message({1, 2, 3}).starts_with("hydralm: state: expected "));
    batch.state(1) = taken;
    for (Index b = 0; b < 3; ++b) {
        CHECK(batch.state(b).position() == 1);
        CHECK(same_state(batch.state(b), before[static_cast<std::size_t>(b)]));
    }
}

TEST_CASE("A batch has at least one stream", "[batch_decoder]") {
    using Model = HydraLM<small_hybrid>;
    const Model model;
    CHECK_THROWS_AS(BatchDecoder<Model>(model, 0), Error);
    CHECK_THROWS_AS(BatchDecoder<Model>(model, -1), Error);
}
