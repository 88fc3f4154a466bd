// 10. A mixer of your own: stacked with the library's, trained on text, saved, streamed, taken back
// and drafted with. docs/your-own-mixer.md explains decayed_attention.hpp step by step.
#include "decayed_attention.hpp"

#include <hydralm/hydralm.hpp>
#include <hydralm/inference/drafts.hpp>
#include <hydralm/inference/speculative.hpp>
#include <hydralm/io.hpp>
#include <hydralm/layers/gated_delta_net.hpp>
#include <hydralm/training.hpp>
#include <hydralm/training/gradient_check.hpp>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

using namespace hydralm;

namespace {

constexpr Index width = 64, heads = 2;
using Norm = RmsNorm<float, NormShape<width>>;
using Mlp = SwiGLU<float, MlpShape<width, 128>>;
using Linear = Block<GatedDeltaNet<float, 32, 0, DeltaNetShape<width, heads>>, Mlp, Norm>;
using Mine = Block<my::DecayedAttention<float, width, heads>, Mlp, Norm>;
using Far = Block<RetrievalAttention<float, 32, 16, RetrievalShape<width, heads, 4>>, Mlp, Norm>;
using Model = LanguageModel<Vocabulary<256, tied>, Stack<Repeat<2, Linear, Mine>, Far>, Norm,
                            Mtp<1, MtpModule<Mlp, Norm>>>;

// Numbers in words, one after the other, in an order that repeats: something to learn in seconds.
std::string counting() {
    std::string text;
    for (int i = 0; i < 400; ++i) {
        const char* const words[] = {"one ", "two ", "three ", "four ", "five "};
        text += words[i * i % 5];
        text += i % 7 == 6 ? "and again\n" : "then ";
    }
    return text;
}

}  // namespace

int main() {
    // Is its gradient right? In double, against central differences.
    const auto check = check_gradient<my::DecayedAttention<double, 16, 2>>();
    std::printf("gradient: off by %.0e at most (%s)\n", check.error, check.tensor.c_str());

    Model model;
    initialise(model, 1, InitScheme::fan_in);
    const auto folder = std::filesystem::temp_directory_path();
    const std::string text = (folder / "your_own_mixer.txt").string();
    std::ofstream(text) << counting();
    RandomWindows source(TextCorpus({text}), 8, 64, 1);
    TrainerOptions options;
    options.optimiser.adamw.rate = 3e-3;
    options.rate = {.peak = 3e-3, .least = 3e-4, .warmup = 10, .total = 150};
    Trainer<Model> trainer(model, options);
    const double first = trainer.step(source).loss;
    double last = first;
    for (int step = 1; step < 150; ++step) last = trainer.step(source).loss;
    std::printf("trained: loss %.2f to %.2f nats a byte\n", first, last);

    // Its file says what it is made of; another model refuses it, and names the first module.
    const auto path = folder / "your_own_mixer.safetensors";
    save(model, path);
    const auto loaded = load<Model>(path);
    std::filesystem::remove(path);
    std::filesystem::remove(text);

    const auto prompt = ByteTokenizer().encode("one then two then ");
    const auto collect = [](std::string& out) {
        return [&out](token_id token) { return out += static_cast<char>(token), true; };
    };
    Sampler<float> greedy(256, {.temperature = 0.0});
    std::string plain, drafted;
    auto state = loaded.new_state(), other = loaded.new_state();
    generate(loaded, state, loaded.prefill(prompt, state), greedy, 60, collect(plain));

    // The model drafts for itself; guesses that fail are taken back by rollback.
    MtpDraft<Model> draft(loaded);
    SpeculativeDecoder<Model, MtpDraft<Model>> decoder(loaded, draft, 2);
    decoder.prefill(prompt, other);
    decoder.generate(other, greedy, 60, collect(drafted));
    std::printf("%s\nthe same with drafts: %s\n", plain.c_str(), plain == drafted ? "yes" : "no");
    return check.error < 1e-6 && last < first / 2 && plain == drafted ? 0 : 1;
}
