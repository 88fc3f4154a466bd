// The whole model: prefill, decoding of one stream and of a batch, the million-token shape. Each
// with its fraction of what the machine reaches in the same process: FMA peak where arithmetic is
// the limit, memory bandwidth where weights are read.
#include <benchmark/benchmark.h>

#include <vector>

#include "cost.hpp"
#include "counters.hpp"
#include "hydralm/hydralm.hpp"
#include "hydralm/inference/batch_decoder.hpp"
#include "hydralm/inference/score.hpp"

namespace {

using namespace hydralm;

// The shape of the published comparison: 29.5 M parameters.
constexpr HydraConfig medium{.vocab_size = 4096,
                             .d_model = 512,
                             .n_layers = 8,
                             .n_heads = 8,
                             .swa_window = 512,
                             .swa_every = 4};

std::vector<token_id> random_tokens(Index n, int vocab) {
    Random random(1);
    std::vector<token_id> ids(static_cast<std::size_t>(n));
    for (auto& id : ids)
        id = static_cast<token_id>(random.below(static_cast<std::uint64_t>(vocab)));
    return ids;
}

template <class Model>
const Model& initialised() {
    static const Model model = [] {
        Model m;
        initialise(m, 1, InitScheme::fan_in);
        return m;
    }();
    return model;
}

template <class Model>
void prefill(benchmark::State& run) {
    const Model& model = initialised<Model>();
    const auto ids = random_tokens(run.range(0), Model::vocab_size());
    auto state = model.new_state();
    for (auto _ : run) {
        state.reset();
        benchmark::DoNotOptimize(model.prefill(ids, state).data());
    }
    const auto rounds = static_cast<double>(run.iterations());
    run.counters["tokens/s"] = {rounds * static_cast<double>(run.range(0)),
                                benchmark::Counter::kIsRate};
    benchmarks::report_flop<float>(run, benchmarks::forward_flop(Model::config, run.range(0), 1),
                                   num_threads());
    run.SetComplexityN(run.range(0));
}

// B streams, one token each per round; range(0) = B. Bytes: one read of the weights.
template <class Model>
void decode(benchmark::State& run) {
    const Model& model = initialised<Model>();
    BatchDecoder<Model> decoder(model, run.range(0));
    const auto ids = random_tokens(run.range(0), Model::vocab_size());
    for (auto _ : run) benchmark::DoNotOptimize(decoder.step(ids).data());
    const auto rounds = static_cast<double>(run.iterations());
    run.counters["tokens/s"] = {rounds * static_cast<double>(run.range(0)),
                                benchmark::Counter::kIsRate};
    benchmarks::report_bytes(run, static_cast<double>(Model::weight_bytes), num_threads());
}

// Every token scored, as `hydralm stream` does.
template <class Model>
void stream(benchmark::State& run) {
    const Model& model = initialised<Model>();
    const auto ids = random_tokens(run.range(0), Model::vocab_size());
    auto state = model.new_state();
    Scorer<Model> scorer(model);
    for (auto _ : run) scorer.feed(ids, state);
    const auto rounds = static_cast<double>(run.iterations());
    run.counters["tokens/s"] = {rounds * static_cast<double>(run.range(0)),
                                benchmark::Counter::kIsRate};
    benchmarks::report_flop<float>(
        run, benchmarks::forward_flop(Model::config, run.range(0), run.range(0)), num_threads());
}

using Medium = HydraLM<medium>;
using MediumBf16 = HydraLM<medium, float, weights::BF16>;
// Half as many layers, with attention to the whole past where the window was.
using MediumFull = HydraLM<HydraConfig{.vocab_size = 4096,
                                       .d_model = 512,
                                       .n_layers = 4,
                                       .n_heads = 8,
                                       .n_kv_heads = 2,
                                       .layer_types = {LayerType::deltanet, LayerType::deltanet,
                                                       LayerType::deltanet, LayerType::full}}>;
using Tiny = HydraLM<presets::tiny>;

BENCHMARK(prefill<Medium>)
    ->Arg(1024)
    ->Arg(2048)
    ->Arg(4096)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime()
    ->Complexity();
BENCHMARK(prefill<MediumFull>)->Arg(1024)->Arg(4096)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(decode<Medium>)->Arg(1)->Arg(8)->Arg(32)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(decode<MediumBf16>)
    ->Arg(1)
    ->Arg(8)
    ->Arg(32)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(prefill<Tiny>)
    ->RangeMultiplier(4)
    ->Range(1024, 65536)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime()
    ->Complexity();
BENCHMARK(stream<Tiny>)->Arg(65536)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
