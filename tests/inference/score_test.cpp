// Scores and streams: the sum of log-likelihoods, however the text is cut.
#include "hydralm/inference/score.hpp"

#include <cmath>
#include <vector>

#include "hydralm/inference/streaming.hpp"
#include "support/catch.hpp"
#include "support/small_model.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

constexpr Index V = small_hybrid.vocab_size;
constexpr Index N = 600;

// Σ ln softmax(logits_n)[token_{n+1}] in double, from the logits.
template <class T>
double log_likelihood(const std::vector<T>& logits, std::span<const token_id> tokens) {
    double sum = 0;
    for (std::size_t n = 0; n + 1 < tokens.size(); ++n) {
        const T* row = logits.data() + n * V;
        double total = 0;
        for (Index v = 0; v < V; ++v) total += std::exp(static_cast<double>(row[v]));
        sum += static_cast<double>(row[tokens[n + 1]]) - std::log(total);
    }
    return sum;
}

template <class Model>
void check_scores(double bound) {
    const Model model = random_model<Model>(1);
    const auto tokens = random_tokens(N, V, 1);
    auto state = model.new_state();
    const double expected = log_likelihood(logits_in_pieces(model, state, tokens), tokens);
    for (const std::vector<Index>& ends : std::vector<std::vector<Index>>{
             {N}, {1, N}, {256, N}, {0, 1, 2, 3, 300, 300, N}, {255, 256, 257, N}}) {
        Scorer<Model> scorer(model);
        auto stream = model.new_state();
        Index first = 0;
        for (const Index end : ends) {
            scorer.feed(slice(tokens, first, end - first), stream);
            CHECK(scorer.predictions() == std::max<Index>(end - 1, 0));
            first = end;
        }
        CHECK(stream.position() == N);
        CHECK(std::abs(scorer.log_likelihood() / expected - 1) <= bound);
        CHECK(scorer.bits_per_token() == -scorer.log_likelihood() / ((N - 1) * std::log(2.0)));
    }
    Scorer<Model> by_token(model);
    auto small = model.new_state(1);
    for (Index n = 0; n < N; ++n) by_token.feed(slice(tokens, n, 1), small);
    CHECK(std::abs(by_token.log_likelihood() / expected - 1) <= bound);
}

}  // namespace

TEST_CASE("A score is the sum of log-likelihoods, however the text is cut", "[score]") {
    check_scores<HydraLM<small_hybrid, float>>(1e-5);
    check_scores<HydraLM<small_hybrid, double>>(1e-12);
}

TEST_CASE("A model of zeros knows nothing", "[score]") {
    using Model = HydraLM<small_hybrid, double>;
    const Model model;
    Scorer<Model> scorer(model);
    auto state = model.new_state();
    CHECK(scorer.bits_per_token() == 0.0);
    scorer.feed(random_tokens(100, V, 1), state);
    CHECK(std::abs(scorer.bits_per_token() - std::log2(53.0)) < 1e-12);
}

TEST_CASE("Cleared sums keep the prediction", "[score]") {
    using Model = HydraLM<small_hybrid, double>;
    const Model model = random_model<Model>(2);
    const auto tokens = random_tokens(50, V, 2);
    Scorer<Model> whole(model), parts(model);
    auto a = model.new_state(), b = model.new_state();
    whole.feed(tokens, a);
    parts.feed(slice(tokens, 0, 20), b);
    const double first = parts.log_likelihood();
    parts.clear_sums();
    CHECK(parts.predictions() == 0);
    CHECK(parts.log_likelihood() == 0.0);
    parts.feed(slice(tokens, 20, 30), b);
    CHECK(parts.predictions() == 30);
    CHECK(std::abs((first + parts.log_likelihood()) / whole.log_likelihood() - 1) < 1e-12);
}

TEST_CASE("Scoring refuses a bad token and counts nothing of it", "[score]") {
    using Model = HydraLM<small_hybrid>;
    const Model model = random_model<Model>(3);
    Scorer<Model> scorer(model);
    auto state = model.new_state();
    auto tokens = random_tokens(N, V, 3);
    scorer.feed(slice(tokens, 0, 10), state);
    const double before = scorer.log_likelihood();
    tokens.back() = -1;
    CHECK_THROWS_AS(scorer.feed(tokens, state), Error);
    CHECK(scorer.predictions() == 9);
    CHECK(scorer.log_likelihood() == before);
    CHECK(state.position() == 10);
}

TEST_CASE("A stream is fed chunk by chunk until its source or its listener ends it",
          "[streaming]") {
    using Model = HydraLM<small_hybrid>;
    const Model model = random_model<Model>(4);
    const auto tokens = random_tokens(1000, V, 4);
    Scorer<Model> scorer(model);
    auto state = model.new_state();
    scorer.feed(tokens, state);

    const auto run = [&](std::size_t chunk, int most) {
        StreamingEngine<Model> engine(model);
        std::vector<token_id> buffer(chunk);
        std::size_t fed = 0;
        int chunks = 0;
        const auto source = [&](std::span<token_id> out) {
            const std::size_t n = std::min(out.size(), tokens.size() - fed);
            std::copy_n(tokens.begin() + static_cast<std::ptrdiff_t>(fed), n, out.begin());
            fed += n;
            return n;
        };
        const StreamReport report = engine.run(source, buffer, [&](const StreamReport& now) {
            CHECK(now.tokens == engine.state().position());
            return ++chunks < most;
        });
        CHECK(report.tokens == engine.state().position());
        return report;
    };
    for (const std::size_t chunk : {1000UL, 256UL, 37UL}) {
        const StreamReport report = run(chunk, 10000);
        CHECK(report.tokens == 1000);
        CHECK(std::abs(report.bits_per_token / scorer.bits_per_token() - 1) < 1e-5);
        CHECK(report.state_bytes == Model::state_bytes);
        CHECK(report.seconds > 0);
        CHECK(report.tokens_per_second == static_cast<double>(report.tokens) / report.seconds);
        CHECK(report.resident_bytes_peak >= report.resident_bytes_first);
    }
    CHECK(run(100, 3).tokens == 300);
    const StreamReport one_chunk = run(100, 1);  // nothing to compare: the memory of now
    CHECK(one_chunk.resident_bytes_peak == one_chunk.resident_bytes_first);
}

TEST_CASE("Twenty layers of three mixers stream: in any chunks, and in memory that ends growing",
          "[streaming]") {
    using Model = HydraLM<presets::hybrid>;
    constexpr Index length = 5120, chunk = 1024;
    const Model model = random_model<Model>(5);
    const auto tokens = random_tokens(length, Model::vocab_size(), 5);
    // Two chunks exact and two as means, of 32 tokens each, in each of five layers.
    for (const BankPolicy& policy :
         {BankPolicy{}, BankPolicy{.exact_chunks = 2, .pooled_chunks = 2}}) {
        StreamingEngine<Model> whole(model, policy), pieces(model, policy);
        whole.feed(tokens);
        std::vector<Index> sizes;
        for (Index first = 0; first < length; first += chunk) {
            pieces.feed(slice(tokens, first, std::min(chunk, length - first)));
            sizes.push_back(pieces.report().state_bytes);
        }
        CHECK(pieces.report().bits_per_token == whole.report().bits_per_token);
        CHECK(same_state(pieces.state(), whole.state()));
        const Index grown = sizes.back() - sizes[3];  // behind two pages of means
        if (policy.bounded()) CHECK(grown == 0);
        else CHECK(grown >= chunk * 5 * 2 * 128 * Index{sizeof(float)});
    }
}
