// Retrieval attention, one head: a tile of prefill and a step at the end of N tokens, against N, C
// and k. FLOP: 2 D N/C to route and 4 D C (k + 1) to attend, a token.
#include <benchmark/benchmark.h>
#include <hydralm/core/random.hpp>
#include <hydralm/kernels/retrieval/retrieval.hpp>

#include <vector>

#include "machine_peak.hpp"

namespace {

using namespace hydralm;

template <Index D, Index C>
struct Past {
    using Head = kernels::RetrievalHead<float, D, C>;
    RetrievalBank bank{Head::layout(1)};
    std::vector<float> queries;

    explicit Past(Index N, Index tile) : queries(static_cast<std::size_t>(tile * D)) {
        bank.reserve(0, N + tile);
        const Head head(bank, 0);
        Random random(1);
        std::vector<float> key(D), value(D), scratch(Head::scratch_elements);
        for (Index t = 0; t < N + tile; ++t) {
            for (float& x : key) x = static_cast<float>(random.normal() / std::sqrt(double{D}));
            for (float& x : value) x = static_cast<float>(random.normal());
            head.put(t, key.data(), value.data(), 0.5F);
            if ((t + 1) % C == 0) head.summarise(t / C, scratch.data());
        }
        for (float& x : queries) x = static_cast<float>(random.normal());
    }
};

// tile queries behind N tokens.
template <Index D, Index C>
void retrieval(benchmark::State& run, Index tile) {
    const Index N = run.range(0), k = run.range(1);
    static thread_local Past<D, C> past(Index{1} << 17, 256);
    const typename Past<D, C>::Head head(past.bank, 0);
    const MatrixView<const float> q(past.queries.data(), tile, D);
    std::vector<float> out(static_cast<std::size_t>(tile * D));
    using Selection = kernels::RetrievalSelection<float>;
    AlignedBuffer<std::byte> memory(
        Selection::bytes(tile, k) + kernels::retrieval_route_workspace_bytes<float, D>() +
        kernels::retrieval_attend_workspace_bytes<float, D, C>(tile, k));
    for (auto _ : run) {
        Arena arena(memory.span());
        const auto selection = Selection::take(arena, tile, k);
        kernels::retrieval_route<D, C, float>(q, N, head, 1.0F, 0.0F, selection, arena);
        kernels::retrieval_attend<D, C, float>(q, N, head, selection, {out.data(), tile, D}, arena);
        benchmark::DoNotOptimize(out.data());
    }
    const double tokens = static_cast<double>(run.iterations()) * static_cast<double>(tile);
    const double flop =
        2.0 * D * static_cast<double>(N) / C + 4.0 * D * C * static_cast<double>(k + 1);
    run.counters["s/token"] = {tokens, benchmark::Counter::kIsRate | benchmark::Counter::kInvert};
    run.counters["FLOP/s"] = {tokens * flop, benchmark::Counter::kIsRate};
    run.counters["fraction_of_peak"] = {tokens * flop / benchmarks::measured_fma_peak<float>(1),
                                        benchmark::Counter::kIsRate};
    run.SetComplexityN(N);
}

template <Index D, Index C>
void prefill(benchmark::State& run) {
    retrieval<D, C>(run, 256);
}
template <Index D, Index C>
void step(benchmark::State& run) {
    retrieval<D, C>(run, 1);
}

void lengths(benchmark::internal::Benchmark* b) {
    for (const Index N : {1 << 11, 1 << 13, 1 << 15, 1 << 17}) b->Args({N, 8});
    b->Complexity(benchmark::oN);
}
void kept(benchmark::internal::Benchmark* b) {
    for (const Index k : {2, 4, 8, 16}) b->Args({1 << 13, k});
}

BENCHMARK(prefill<64, 32>)->Apply(lengths);
BENCHMARK(step<64, 32>)->Apply(lengths);
BENCHMARK(prefill<64, 32>)->Apply(kept);
BENCHMARK(prefill<64, 16>)->Args({1 << 13, 8});
BENCHMARK(prefill<64, 64>)->Args({1 << 13, 8});
BENCHMARK(prefill<64, 128>)->Args({1 << 13, 8});
BENCHMARK(prefill<32, 32>)->Args({1 << 13, 8});
BENCHMARK(prefill<128, 32>)->Args({1 << 13, 8});

}  // namespace

BENCHMARK_MAIN();
