// Time to choose one token from V logits, by filter. bytes/s counts one read of the logits.
#include "hydralm/inference/sampling.hpp"

#include <benchmark/benchmark.h>

#include "counters.hpp"

namespace {

using namespace hydralm;

void choose(benchmark::State& state, const SamplingOptions& options) {
    const Index V = state.range(0);
    AlignedBuffer<float> logits(V);
    Random random(1);
    for (float& l : logits) l = static_cast<float>(3.0 * random.normal());
    Sampler<float> sampler(V, options);
    for (auto _ : state) benchmark::DoNotOptimize(sampler(logits.span()));
    benchmarks::report_bytes(state, static_cast<double>(V) * sizeof(float));
}

}  // namespace

BENCHMARK_CAPTURE(choose, greedy, {.temperature = 0.0})->Arg(256)->Arg(32000)->UseRealTime();
BENCHMARK_CAPTURE(choose, plain, {})->Arg(256)->Arg(32000)->UseRealTime();
BENCHMARK_CAPTURE(choose, top_k_50, {.top_k = 50})->Arg(256)->Arg(32000)->UseRealTime();
BENCHMARK_CAPTURE(choose, top_p_09, {.top_p = 0.9})->Arg(256)->Arg(32000)->UseRealTime();
BENCHMARK_CAPTURE(choose, min_p_005, {.min_p = 0.05})->Arg(256)->Arg(32000)->UseRealTime();
BENCHMARK_MAIN();
