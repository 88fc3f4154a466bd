// Checkpoints of a training run: any bytes, half of them with magic, version, length and checksum
// mended; a trainer that takes one up goes on with it, one that refuses it is what it was.
#include <cmath>
#include <optional>

#include "hydralm/training.hpp"
#include "mended_state.hpp"
#include "support/temporary_directory.hpp"
#include "target.hpp"

namespace hydralm::fuzz {
namespace {

using Model =
    HydraLM<HydraConfig{.vocab_size = 3,
                        .d_model = 4,
                        .n_layers = 3,
                        .n_heads = 1,
                        .mlp_multiple_of = 1,
                        .dn_short_conv_kernel = 2,
                        .swa_window = 2,
                        .layer_types = {LayerType::deltanet, LayerType::swa, LayerType::retrieval},
                        .retrieval_chunk_size = 2,
                        .retrieval_top_k = 2}>;

// Two streams that go on for ever.
struct Endless : BatchSource {
    void next(Batch& batch) override {
        batch = {.streams = 2,
                 .length = 3,
                 .tokens = {0, 2, 1, 1, 2, 0},
                 .labels = {2, 1, 1, 2, 0, 1},
                 .fresh = position_++ == 0};
    }
    std::uint64_t position() const override { return position_; }
    void seek(std::uint64_t position) override { position_ = position; }

private:
    std::uint64_t position_ = 0;
};

// A model, and a trainer of it.
struct Training {
    Model model;
    std::optional<Trainer<Model>> trainer;

    explicit Training(OptimiserKind kind) {
        initialise(model, 1, InitScheme::fan_in);
        TrainerOptions options;
        options.optimiser.kind = kind;
        trainer.emplace(model, options);
    }
};

// The bytes of its checkpoint after so many steps.
std::string checkpoint(OptimiserKind kind, int steps) {
    const test::TemporaryDirectory directory;
    Training training(kind);
    Endless source;
    for (int i = 0; i < steps; ++i) training.trainer->step(source);
    save_state(directory / "s", "{}", training.trainer->sections());
    return test::read_text(directory / "s");
}

constexpr std::int64_t last_step = 100;

std::string bits(Trainer<Model>& trainer) {
    std::string all;
    for (const StateSection& section : trainer.sections())
        all.append(reinterpret_cast<const char*>(section.bytes.data()), section.bytes.size());
    return all;
}

// The last byte of an input: whether to mend the rest, and the optimiser.
constexpr unsigned mend = 1, muon = 2;

void take(std::string_view input) {
    static MemoryFile file, good;
    static Training adamw(OptimiserKind::adamw), hybrid(OptimiserKind::muon);
    static const std::string begun = checkpoint(OptimiserKind::adamw, 1);
    const unsigned choice = input.empty() ? 0 : static_cast<unsigned char>(input.back());
    if (!input.empty()) input.remove_suffix(1);
    file.hold((choice & mend) != 0 ? mended_state(input) : input);
    good.hold(begun);
    Training& training = (choice & muon) != 0 ? hybrid : adamw;
    Trainer<Model>& trainer = *training.trainer;
    trainer.restore(StateFile(good.path(), "{}"), last_step);
    const std::string before = bits(trainer);
    try {
        trainer.restore(StateFile(file.path(), "{}"), last_step);
    } catch (const Error&) {
        expect(bits(trainer) == before, "a refused checkpoint changes nothing");
        throw;
    }
    const std::int64_t steps = trainer.steps();
    expect(steps >= 0 && steps <= last_step && trainer.tokens() >= 0, "steps and tokens can be");
    Endless source;
    source.seek(1);
    trainer.step(source);
    expect(trainer.steps() == steps + 1, "a step is a step");
    training.model.get_parameters([](const ParameterInfo&, std::span<const float> values) {
        for (const float value : values) expect(std::isfinite(value), "weights are finite");
    });
}

std::vector<std::string> seeds() {
    std::vector<std::string> files;
    for (const unsigned choice : {0U, mend, muon, mend | muon})
        for (const int steps : {0, 1, 3})
            files.push_back(
                checkpoint((choice & muon) != 0 ? OptimiserKind::muon : OptimiserKind::adamw,
                           steps) +
                static_cast<char>(choice));
    return files;
}

}  // namespace

const Target target{take, seeds, 1 << 20};

}  // namespace hydralm::fuzz
