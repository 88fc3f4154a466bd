// What the claims measure that the program hydralm has no command for: one JSON object in, one out.
#pragma once

#include <hydralm/io.hpp>
#include <hydralm/model/initialise.hpp>
#include <hydralm/model/runtime_model.hpp>

#include <nlohmann/json.hpp>
#include <vector>

using Json = nlohmann::ordered_json;

// {"config", "tokens", "steps", "bank": optional}: seconds of a stream of random tokens in prefill,
// logits of the last of every 4096; then of one step (median); bytes that the state has then.
Json forward(const Json& asked);
// {"config", "tokens", "scalar", "piece"}: how far prefill, chunked prefill and step are apart.
Json forms(const Json& asked);
// {"config", "tokens", "bank": optional}: resident memory and allocations of a stream.
Json memory(const Json& asked);
// {"facts"}: a FactBank of 1024 × 1024 that learns so many, then all of them anew.
Json facts(const Json& asked);
// {"config", "copy"}: saved, and opened again: whether every parameter has the same bits.
Json round_trip(const Json& asked);
// {"model", "files", "begin", "marks", "bank": optional}: bits per byte of one stream of text up to
// each mark from the one before; the files in a circle, from this share of them on.
Json positions(const Json& asked);
// {"model", "context", "files", "bank": optional}: bits per byte of files, each behind the state
// that has read the context.
Json after_reading(const Json& asked);

// Heads of 32 and chunks of 32: all that claims measure on models of random weights.
using MeasuredChunks = hydralm::Sizes<32>;
using MeasuredKernels = hydralm::Kernels<hydralm::Sizes<32>, MeasuredChunks>;
extern template struct hydralm::RuntimeBlock<float, 32, MeasuredChunks>;
extern template struct hydralm::RuntimeBlock<double, 32, MeasuredChunks>;

template <class T>
hydralm::RuntimeModel<T> measured_model(const Json& asked) {
    const auto config = hydralm::config_from_json(asked.at("config").dump(), "config");
    hydralm::RuntimeModel<T> model(config, MeasuredKernels{});
    hydralm::initialise(model, 1, hydralm::InitScheme::fan_in);
    return model;
}

// Banks as "bank" says: "memory" (the default), or "mapped": int8, at most 64 MiB resident.
hydralm::BankPolicy measured_policy(const Json& asked);

// Random ids, the same for the same seed.
class RandomTokens {
public:
    RandomTokens(hydralm::Index vocab, std::uint64_t seed) : vocab_(vocab), random_(seed) {}
    void fill(std::span<hydralm::token_id> out) {
        for (auto& token : out)
            token =
                static_cast<hydralm::token_id>(random_.below(static_cast<std::uint64_t>(vocab_)));
    }

private:
    hydralm::Index vocab_;
    hydralm::Random random_;
};
