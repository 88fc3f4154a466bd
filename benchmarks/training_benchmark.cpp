// Training: one whole step (forward, backward, update) at the shape of the published comparison,
// as a fraction of the FMA peak measured in the same process; and the bytes of its tape.
#include <benchmark/benchmark.h>

#include "cost.hpp"
#include "counters.hpp"
#include "hydralm/training.hpp"
#include "random_bytes.hpp"

namespace {

using namespace hydralm;

// d 256, 6 layers, vocabulary 256: 5.2 M parameters.
constexpr HydraConfig config{
    .vocab_size = 256, .d_model = 256, .n_layers = 6, .n_heads = 4, .swa_window = 128};
using Model = HydraLM<config>;
constexpr Index streams = 8, length = 256;

// Forward, and twice that for the gradients; logits of every token.
double flop_of_step() {
    return 3.0 * streams * benchmarks::forward_flop(Model::config, length, length);
}

void train_step(benchmark::State& run, OptimiserKind kind, Keep keep) {
    Model model;
    initialise(model, 1, InitScheme::fan_in);
    TrainerOptions options;
    options.optimiser.kind = kind;
    options.rate = {.peak = 1e-4, .least = 1e-5, .warmup = 0, .total = 1 << 20};
    options.keep = keep;
    Trainer<Model> trainer(model, options);
    benchmarks::RandomBytes source(streams, length);
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
