// Sampling: filters and their edges, the distribution, reproducibility, no allocation.
#include "hydralm/inference/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "support/allocations.hpp"
#include "support/catch.hpp"

using namespace hydralm;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float missing = std::numeric_limits<float>::quiet_NaN();

// Logits whose softmax at temperature 1 these probabilities are.
template <class T = float>
std::vector<T> logits_of(const std::vector<double>& p) {
    std::vector<T> logits;
    for (const double x : p) logits.push_back(static_cast<T>(std::log(x) + 3.0));
    return logits;
}

std::vector<float> distribution(const SamplingOptions& options, const std::vector<float>& logits,
                                const std::vector<token_id>& seen = {}) {
    Sampler<float> sampler(static_cast<Index>(logits.size()), options);
    for (const auto token : seen) sampler.observe(token);
    std::vector<float> p(logits.size(), missing);
    sampler.probabilities(logits, p);
    return p;
}

void check(const std::vector<float>& actual, const std::vector<double>& expected) {
    REQUIRE(actual.size() == expected.size());
    for (std::size_t i = 0; i < actual.size(); ++i) {
        INFO("id " << i << " actual " << actual[i] << " expected " << expected[i]);
        CHECK(std::abs(static_cast<double>(actual[i]) - expected[i]) < 2e-6);
        if (expected[i] == 0.0) CHECK(actual[i] == 0.0F);
    }
}

const std::vector<double> five{0.1, 0.4, 0.05, 0.3, 0.15};

}  // namespace

TEST_CASE("argmax: ties, NaN, infinities, every width") {
    CHECK(argmax<float>(std::vector<float>{1, 3, 2, 3}) == 1);
    CHECK(argmax<float>(std::vector<float>{missing, -5, missing, -4}) == 3);
    CHECK(argmax<float>(std::vector<float>{-infinity, -infinity}) == 0);
    CHECK(argmax<float>(std::vector<float>{1, infinity, missing}) == 1);
    CHECK(argmax<float>(std::vector<float>{missing, missing}) == -1);
    CHECK(argmax<float>(std::vector<float>{}) == -1);
    for (std::size_t n = 1; n < 80; ++n) {
        for (std::size_t at = 0; at < n; ++at) {
            std::vector<double> v(n, -1.0);
            v[at] = 2.0;
            CHECK(argmax<double>(v) == static_cast<token_id>(at));
        }
    }
}

TEST_CASE("greedy: the largest logit, whatever the other filters") {
    for (const double temperature : {0.0, -1.0}) {
        Sampler<float> sampler(5,
                               {.temperature = temperature, .top_k = 2, .top_p = 0.1, .seed = 3});
        const auto logits = logits_of(five);
        for (int i = 0; i < 20; ++i) CHECK(sampler(logits) == 1);
        CHECK(sampler(std::vector<float>{1, missing, 7, 7, missing}) == 2);
        std::vector<float> p(5);
        sampler.probabilities(logits, p);
        CHECK(p == std::vector<float>{0, 1, 0, 0, 0});
    }
}

TEST_CASE("temperature: divides the logits") {
    const auto logits = logits_of(five);
    check(distribution({}, logits), five);
    for (const double t : {0.25, 2.0}) {
        std::vector<double> expected;
        double sum = 0.0;
        for (const double p : five)
            expected.push_back(std::pow(p, 1.0 / t)), sum += expected.back();
        for (double& p : expected) p /= sum;
        check(distribution({.temperature = t}, logits), expected);
    }
    check(distribution({.temperature = 1e-300}, logits), {0, 1, 0, 0, 0});
    check(distribution({.temperature = 1e300}, logits), {0.2, 0.2, 0.2, 0.2, 0.2});
}

TEST_CASE("top-k: exactly k, the lower id of equals") {
    const auto logits = logits_of(five);
    check(distribution({.top_k = 1}, logits), {0, 1, 0, 0, 0});
    check(distribution({.top_k = 2}, logits), {0, 4.0 / 7, 0, 3.0 / 7, 0});
    check(distribution({.top_k = 5}, logits), five);
    check(distribution({.top_k = 0}, logits), five);
    check(distribution({.top_k = 1000000}, logits), five);
    check(distribution({.top_k = 2}, {1, 1, 1, 1, 1}), {0.5, 0.5, 0, 0, 0});
    check(distribution({.top_k = 3}, {1, missing, 1, -infinity}), {0.5, 0, 0.5, 0});
}

TEST_CASE("top-p: the token that crosses is kept") {
    const auto logits = logits_of(five);
    check(distribution({.top_p = 0.0}, logits), {0, 1, 0, 0, 0});
    check(distribution({.top_p = 0.39}, logits), {0, 1, 0, 0, 0});
    check(distribution({.top_p = 0.41}, logits), {0, 4.0 / 7, 0, 3.0 / 7, 0});
    check(distribution({.top_p = 0.69}, logits), {0, 4.0 / 7, 0, 3.0 / 7, 0});
    check(distribution({.top_p = 0.71}, logits), {0, 0.4 / 0.85, 0, 0.3 / 0.85, 0.15 / 0.85});
    check(distribution({.top_p = 0.951}, logits), five);
    check(distribution({.top_p = 1.0}, logits), five);
    check(distribution({.top_p = 0.4}, {1, 1, 1, 1, 1}), {0.5, 0.5, 0, 0, 0});
    check(distribution({.top_p = 0.4001}, {1, 1, 1, 1, 1}), {1.0 / 3, 1.0 / 3, 1.0 / 3, 0, 0});
    check(distribution({.top_k = 2, .top_p = 0.57}, logits),
          {0, 1, 0, 0, 0});  // of what top-k left
}

TEST_CASE("top-p and top-k agree with a sort, on random logits") {
    Random random(5);
    for (int trial = 0; trial < 200; ++trial) {
        const auto n = static_cast<std::size_t>(1 + random.below(300));
        std::vector<float> logits(n);
        for (float& l : logits)
            l = std::round(static_cast<float>(4.0 * random.normal())) / 2.0F;  // many ties
        const double p = random.uniform();
        const auto k = static_cast<int>(random.below(n + 2));
        std::vector<std::size_t> order(n);
        std::vector<double> w(n), expected(n, 0.0);
        double total = 0.0;
        for (std::size_t i = 0; i < n; ++i)
            order[i] = i, w[i] = std::exp(static_cast<double>(logits[i]));
        std::stable_sort(order.begin(), order.end(),
                         [&](auto a, auto b) { return logits[a] > logits[b]; });
        if (k > 0 && static_cast<std::size_t>(k) < n) order.resize(static_cast<std::size_t>(k));
        for (const auto i : order) total += w[i];
        double sum = 0.0;
        for (const auto i : order) {
            expected[i] = w[i];
            if ((sum += w[i]) >= p * total) break;
        }
        for (double& e : expected) e /= sum;
        INFO("trial " << trial << " n " << n << " p " << p << " k " << k);
        check(distribution({.top_k = k, .top_p = p}, logits), expected);
    }
}

TEST_CASE("min-p: relative to the likeliest") {
    const auto logits = logits_of(five);
    check(distribution({.min_p = 0.0}, logits), five);
    check(distribution({.min_p = 0.3}, logits), {0, 0.4 / 0.85, 0, 0.3 / 0.85, 0.15 / 0.85});
    check(distribution({.min_p = 1.0}, logits), {0, 1, 0, 0, 0});
    check(distribution({.min_p = 1.0}, {2, 1, 2, 0}), {0.5, 0, 0.5, 0});
    check(distribution({.top_k = 2, .min_p = 0.1}, logits), {0, 4.0 / 7, 0, 3.0 / 7, 0});
}

TEST_CASE("repetition penalty: positive logits divided, negative ones multiplied, once per id") {
    const std::vector<float> logits{2.0F, -1.0F, 2.0F, -1.0F};
    const auto p = distribution({.repetition_penalty = 2.0}, logits, {0, 1, 0, 1, 0});
    const double sum = std::exp(1.0) + std::exp(-2.0) + std::exp(2.0) + std::exp(-1.0);
    check(p,
          {std::exp(1.0) / sum, std::exp(-2.0) / sum, std::exp(2.0) / sum, std::exp(-1.0) / sum});
    check(distribution({.repetition_penalty = 2.0}, {-infinity, 0, 0}, {0, 1}), {0, 0.5, 0.5});

    Sampler<float> greedy(
        3, {.temperature = 0.0, .repetition_penalty = 4.0});  // its own choices count
    const std::vector<float> close{3.0F, 2.0F, 1.0F};
    CHECK(greedy(close) == 0);
    CHECK(greedy(close) == 1);
    CHECK(greedy(close) == 2);
    CHECK(greedy(close) == 0);
    greedy.reset();
    greedy.observe(0);
    CHECK(greedy(close) == 1);
}

TEST_CASE("unusual logits: NaN and -inf are never chosen, +inf always is") {
    Sampler<float> sampler(6, {.seed = 1});
    for (int i = 0; i < 200; ++i) {
        const token_id t =
            sampler(std::vector<float>{missing, 0, -infinity, 0, missing, -infinity});
        CHECK((t == 1 || t == 3));
    }
    check(distribution({}, {0, infinity, missing, infinity}), {0, 0.5, 0, 0.5});
    for (const double temperature : {0.0, 1.0}) {
        Sampler<float> strict(2, {.temperature = temperature});
        CHECK_THROWS_WITH(strict(std::vector<float>{missing, missing}),
                          containing("logits: expected a value above -inf"));
        CHECK_THROWS_AS(strict(std::vector<float>{-infinity, missing}), Error);
        CHECK_THROWS_WITH(strict(std::vector<float>{1, 2, 3}),
                          containing("expected 2 values, found 3"));
        CHECK_THROWS_WITH(strict.observe(2),
                          containing("token: expected an id in [0, 2), found 2"));
        CHECK_THROWS_AS(strict.observe(-1), Error);
    }
}

TEST_CASE("options are checked by name") {
    const auto field = [](const SamplingOptions& options) {
        try {
            validate(options);
        } catch (const Error& e) {
            return e.detail().field;
        }
        return std::string("none");
    };
    const double bad = std::numeric_limits<double>::quiet_NaN(),
                 inf = std::numeric_limits<double>::infinity();
    CHECK(field({}) == "none");
    CHECK(field({.temperature = bad}) == "temperature");
    CHECK(field({.temperature = inf}) == "temperature");
    CHECK(field({.top_k = -1}) == "top_k");
    CHECK(field({.top_p = 1.1}) == "top_p");
    CHECK(field({.top_p = -0.1}) == "top_p");
    CHECK(field({.top_p = bad}) == "top_p");
    CHECK(field({.min_p = 2.0}) == "min_p");
    CHECK(field({.repetition_penalty = 0.0}) == "repetition_penalty");
    CHECK(field({.repetition_penalty = inf}) == "repetition_penalty");
    CHECK_THROWS_WITH(Sampler<float>(0), containing("vocab_size"));
    CHECK_THROWS_WITH(Sampler<float>(4, {.top_p = 3.0}), containing("top_p"));
}

TEMPLATE_TEST_CASE("draws follow the distribution: chi-square", "", float, double) {
    using T = TestType;
    const std::vector<double> p{0.02, 0.28, 0.1, 0.0, 0.3, 0.05, 0.05, 0.2};
    auto logits = logits_of<T>(p);
    Sampler<T> sampler(8, {.seed = 20240607});
    constexpr int draws = 100000;
    std::vector<int> count(8);
    for (int i = 0; i < draws; ++i) ++count[static_cast<std::size_t>(sampler(logits))];
    double chi_square = 0.0;
    for (std::size_t i = 0; i < 8; ++i) {
        if (p[i] == 0.0) CHECK(count[i] == 0);
        else chi_square += (count[i] - draws * p[i]) * (count[i] - draws * p[i]) / (draws * p[i]);
    }
    CHECK(chi_square < 22.5);  // 6 degrees of freedom, 0.1 %
}

TEST_CASE("equal seeds, equal draws; reset begins again") {
    Random random(1);
    std::vector<float> logits(1000);
    for (float& l : logits) l = static_cast<float>(random.normal());
    const SamplingOptions options{.temperature = 0.8,
                                  .top_k = 200,
                                  .top_p = 0.9,
                                  .min_p = 0.01,
                                  .repetition_penalty = 1.1,
                                  .seed = 9};
    Sampler<float> a(1000, options), b(1000, options), c(1000, {.seed = 10});
    std::vector<token_id> first, other;
    for (int i = 0; i < 100; ++i) {
        first.push_back(a(logits));
        CHECK(b(logits) == first.back());
        other.push_back(c(logits));
    }
    CHECK(first != other);
    a.reset();
    for (const token_id t : first) CHECK(a(logits) == t);
}

TEST_CASE("draw: zero weights are never drawn") {
    Random random(2);
    const std::vector<double> weights{0, 0, 3, 0, 1, 0};
    int third = 0;
    for (int i = 0; i < 1000; ++i) {
        const token_id t = draw<double>(weights, random);
        CHECK((t == 2 || t == 4));
        third += t == 2 ? 1 : 0;
    }
    CHECK(std::abs(third - 750) < 60);
    CHECK(draw<double>(std::vector<double>(4), random) == -1);
}

TEST_CASE("sampling allocates nothing") {
    std::vector<float> logits(500), p(500);
    Random random(3);
    for (float& l : logits) l = static_cast<float>(random.normal());
    Sampler<float> sampler(
        500,
        {.temperature = 0.9, .top_k = 90, .top_p = 0.8, .min_p = 0.02, .repetition_penalty = 1.2});
    const long before = test::allocations();
    token_id sum = 0;
    for (int i = 0; i < 50; ++i) sum += sampler(logits);
    sampler.probabilities(logits, p);
    sampler.reset();
    const long after = test::allocations();
    CHECK(sum > 0);
    CHECK(after == before);
}
