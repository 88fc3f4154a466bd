// 8. Speculative decoding: a model that drafts for itself, trained here for some seconds on a text
// of rules; the same output as plain decoding, in fewer passes.
#include <chrono>
#include <cstdio>
#include <hydralm/hydralm.hpp>
#include <hydralm/inference/generate.hpp>
#include <hydralm/inference/speculative.hpp>
#include <hydralm/training.hpp>
#include <string>

namespace {

constexpr hydralm::HydraConfig config{.vocab_size = 256,
                                      .d_model = 128,
                                      .n_layers = 4,
                                      .n_heads = 4,
                                      .swa_window = 64,
                                      .swa_every = 2,
                                      .mtp_depth = 3};
using Model = hydralm::HydraLM<config>;

std::string text_of_rules() {
    std::string text;
    for (int i = 0; i < 4000; ++i)
        text += "After " + std::to_string(i % 10) + " comes " + std::to_string((i + 1) % 10) + ". ";
    return text;
}

template <class F>
double seconds(const F& f) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Windows of one text, drawn at random.
class Windows : public hydralm::BatchSource {
public:
    explicit Windows(std::string text) : text_(std::move(text)) {}
    void next(hydralm::Batch& batch) override {
        hydralm::Random random(1, position_++);
        batch = {};
        batch.streams = 8;
        batch.length = 64;
        for (int b = 0; b < 8; ++b) {
            const auto first = random.below(text_.size() - 65);
            for (std::size_t n = first; n < first + 64; ++n) {
                batch.tokens.push_back(static_cast<unsigned char>(text_[n]));
                batch.labels.push_back(static_cast<unsigned char>(text_[n + 1]));
            }
        }
    }
    std::uint64_t position() const override { return position_; }
    void seek(std::uint64_t position) override { position_ = position; }

private:
    std::string text_;
    std::uint64_t position_ = 0;
};

}  // namespace

int main() {
    Model model;
    hydralm::initialise(model, 1, hydralm::InitScheme::fan_in);
    Windows source(text_of_rules());
    hydralm::TrainerOptions options;
    options.optimiser.adamw.rate = 3e-3;
    options.rate = {.peak = 3e-3, .least = 3e-4, .warmup = 10, .total = 200};
    hydralm::Trainer<Model> trainer(model, options);
    double loss = 0.0;
    for (int step = 0; step < 200; ++step) loss = trainer.step(source).loss;
    std::printf("trained: loss %.3f\n", loss);

    const auto prompt = hydralm::ByteTokenizer(256).encode("After 3 comes 4. After ");
    const auto collect = [](std::string& out) {
        return [&out](hydralm::token_id token) { return out += static_cast<char>(token), true; };
    };
    hydralm::Sampler<float> greedy(256, {.temperature = 0.0});
    std::string plain, drafted;
    auto a = model.new_state(), b = model.new_state();
    const double slow = seconds([&] {
        hydralm::generate(model, a, model.prefill(prompt, a), greedy, 400, collect(plain));
    });
    hydralm::MtpDraft<Model> draft(model);
    hydralm::SpeculativeDecoder<Model, hydralm::MtpDraft<Model>> decoder(model, draft, 3);
    const double fast = seconds([&] {
        decoder.prefill(prompt, b);
        decoder.generate(b, greedy, 400, collect(drafted));
    });
    std::printf("%.60s…\nthe same: %s; %.0f %% of drafts kept, %.2f tokens a pass, %.2f× as fast\n",
                plain.c_str(), plain == drafted ? "yes" : "no",
                100.0 * decoder.statistics().acceptance(), decoder.statistics().tokens_per_round(),
                slow / fast);
    return plain == drafted ? 0 : 1;
}
