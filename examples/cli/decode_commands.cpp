// generate, score and stream: a checkpoint at work on text.
#include <hydralm/inference/generate.hpp>
#include <hydralm/inference/hybrid_draft.hpp>
#include <hydralm/inference/speculative.hpp>
#include <hydralm/inference/stop_matcher.hpp>
#include <hydralm/inference/stop_tokens.hpp>
#include <hydralm/inference/streaming.hpp>
#include <hydralm/io.hpp>
#include <hydralm/training/text_over_ranks.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numbers>

#include "bank_policy.hpp"
#include "options.hpp"
#include "program_model.hpp"
#include "ranks.hpp"
#include "sampling.hpp"
#include "standard_streams.hpp"
#include "text_input.hpp"

namespace {

constexpr std::size_t chunk_tokens = 4096;

void print(std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    flush_output();
}

// Bits per token, if there was one to predict: the first is not.
nlohmann::ordered_json bits_or_null(std::int64_t tokens, double bits) {
    if (tokens < 2) return nullptr;
    return bits;
}

// NaN in weights makes NaN of everything; JSON has no word for it.
void expect_finite(double likelihood, const std::string& model) {
    if (!std::isfinite(likelihood))
        throw hydralm::Error({.file = model,
                              .field = "log-likelihood",
                              .expected = "a finite number",
                              .found = std::to_string(likelihood),
                              .fix = "look for NaN and infinity in the weights"});
}

void print_statistics(const hydralm::SpeculativeStatistics& s) {
    std::fprintf(stderr,
                 "drafts proposed %lld, accepted %lld (%.3f); rounds %lld, tokens per round %.2f\n",
                 static_cast<long long>(s.proposed), static_cast<long long>(s.accepted),
                 s.acceptance(), static_cast<long long>(s.rounds), s.tokens_per_round());
}

// f(the draft that --draft names): the model's own module or modules, or a checkpoint of the same
// config, whose banks keep the past by the same policy.
template <class Model, class F>
void with_draft(const Options& o, const Model& model, const hydralm::BankPolicy& policy,
                const F& f) {
    if (o.draft != "mtp") {
        const Model other = load_program_model<Model>(o.draft, o.weights);
        hydralm::ModelDraft<Model> draft(other, policy);
        f(draft);
        return;
    }
    if constexpr (hydralm::predicts_more<Model>) {
        if (model.mtp_depth > 0) {
            hydralm::MtpDraft<Model> draft(model);
            f(draft);
            return;
        }
    }
    if constexpr (requires { model.hybrid; }) {
        if (model.hybrid && model.hybrid->mtp) {
            const auto mtp = hydralm::open_mtp<typename Model::Scalar>(o.model);
            hydralm::HybridDraft draft(model, mtp);
            f(draft);
            return;
        }
    }
    throw hydralm::Error({.field = "--draft mtp",
                          .expected = "a model with modules of multi-token prediction",
                          .found = "none",
                          .fix = "train with mtp_depth above 0, or draft with another checkpoint"});
}

// What is to be continued.
std::vector<hydralm::token_id> prompt_of(const Options& o, const ProgramTokenizer& tokenizer,
                                         int vocab) {
    if (!o.ids.empty()) return read_ids(o.ids, vocab);
    tokenizer.expect_fits(vocab);
    const auto prefix = tokenizer.prefix();
    std::vector<hydralm::token_id> prompt(prefix.begin(), prefix.end());
    const auto text =
        o.text.empty() ? tokenizer.encode(o.prompt) : TextFile(o.text, tokenizer, vocab).read_all();
    prompt.insert(prompt.end(), text.begin(), text.end());
    return prompt;
}

// feed(piece) for the whole prompt, in pieces of prefill's tiles, which change no bit; how far a
// long one is stands on standard error, once a second.
template <class Feed>
void feed_prompt(std::span<const hydralm::token_id> prompt, const Feed& feed) {
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    auto said = start;
    std::size_t read = 0;
    for (; prompt.size() - read > chunk_tokens; read += chunk_tokens) {
        if (const auto now = Clock::now(); now - said >= std::chrono::seconds(1)) {
            said = now;
            const double rate =
                static_cast<double>(read) / std::chrono::duration<double>(now - start).count();
            std::fprintf(stderr, "prompt: %zu of %zu tokens, %.0f tokens/s, %.0f s left\n", read,
                         prompt.size(), rate, static_cast<double>(prompt.size() - read) / rate);
        }
        feed(prompt.subspan(read, chunk_tokens));
    }
    feed(prompt.subspan(read));
}

template <class Model>
void run_generate(const Options& o) {
    using T = typename Model::Scalar;
    if (o.ids.empty() && o.text.empty() && o.prompt.empty())
        throw hydralm::Error({.field = "--prompt",
                              .expected = "a text with at least one byte, --text or --ids",
                              .found = "none",
                              .fix = "give the model something to continue"});
    const bool only_ids = !o.ids.empty() && o.print_ids && o.stop.empty();
    const ProgramTokenizer tokenizer =
        only_ids ? ProgramTokenizer() : ProgramTokenizer::of(o.model);
    const Model model = load_program_model<Model>(o.model, o.weights);
    const auto prompt = prompt_of(o, tokenizer, model.vocab_size());
    hydralm::Sampler<T> sampler(model.vocab_size(), sampling(o));
    for (const auto token : prompt) sampler.observe(token);
    const auto policy = bank_policy(model, o.bank);
    auto state = model.new_state(Model::prefill_tile, policy);
    say_sparse_reading(state);
    std::string ids;
    hydralm::Utf8Stream utf8;
    hydralm::StopMatcher stops(o.stop);
    const auto next = hydralm::stop_at(stop_ids_of(o.model, model), [&](hydralm::token_id token) {
        if (o.print_ids) (ids += ids.empty() ? "" : " ") += std::to_string(token);
        if (only_ids) return true;
        const std::string_view text = stops.push(tokenizer.text(token));
        if (!o.print_ids) print(utf8.push(text));
        return !stops.found();
    });
    hydralm::SpeculativeStatistics statistics;
    if (o.draft.empty()) {
        static_assert(chunk_tokens % Model::prefill_tile == 0);
        std::span<const T> logits;
        feed_prompt(prompt, [&](auto piece) { logits = model.prefill(piece, state); });
        hydralm::generate(model, state, logits, sampler, o.tokens, next);
    } else {
        with_draft(o, model, policy, [&](auto& draft) {
            using Draft = std::decay_t<decltype(draft)>;
            hydralm::SpeculativeDecoder<Model, Draft> decoder(model, draft, o.draft_tokens);
            feed_prompt(prompt, [&](auto piece) { decoder.prefill(piece, state); });
            decoder.generate(state, sampler, o.tokens, next);
            statistics = decoder.statistics();
        });
    }
    if (o.print_ids) {
        print(ids);
    } else {
        print(utf8.push(stops.flush()));
        print(utf8.flush());
    }
    print("\n");
    if (!o.draft.empty()) print_statistics(statistics);
}

template <class Model>
void run_score(const Options& o) {
    if (o.ids.empty() == o.text.empty())
        throw hydralm::Error({.field = "--text",
                              .expected = "one of --text and --ids",
                              .found = "none",
                              .fix = "name the file to score"});
    const Model model = load_program_model<Model>(o.model, o.weights);
    auto state = model.new_state(Model::prefill_tile, bank_policy(model, o.bank));
    hydralm::Ranks& ranks = program_ranks();
    hydralm::Scorer<Model> scorer(model);
    std::int64_t tokens = 0, bytes = 0;  // bytes: those of the tokens that are predicted
    double log_likelihood = 0;
    const auto feed = [&](std::span<const hydralm::token_id> piece) {
        if (ranks.count() == 1) scorer.feed(piece, state);
        else log_likelihood -= hydralm::score_over_ranks(model, piece, state, ranks).sum;
        tokens += std::ssize(piece);
    };
    if (!o.ids.empty()) {
        feed(read_ids(o.ids, model.vocab_size()));
    } else {
        const ProgramTokenizer tokenizer = ProgramTokenizer::of(o.model);
        TextFile text(o.text, tokenizer, model.vocab_size());
        const auto feed_text = [&](std::span<const hydralm::token_id> piece) {
            for (const auto token : piece.subspan(tokens == 0 ? 1 : 0))
                bytes += std::ssize(tokenizer.text(token));
            feed(piece);
        };
        std::vector<hydralm::token_id> buffer(chunk_tokens);
        if (ranks.count() > 1) feed_text(text.read_all());  // it is cut where it is known whole
        else
            for (std::size_t n = text.read(buffer); n > 0; n = text.read(buffer))
                feed_text(std::span(buffer).first(n));
    }
    if (ranks.count() == 1) log_likelihood = scorer.log_likelihood();
    expect_finite(log_likelihood, o.model);
    // Bytes of a text, else tokens.
    const auto units = static_cast<double>(o.ids.empty() ? bytes : tokens - 1);
    nlohmann::ordered_json result{
        {"tokens", tokens},
        {"log_likelihood", log_likelihood},
        {o.ids.empty() ? "bits_per_byte" : "bits_per_token",
         bits_or_null(tokens, -log_likelihood / (units * std::numbers::ln2))}};
    add_sparse_reading(result, state);
    if (speaks()) print(result.dump() + "\n");
}

template <class Model>
void run_stream(const Options& o) {
    if (o.repeat && o.tokens == 0)
        throw hydralm::Error({.field = "--repeat",
                              .expected = "--tokens with it",
                              .found = "none",
                              .fix = "say how many tokens to stream"});
    const Model model = load_program_model<Model>(o.model, o.weights);
    const ProgramTokenizer tokenizer = ProgramTokenizer::of(o.model);
    const char* const unit = tokenizer.is_bytes() ? "byte" : "token";
    TextFile text(o.text, tokenizer, model.vocab_size());
    const std::int64_t goal = o.tokens > 0 && o.repeat ? o.tokens
                              : o.tokens > 0           ? std::min(o.tokens, text.size())
                                                       : text.size();
    std::vector<hydralm::token_id> buffer(chunk_tokens);
    std::int64_t left = goal;
    const auto source = [&](std::span<hydralm::token_id> out) -> std::size_t {
        const auto wanted = std::min<std::int64_t>(left, static_cast<std::int64_t>(out.size()));
        if (wanted == 0) return 0;
        std::size_t n = text.read(out.first(static_cast<std::size_t>(wanted)));
        if (n == 0 && o.repeat) {
            text.rewind();
            n = text.read(out.first(static_cast<std::size_t>(wanted)));
        }
        left -= static_cast<std::int64_t>(n);
        return n;
    };
    double shown = 0.0;
    hydralm::StreamReport mark;  // where the last stretch of the text ended
    mark.tokens = 1;             // the first is not predicted
    std::int64_t distance = chunk_tokens;
    const auto progress = [&](const hydralm::StreamReport& r) {
        if (r.tokens > mark.tokens && (r.tokens >= distance || r.tokens == goal)) {
            const auto bits = [](const hydralm::StreamReport& at) {
                return at.bits_per_token * static_cast<double>(at.tokens - 1);
            };
            std::fprintf(stderr, "bits per %s from token %lld to %lld: %.4f\n", unit,
                         static_cast<long long>(mark.tokens), static_cast<long long>(r.tokens),
                         (bits(r) - bits(mark)) / static_cast<double>(r.tokens - mark.tokens));
            mark = r;
            distance *= 4;
        }
        if (r.seconds - shown >= 1.0 || r.tokens == goal) {
            shown = r.seconds;
            const double eta = static_cast<double>(goal - r.tokens) / r.tokens_per_second;
            std::fprintf(stderr,
                         "%lld of %lld tokens, %.0f tokens/s, %.0f s left, state %td bytes, "
                         "resident %.1f MiB\n",
                         static_cast<long long>(r.tokens), static_cast<long long>(goal),
                         r.tokens_per_second, eta, r.state_bytes,
                         static_cast<double>(hydralm::resident_bytes()) / 1048576.0);
        }
        return true;
    };
    hydralm::StreamingEngine<Model> engine(model, bank_policy(model, o.bank));
    const auto r = engine.run(source, buffer, progress);
    expect_finite(r.bits_per_token, o.model);
    if (r.tokens < o.tokens)
        std::fprintf(stderr, "the text ended %lld tokens early; --repeat begins it again\n",
                     static_cast<long long>(o.tokens - r.tokens));
    nlohmann::ordered_json result{
        {"tokens", r.tokens},
        {"seconds", r.seconds},
        {"tokens_per_second", r.tokens_per_second},
        {"state_bytes", r.state_bytes},
        {"state", engine.state().rests() ? "int16" : o.scalar},
        {"resident_bytes_first", r.resident_bytes_first},
        {"resident_bytes_peak", r.resident_bytes_peak},
        {std::string("bits_per_") + unit, bits_or_null(r.tokens, r.bits_per_token)}};
    add_sparse_reading(result, engine.state());
    print(result.dump() + "\n");
}

}  // namespace

void generate(const Options& o) {
    with_model(o, [&]<class Model>() { run_generate<Model>(o); });
}
void score(const Options& o) {
    program_ranks();  // so that an error of all is said once
    with_model(o, [&]<class Model>() { run_score<Model>(o); });
}
void stream(const Options& o) {
    with_model(o, [&]<class Model>() { run_stream<Model>(o); });
}
