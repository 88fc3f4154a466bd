// What a trainer is told, and what it says of a step.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <functional>
#include <string>

#include "hydralm/training/gradients.hpp"
#include "hydralm/training/learning_rate.hpp"
#include "hydralm/training/optimiser.hpp"

namespace HYDRALM_NAMESPACE {

// What to do when a loss or a gradient is not finite: end with an Error, or leave the step out:
// weights and carried streams are what they were before it, streams that began in it begin anew.
enum class NonFinite : std::uint8_t { stop, skip };

struct TrainerOptions {
    OptimiserOptions optimiser{};
    LearningRate rate{};     // scales the optimiser's rates by rate(step) / rate.peak
    int accumulate = 1;      // batches per update, each with the same weight
    double clip = 1.0;       // largest norm of the whole gradient; 0: any
    bool cut_texts = false;  // on several ranks, each has a run of every text, not other batches
    NonFinite non_finite = NonFinite::stop;
    Keep keep = Keep::everything;  // of the tape: changes memory and time, no number
    // Whether the update after `step` updates leaves a parameter as it is; empty: none.
    std::function<bool(const ParameterInfo&, std::int64_t step)> frozen{};
};

struct StepReport {
    std::int64_t step = 0;  // updates made, this one included
    double loss = 0.0;      // of the next token: mean of its batches, in nats, before the update
    double gradient_norm = 0.0;  // before clipping
    double rate = 0.0;
    std::int64_t tokens = 0;  // of this step
    bool skipped = false;
};

namespace detail {

inline std::string short_number(double x) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%g", x);
    return text.data();
}

// Throws Error for options outside their range, and on several ranks, unless texts are cut, where
// the batches of each are no power of two.
inline void expect_fit(const TrainerOptions& options, int ranks) {
    const auto refuse = [](const char* field, const char* expected, double found) {
        raise({.field = field,
               .expected = expected,
               .found = short_number(found),
               .fix = "correct the options of training"});
    };
    if (options.accumulate < 1) refuse("accumulate", "at least 1", options.accumulate);
    if (ranks > 1 && !options.cut_texts &&
        (options.accumulate % ranks != 0 ||
         !std::has_single_bit(static_cast<unsigned>(options.accumulate / ranks))))
        raise({.field = "accumulate",
               .expected = std::to_string(ranks) +
                           " ranks times a power of two, for the bits of one process",
               .found = std::to_string(options.accumulate),
               .fix = "accumulate that many batches, or start another number of ranks"});
    if (!(options.clip >= 0.0) || !std::isfinite(options.clip))
        refuse("clip", "a finite number, at least 0", options.clip);
    if (!(options.rate.peak > 0.0) || !std::isfinite(options.rate.peak))
        refuse("learning rate", "a finite number above 0", options.rate.peak);
    if (!(options.rate.least >= 0.0) || !(options.rate.least <= options.rate.peak))
        refuse("least learning rate", "in [0, the learning rate]", options.rate.least);
}

}  // namespace detail

}  // namespace HYDRALM_NAMESPACE
