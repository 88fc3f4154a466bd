// Sampling: from a row of logits to the next token. Every filter keeps or drops whole tokens by
// (probability, id), so the outcome depends on logits, options, seed and the tokens seen, not on a
// sorting algorithm.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/error.hpp"
#include "hydralm/core/random.hpp"
#include "hydralm/simd/expression.hpp"

namespace HYDRALM_NAMESPACE {

// How a token is chosen. The defaults sample from the model's own distribution; .temperature = 0 is
// greedy. In order: repetition penalty → temperature → top-k → top-p → min-p, each on what the one
// before left.
struct SamplingOptions {
    double temperature = 1.0;  // logits are divided by it; ≤ 0: greedy, the largest logit
    int top_k = 0;             // keep the k likeliest tokens (ties: the lower id); 0, or k ≥ V: all
    double top_p =
        1.0;  // keep the likeliest until their sum reaches p, the one that crosses included; 1: all
    double min_p = 0.0;  // keep tokens at least min_p times as likely as the likeliest; 0: all
    double repetition_penalty =
        1.0;  // > 0; logits of seen tokens: l > 0 becomes l / penalty, else l · penalty; 1: none
    std::uint64_t seed = 0;  // equal seeds, equal draws
};

// Throws Error that names the first field out of its range.
inline void validate(const SamplingOptions& options) {
    const auto require = [](bool good, const char* field, const char* expected, double found,
                            const char* fix) {
        if (!good)
            raise(
                {.field = field, .expected = expected, .found = std::to_string(found), .fix = fix});
    };
    const auto in_unit = [](double p) { return p >= 0.0 && p <= 1.0; };
    require(std::isfinite(options.temperature), "temperature", "a finite number",
            options.temperature, "use 0 for greedy decoding");
    require(options.top_k >= 0, "top_k", "an integer of at least 0", options.top_k,
            "use 0 to keep all tokens");
    require(in_unit(options.top_p), "top_p", "a number in [0, 1]", options.top_p,
            "use 1 to keep all tokens");
    require(in_unit(options.min_p), "min_p", "a number in [0, 1]", options.min_p,
            "use 0 to keep all tokens");
    require(std::isfinite(options.repetition_penalty) && options.repetition_penalty > 0.0,
            "repetition_penalty", "a finite number above 0", options.repetition_penalty,
            "use 1 for no penalty");
}

// The index of the largest value, the lowest of equals; NaN sorts last. −1 where everything is NaN
// or nothing is there. No allocation. Cost: two reads at most.
template <Real T>
token_id argmax(std::span<const T> values) noexcept {
    const T largest = max(view(values));
    const auto at = std::find(values.begin(), values.end(), largest);
    return at == values.end() ? token_id{-1} : static_cast<token_id>(at - values.begin());
}

// A draw from weights ≥ 0 (probabilities, or anything proportional to them), in the order of ids:
// the first id at which the running sum passes u · total, u uniform in [0, 1). Never an id of
// weight 0; −1 where all are 0. No allocation.
template <Real T>
token_id draw(std::span<const T> weights, Random& random) noexcept {
    double total = 0.0;
    for (const T w : weights) total += static_cast<double>(w);
    const double threshold = random.uniform() * total;
    double sum = 0.0;
    token_id last = -1;
    for (std::size_t i = 0; i < weights.size(); ++i) {
        if (!(weights[i] > T(0))) continue;
        last = static_cast<token_id>(i);
        sum += static_cast<double>(weights[i]);
        if (sum > threshold) break;
    }
    return last;
}

// Chooses the tokens of one stream. Holds the stream's random sequence and which ids it has seen:
// the prompt's through observe(), its own choices by itself. All memory is taken by the constructor
// (about 4 numbers per vocabulary entry).
template <Real T = float>
class Sampler {
public:
    // Throws Error for an option out of range or vocab_size < 1.
    explicit Sampler(Index vocab_size, const SamplingOptions& options = {})
        : options_(options),
          random_(options.seed),
          weights_(vocab_size),
          candidates_(vocab_size),
          seen_(vocab_size),
          is_seen_(vocab_size) {
        validate(options);
        if (vocab_size < 1)
            raise({.field = "vocab_size",
                   .expected = "at least 1",
                   .found = std::to_string(vocab_size),
                   .fix = "pass the model's vocab_size"});
    }

    const SamplingOptions& options() const noexcept { return options_; }
    Index vocab_size() const noexcept { return weights_.size(); }
    // The sequence of draws, to be saved, resumed, or shared with a caller's own draws.
    Random& random() noexcept { return random_; }

    // The next token for logits [V], which is then seen. logits: any values; NaN is never chosen.
    // Throws Error when logits has another size than V, or holds nothing above −∞. No allocation.
    token_id operator()(std::span<const T> logits) {
        weigh(logits);
        const token_id token = options_.temperature > 0.0 ? draw<T>(weights_.span(), random_)
                                                          : argmax<T>(weights_.span());
        observe(token);
        return token;
    }

    // out[V] = the distribution that operator() would draw from: what speculative decoding
    // compares. Greedy: all on one token. Changes neither the seen tokens nor the random sequence.
    // Errors as operator(). No allocation.
    void probabilities(std::span<const T> logits, std::span<T> out) {
        check_size("out", out.size());
        weigh(logits);
        if (options_.temperature <= 0.0) {
            const auto token = static_cast<std::size_t>(argmax<T>(weights_.span()));
            std::fill(out.begin(), out.end(), T(0));
            out[token] = T(1);
            return;
        }
        double total = 0.0;
        for (const T w : weights_) total += static_cast<double>(w);
        hydralm::out(weights_.size(), out.data()) =
            in(weights_.data()) * static_cast<T>(1.0 / total);
    }

    // Counts token as seen: the prompt's tokens, or tokens that were not chosen here. Throws Error
    // outside [0, V).
    void observe(token_id token) {
        if (token < 0 || token >= vocab_size())
            raise({.field = "token",
                   .expected = "an id in [0, " + std::to_string(vocab_size()) + ")",
                   .found = std::to_string(token),
                   .fix = "pass ids of this model's vocabulary"});
        if (is_seen_[token] != 0) return;
        is_seen_[token] = 1;
        seen_[seen_count_++] = token;
    }

    // Takes over the options and the seen tokens of another sampler, not its sequence of draws.
    // Throws Error for another vocabulary. No allocation.
    void follow(const Sampler& other) {
        if (other.vocab_size() != vocab_size())
            raise({.field = "sampler",
                   .expected = "a vocabulary of " + std::to_string(vocab_size()),
                   .found = std::to_string(other.vocab_size()),
                   .fix = "make the sampler for the model's vocabulary"});
        options_ = other.options_;
        for (Index i = 0; i < seen_count_; ++i) is_seen_[seen_[i]] = 0;
        for (seen_count_ = 0; seen_count_ < other.seen_count_; ++seen_count_)
            is_seen_[seen_[seen_count_] = other.seen_[seen_count_]] = 1;
    }

    // Forgets what was seen and starts the random sequence again from the seed.
    void reset() noexcept {
        for (Index i = 0; i < seen_count_; ++i) is_seen_[seen_[i]] = 0;
        seen_count_ = 0;
        random_ = Random(options_.seed);
    }

private:
    struct Candidate {
        T weight;
        token_id id;
    };

    static bool likelier(const Candidate& a, const Candidate& b) noexcept {
        return a.weight > b.weight || (a.weight == b.weight && a.id < b.id);
    }

    void check_size(const char* field, std::size_t size) const {
        if (static_cast<Index>(size) != vocab_size())
            raise({.field = field,
                   .expected = std::to_string(vocab_size()) + " values",
                   .found = std::to_string(size),
                   .fix = "pass one value per vocabulary entry"});
    }

    // weights_ = penalised logits (greedy), or else filtered e^{(l − max)/temperature}, the largest
    // exactly 1.
    void weigh(std::span<const T> logits) {
        check_size("logits", logits.size());
        std::copy(logits.begin(), logits.end(), weights_.begin());
        if (options_.repetition_penalty != 1.0) penalise();
        const T largest = max(view(weights_.data(), vocab_size()));
        if (largest == -std::numeric_limits<T>::infinity())
            raise({.field = "logits",
                   .expected = "a value above -inf",
                   .found = "only NaN or -inf",
                   .fix = "look for an overflow in the model or a mask that allows no token"});
        if (options_.temperature <= 0.0) return;
        exponentiate(largest);
        if (options_.top_k > 0 && options_.top_k < vocab_size()) keep_top_k();
        if (options_.top_p < 1.0) keep_top_p();
        if (options_.min_p > 0.0) {
            const auto w = in(weights_.data());
            out(vocab_size(), weights_.data()) = select(w >= options_.min_p, w, 0);
        }
    }

    void penalise() noexcept {
        const double penalty = options_.repetition_penalty;
        for (Index i = 0; i < seen_count_; ++i) {
            T& logit = weights_[seen_[i]];
            const auto l = static_cast<double>(logit);
            logit = static_cast<T>(l > 0.0 ? l / penalty : l * penalty);
        }
    }

    void exponentiate(T largest) noexcept {
        using Limits =
            std::numeric_limits<T>;  // the coldest temperature puts all weight on the largest
        const double temperature =
            std::clamp<double>(options_.temperature, Limits::min(), Limits::max());
        const auto v = in(weights_.data());
        const auto w = exp((v - largest) / temperature);
        out(vocab_size(), weights_.data()) =
            select(v >= largest, 1, select(w >= 0, w, 0));  // NaN: 0
    }

    // Tokens of positive weight; returns their number.
    Index collect() noexcept {
        Index n = 0;
        for (Index i = 0; i < weights_.size(); ++i) {
            candidates_[n] = {weights_[i], static_cast<token_id>(i)};
            n += weights_[i] > T(0) ? 1 : 0;
        }
        return n;
    }

    void keep_top_k() noexcept {
        const Index n = collect();
        const Index k = options_.top_k;
        if (n <= k) return;
        std::nth_element(candidates_.begin(), candidates_.begin() + k, candidates_.begin() + n,
                         likelier);
        for (Index i = k; i < n; ++i) weights_[candidates_[i].id] = T(0);
    }

    // Bisection by mass: every step settles half of what is undecided, so the cost is linear,
    // without a sort.
    void keep_top_p() noexcept {
        const Index n = collect();
        double total = 0.0, kept = 0.0;
        for (Index i = 0; i < n; ++i) total += static_cast<double>(candidates_[i].weight);
        const double target = options_.top_p * total;
        Candidate* const first = candidates_.begin();
        Index low = 0, high = n;  // the token that crosses is in [low, high)
        while (high - low > 1) {
            const Index middle = low + (high - low) / 2;
            std::nth_element(first + low, first + middle, first + high, likelier);
            double mass = 0.0;
            for (Index i = low; i < middle; ++i) mass += static_cast<double>(candidates_[i].weight);
            if (kept + mass >= target) {
                high = middle;
            } else {
                kept += mass;
                low = middle;
            }
        }
        for (Index i = high; i < n; ++i) weights_[candidates_[i].id] = T(0);
    }

    SamplingOptions options_;
    Random random_;
    AlignedBuffer<T> weights_;
    AlignedBuffer<Candidate> candidates_;
    AlignedBuffer<token_id> seen_;         // the ids seen, each once, in order of appearance
    AlignedBuffer<std::uint8_t> is_seen_;  // by id
    Index seen_count_ = 0;
};

}  // namespace HYDRALM_NAMESPACE
