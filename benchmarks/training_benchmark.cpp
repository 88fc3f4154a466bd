// Training: one whole step (forward, backward, update) at the shape of the published comparison,
// as a fraction of the FMA peak measured in the same process; and the bytes of its tape.
#include <benchmark/benchmark.h>

#include "counters.hpp"
#include "hydralm/training.hpp"

namespace {

using namespace hydralm;

// d 256, 6 layers, vocabulary 256: 5.2 M parameters.
constexpr HydraConfig config{
    .vocab_size = 256, .d_model = 256, .n_layers = 6, .n_heads = 4, .swa_window = 128};
using Model = HydraLM<config>;
constexpr Index streams = 8, length = 256;

// Bytes drawn by a seed: speed does not depend on them.
class RandomBytes : public BatchSource {
public:
    void next(Batch& batch) override {
        batch.streams = streams;
        batch.length = length;
        batch.tokens.resize(static_cast<std::size_t>(streams * length));
        Random random(1, position_++);
        for (token_id& token : batch.tokens) token = static_cast<token_id>(random.below(256));
        batch.labels = batch.tokens;
    }
    std::uint64_t position() const override { return position_; }
    void seek(std::uint64_t position) override { position_ = position; }

private:
    std::uint64_t position_ = 0;
};

// 6 FLOP a parameter and token (the embedding counts as the head), and three times the forward
// FLOP of the mixers: 6 D² a delta-rule head and token, 4 D a visible pair of attention.
double flop_of_step() {
    double pairs = 0;
    for (Index t = 0; t < length; ++t)
        pairs += static_cast<double>(std::min<Index>(t + 1, Model::config.swa_window));
    const double D = Model::config.head_dim, H = Model::config.n_heads;
    const auto& types = Model::config.layer_types;
    const double mixers = types.count_of(LayerType::deltanet) * H * 6 * D * D * length +
                          types.count_of(LayerType::swa) * H * 4 * D * pairs;
    return streams * (6.0 * static_cast<double>(Model::parameter_count) * length + 3.0 * mixers);
}

void train_step(benchmark::State& run, OptimiserKind kind, Keep keep) {
    Model model;
    initialise(model, 1, InitScheme::fan_in);
    TrainerOptions options;
    options.optimiser.kind = kind;
    options.rate = {.peak = 1e-4, .least = 1e-5, .warmup = 0, .total = 1 << 20};
    options.keep = keep;
    Trainer<Model> trainer(model, options);
    RandomBytes source;
    trainer.step(source);  // allocates the tape
    for (auto _ : run) benchmark::DoNotOptimize(trainer.step(source).loss);
    const auto rounds = static_cast<double>(run.iterations());
    run.counters["tokens/s"] = {rounds * streams * length, benchmark::Counter::kIsRate};
    benchmarks::report_flop<float>(run, flop_of_step(), num_threads());
    run.counters["tape_bytes/token"] =
        static_cast<double>(Gradients<Model>::tape_bytes(model, streams, length, keep)) /
        (streams * length);
}

BENCHMARK_CAPTURE(train_step, adamw, OptimiserKind::adamw, Keep::everything)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(train_step, muon, OptimiserKind::muon, Keep::everything)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(train_step, adamw_recompute, OptimiserKind::adamw, Keep::block_inputs)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
