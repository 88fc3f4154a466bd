// The whole model: prefill, decoding of one stream and of a batch, the million-token shape. Each
// with its fraction of what the machine reaches in the same process: FMA peak where arithmetic is
// the limit, memory bandwidth where weights are read.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <vector>

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

// FLOP of N tokens from the start of a stream: every matrix once per token (embedding: as the head,
// heads times), 6 D² per delta-rule head, 4 D per visible pair of attention.
template <class Model>
double flop(Index N, Index heads) {
    const auto& c = Model::config;
    double matrices = 0;
    for (const auto& info : Model::parameters)
        if (info.rank == 2 && info.law.role != ParameterRole::embedding)
            matrices += 2.0 * static_cast<double>(info.size());
    double pairs = 0;
    for (Index t = 0; t < N; ++t)
        pairs += static_cast<double>(std::min<Index>(t + 1, c.swa_window));
    const double D = c.head_dim, H = c.n_heads;
    return static_cast<double>(N) *
               (matrices + c.layer_types.count_of(LayerType::deltanet) * H * 6 * D * D) +
           c.layer_types.count_of(LayerType::swa) * H * 4 * D * pairs +
           2.0 * static_cast<double>(heads) * c.vocab_size * c.d_model;
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
    benchmarks::report_flop<float>(run, flop<Model>(run.range(0), 1), num_threads());
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
    benchmarks::report_flop<float>(run, flop<Model>(run.range(0), run.range(0)), num_threads());
}

using Medium = HydraLM<medium>;
using MediumBf16 = HydraLM<medium, float, weights::BF16>;
using Tiny = HydraLM<presets::tiny>;

BENCHMARK(prefill<Medium>)
    ->Arg(1024)
    ->Arg(2048)
    ->Arg(4096)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime()
    ->Complexity();
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
