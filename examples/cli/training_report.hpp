// What train says: the sizes of the text, progress, and the result.
#pragma once

#include <hydralm/training.hpp>

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numbers>
#include <string>

#include "ranks.hpp"

// What losses are given in: on a progress line, how many nats one is, and in the result.
struct LossUnit {
    const char* name;
    double nats;
    const char* in_nats;
    const char* field;
};
inline constexpr LossUnit bits_per_byte{"bits per byte", std::numbers::ln2, "nats per byte",
                                        "bits_per_byte"};
inline constexpr LossUnit bits_per_token{"bits per token", std::numbers::ln2, "nats per token",
                                         "bits_per_token"};
inline constexpr LossUnit nats_per_answer{"nats per answer", 1.0, "nats per answer", ""};

inline void print_progress(const hydralm::StepReport& step, const hydralm::RunReport& run,
                           std::int64_t steps, std::int64_t here, const LossUnit& unit) {
    static double last = -1.0;
    if (!speaks() || (step.step != steps && run.seconds - last < 1.0)) return;
    last = run.seconds;
    const double rate = static_cast<double>(run.tokens_here) / run.seconds;
    const double left =
        run.seconds / static_cast<double>(here) * static_cast<double>(steps - step.step);
    std::fprintf(stderr, "step %lld/%lld  loss %.4f %s", static_cast<long long>(step.step),
                 static_cast<long long>(steps), step.loss / unit.nats, unit.name);
    if (std::isfinite(run.validation_loss))
        std::fprintf(stderr, "  held out %.4f", run.validation_loss / unit.nats);
    std::fprintf(stderr, "  rate %.2e  %.0f tokens/s  ETA %.0f s\n", step.rate, rate, left);
}

// How much of the text is read for what.
inline std::string sizes_line(hydralm::Index all, hydralm::Index read, hydralm::Index held_out,
                              std::int64_t seq_len, const char* unit) {
    const auto of = [&](hydralm::Index n) { return std::to_string(n); };
    std::string line =
        "text: " + of(read) + " " + unit + " to train on, " + of(held_out) + " held out";
    if (read < all)
        line += "; " + of(all - read) + " unread, in texts of at most " + of(seq_len) + " " + unit +
                ": give a smaller --seq-len to read them";
    return line + "\n";
}
inline std::string sizes_of(const hydralm::TextCorpus& training,
                            const hydralm::TextCorpus& validation, std::int64_t seq_len) {
    return sizes_line(training.size(), training.bytes_in_longer_than(seq_len), validation.size(),
                      seq_len, "bytes");
}
inline std::string sizes_of(const hydralm::TokenCorpus& training,
                            const hydralm::TokenCorpus& validation, std::int64_t seq_len) {
    return sizes_line(training.size(), training.tokens_in_longer_than(seq_len), validation.size(),
                      seq_len, "tokens");
}

// The ranks of a run, and what it has of each; empty on one.
template <class Model>
std::string bytes_of_moments(const hydralm::Trainer<Model>& trainer) {
    hydralm::Ranks& ranks = trainer.ranks();
    if (ranks.count() == 1) return "";
    std::string line = std::to_string(ranks.count()) + " ranks, bytes of moments of each:";
    for (const hydralm::Index bytes : ranks.gather(trainer.moment_bytes()))
        (line += " ") += std::to_string(bytes);
    return line + "\n";
}

inline void print_result(const hydralm::RunReport& report, const LossUnit& unit,
                         const hydralm::Ranks& ranks) {
    const auto number = [](double x) {
        return std::isfinite(x) ? nlohmann::json(x).dump() : std::string("null");
    };
    const auto losses = [&](const std::string& suffix, double nats) {
        return "\"train_" + suffix + "\": " + number(report.train_loss / nats) + ", \"validation_" +
               suffix + "\": " + number(report.validation_loss / nats) + ", \"best_validation_" +
               suffix + "\": " + number(report.best_validation_loss / nats);
    };
    const std::string spent =
        ranks.count() == 1
            ? ""
            : ", \"ranks\": " + std::to_string(ranks.count()) +
                  ", \"bytes_sent\": " + std::to_string(ranks.traffic().bytes_sent) +
                  ", \"communication_seconds\": " + number(report.communication_seconds) +
                  ", \"communication_share\": " +
                  number(report.communication_seconds / report.seconds);
    std::printf(
        "{\"steps\": %lld, \"seconds\": %s, \"tokens_per_second\": %s, %s, \"loss_unit\": "
        "\"%s\"%s%s}\n",
        static_cast<long long>(report.steps), number(report.seconds).c_str(),
        number(report.seconds > 0.0 ? static_cast<double>(report.tokens_here) / report.seconds
                                    : 0.0)
            .c_str(),
        losses("loss", 1.0).c_str(), unit.in_nats,
        *unit.field != '\0' ? (", " + losses(unit.field, unit.nats)).c_str() : "", spent.c_str());
}
