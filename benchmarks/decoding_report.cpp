// The decoding report: a model trained here on text drafts for itself; what that gains over plain
// decoding. Prints a page of Markdown.
//
// Usage: decoding_report PATH..., files or folders of text.
#include <hydralm/inference/generate.hpp>
#include <hydralm/inference/speculative.hpp>

#include "machine_peak.hpp"
#include "trained_on_text.hpp"

namespace {

using namespace hydralm;

// Weights of more than twice a usual last-level cache: they come from memory.
constexpr HydraConfig config{.vocab_size = 256,
                             .d_model = 512,
                             .n_layers = 6,
                             .n_heads = 8,
                             .swa_window = 256,
                             .swa_every = 3,
                             .mtp_depth = 2,
                             .mtp_loss_weight = 0.3};
using Model = HydraLM<config>;
constexpr HydraConfig without_modules = [] {
    HydraConfig c = config;
    c.mtp_depth = 0;
    return c;
}();
constexpr benchmarks::TextTraining training{.steps = 300, .batch = 2, .length = 128, .rate = 1e-3};
constexpr Index prompt_tokens = 128, new_tokens = 128;

// Drafts from the state before the final norm: but for its length, which the module's own norm
// takes away, that is the state after it divided by the norm's weights.
struct DraftBeforeNorm : MtpDraft<Model> {
    explicit DraftBeforeNorm(const Model& given) : MtpDraft<Model>(given), model(given) {}
    void begin(std::span<const token_id> fed, MatrixView<const float> hidden) {
        std::vector<float> before(hidden.row(0), hidden.row(0) + config.d_model);
        for (std::size_t i = 0; i < before.size(); ++i)
            before[i] /= model.weights().norm_f.weight[i];
        MtpDraft<Model>::begin(fed, {before.data(), 1, config.d_model});
    }
    const Model& model;
};

class Clock {
public:
    void start() { begin_ = std::chrono::steady_clock::now(); }
    void stop() {
        seconds_ +=
            std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
    }
    double seconds() const { return seconds_; }

private:
    std::chrono::steady_clock::time_point begin_{};
    double seconds_ = 0.0;
};

using Text = std::vector<token_id>;

// new_tokens after the prompt, by speculative decoding; statistics are added to sum, after_token()
// is called after each.
template <class Draft, class F>
Text speculative(const Model& model, const Text& prompt, double temperature, Index k,
                 SpeculativeStatistics& sum, const F& after_token) {
    Text out;
    Draft draft(model);
    SpeculativeDecoder<Model, Draft> decoder(model, draft, k);
    auto state = model.new_state();
    Sampler<float> sampler(config.vocab_size, {.temperature = temperature, .seed = 1});
    decoder.prefill(prompt, state);
    after_token();
    decoder.generate(state, sampler, new_tokens, [&](token_id token) {
        out.push_back(token);
        after_token();
        return true;
    });
    const auto& s = decoder.statistics();
    sum.proposed += s.proposed;
    sum.accepted += s.accepted;
    sum.rounds += s.rounds;
    sum.tokens += s.tokens;
    return out;
}

// Every prompt by both ways, which take turns of 16 tokens: what else runs here slows both.
void row(const Model& model, const std::vector<Text>& prompts, double temperature, Index k) {
    SpeculativeStatistics s;
    std::vector<double> ratios;
    for (const Text& prompt : prompts) {
        Text expected;
        auto state = model.new_state();
        Sampler<float> sampler(config.vocab_size, {.temperature = temperature, .seed = 1});
        auto logits = model.prefill(prompt, state);
        Clock plain, speculating;
        Index called = 0;
        const Text found = speculative<MtpDraft<Model>>(model, prompt, temperature, k, s, [&] {
            if (called++ % 16 != 0) return;
            if (called > 1) speculating.stop();
            plain.start();
            for (int i = 0; i < 16 && called <= new_tokens; ++i) {
                expected.push_back(sampler(logits));
                logits = model.step(expected.back(), state);
            }
            plain.stop();
            speculating.start();
        });
        speculating.stop();
        if (temperature == 0.0 && found != expected)
            throw Error({.field = "greedy text with " + std::to_string(k) + " drafts",
                         .expected = "the text of plain decoding",
                         .found = "another",
                         .fix = "this is a bug in speculative decoding"});
        ratios.push_back(plain.seconds() / speculating.seconds());
    }
    std::ranges::sort(ratios);
    std::printf("| %.1f | %td | %lld | %lld | %.3f | %lld | %.2f | %.2f (%.2f – %.2f) |\n",
                temperature, k, static_cast<long long>(s.proposed),
                static_cast<long long>(s.accepted), s.acceptance(),
                static_cast<long long>(s.rounds), s.tokens_per_round(), ratios[ratios.size() / 2],
                ratios.front(), ratios.back());
    std::fflush(stdout);
}

template <class Draft>
double acceptance(const Model& model, const std::vector<Text>& prompts, double temperature) {
    SpeculativeStatistics s;
    for (const Text& prompt : prompts) speculative<Draft>(model, prompt, temperature, 2, s, [] {});
    return s.acceptance();
}

void report(const TextCorpus& corpus) {
    const auto [text, held_out] = corpus.split(0.1, 1, 4096);
    const Model model = benchmarks::trained_on_text<Model>(text, training);
    std::vector<Text> prompts;
    for (const auto& piece : held_out.texts())
        for (std::size_t i = 0; prompts.size() < 5 && (i + 1) * 4096 < piece.size(); ++i)
            prompts.push_back(benchmarks::passage(piece.subspan(i * 4096, 4096), prompt_tokens));
    std::printf(
        "# Speculative decoding\n"
        "\n"
        "Measured by `./run reports` on %d threads: %d layers of d %d with %d modules of "
        "multi-token prediction, trained in\n"
        "%lld steps of %td × %td bytes on the licenses of this machine (%td bytes; pieces of %td "
        "bytes together held out). A pass\n"
        "reads %.0f MiB of weights; the last-level cache has %.0f MiB. %zu prompts of %td bytes of "
        "the held-out pieces, %td new\n"
        "bytes each. Plain and speculative decoding (`MtpDraft`, k drafts) take turns of 16 "
        "tokens; time: plain divided by\n"
        "speculative, median and range over the prompts. Greedy text (temperature 0) is compared "
        "with that of plain decoding, and\n"
        "is the same.\n"
        "\n"
        "| temperature | k | proposed | accepted | acceptance | rounds | tokens a round | time |\n"
        "|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        num_threads(), config.n_layers, config.d_model, config.mtp_depth,
        static_cast<long long>(training.steps), training.batch, training.length, text.size(),
        held_out.size(), static_cast<double>(HydraLM<without_modules>::weight_bytes) / (1 << 20),
        static_cast<double>(benchmarks::detail::last_level_cache_bytes()) / (1 << 20),
        prompts.size(), prompt_tokens, new_tokens);
    for (const double temperature : {0.0, 0.7})
        for (const Index k : {1, 2, 3, 4}) row(model, prompts, temperature, k);
    const auto& norm = model.weights().norm_f.weight;
    const auto [least, most] = std::ranges::minmax(std::span<const float>(norm));
    std::printf(
        "\n"
        "## Where a draft begins\n"
        "\n"
        "Acceptance with k = 2 when the first module is given the hidden state after the final "
        "norm, as in training, and the\n"
        "one before it. The text is the same either way. The module norms what it is given, so the "
        "two differ by the weights of\n"
        "the final norm only, which after this training lie between %.2f and %.2f.\n"
        "\n"
        "| temperature | after the norm | before it |\n"
        "|---:|---:|---:|\n",
        static_cast<double>(least), static_cast<double>(most));
    for (const double temperature : {0.0, 0.7})
        std::printf("| %.1f | %.3f | %.3f |\n", temperature,
                    acceptance<MtpDraft<Model>>(model, prompts, temperature),
                    acceptance<DraftBeforeNorm>(model, prompts, temperature));
}

}  // namespace

int main(int argc, char** argv) {
    try {
        report(TextCorpus({argv + 1, argv + argc}));
    } catch (const Error& error) {
        std::fprintf(stderr, "decoding_report: %s\n", error.what());
        return 1;
    }
}
