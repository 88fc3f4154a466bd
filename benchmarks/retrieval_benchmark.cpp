// Retrieval attention, one head: a tile of prefill and a step at the end of N tokens, against N, C,
// k and the bank's policy. FLOP a token: 4 D C (k + 1) to attend, and to route 2 D a chunk (N/C),
// in two levels 2 D a group and 128 D (g + ½) in the open ones, g of them. In a bounded bank chunks
// are read as they are in proportion to how many of them there are. Bytes: what a token reads of
// the bank; queries are random, so those of a tile share the summaries, 32 of them at a time, and
// their own chunk, and are counted as if they shared none of the chunks they choose.
#include <benchmark/benchmark.h>
#include <hydralm/core/random.hpp>
#include <hydralm/kernels/retrieval/retrieval.hpp>
#include <hydralm/layers/retrieval_pages.hpp>
#include <hydralm/state/mapped_pages.hpp>

#include <filesystem>
#include <vector>

#include "counters.hpp"

namespace {

using namespace hydralm;

template <Index D, Index C>
struct Past {
    using Head = kernels::RetrievalHead<float, D, C>;
    PageBank bank;
    std::vector<float> queries;

    Past(Index N, Index tile, const BankPolicy& policy)
        : bank(retrieval_layout<Head>(1, 8), policy), queries(static_cast<std::size_t>(tile * D)) {
        Random random(1);
        std::vector<float> key(D), value(D), scratch(Head::scratch_elements);
        for (Index t = 0; t < N + tile; ++t) {
            if (t % tile == 0) bank.reserve(t, t + tile);
            for (float& x : key) x = static_cast<float>(random.normal() / std::sqrt(double{D}));
            for (float& x : value) x = static_cast<float>(random.normal());
            const Head head(retrieval_past(bank), 0);
            head.put(t, key.data(), value.data(), 0.5F);
            if ((t + 1) % C == 0) head.summarise(t / C, scratch.data());
        }
        for (float& x : queries) x = static_cast<float>(random.normal());
    }
};

// tile queries behind N tokens.
template <Index D, Index C>
void retrieval(benchmark::State& run, Index tile, Past<D, C>& past) {
    const Index N = run.range(0), k = run.range(1);
    const typename Past<D, C>::Head head(retrieval_past(past.bank), 0);
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
    const auto tokens = static_cast<double>(tile);
    const BankPolicy& policy = past.bank.policy();
    double scored = static_cast<double>(N) / C, chosen = static_cast<double>(k);  // read whole
    if (policy.bounded()) {
        scored = static_cast<double>(policy.exact_chunks + policy.pooled_chunks);
        chosen *= static_cast<double>(policy.exact_chunks) / scored;
    } else if (policy.open_groups > 0) {
        scored = scored / 64 + 64 * (static_cast<double>(policy.open_groups) + 0.5);
    }
    const double chunk = static_cast<double>(Past<D, C>::Head::chunk_bytes(policy.format)),
                 summaries = sizeof(float) * D * scored,
                 bytes =
                     tile == 1 ? summaries + chunk * (chosen + 1) : summaries / 32 + chunk * chosen,
                 flop = 2.0 * D * scored + 4.0 * D * C * (chosen + 1);
    run.counters["s/token"] = {
        tokens, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert};
    benchmarks::report_flop<float>(run, tokens * flop);
    benchmarks::report_bytes(run, tokens * bytes);
    run.SetComplexityN(N);
}

constexpr Index longest = Index{1} << 17;

template <Index D, Index C>
void prefill(benchmark::State& run) {
    static Past<D, C> past(longest, 256, {});
    retrieval<D, C>(run, 256, past);
}
template <Index D, Index C>
void step(benchmark::State& run) {
    static Past<D, C> past(longest, 256, {});
    retrieval<D, C>(run, 1, past);
}
const BankPolicy mapped_file{}, bf16{.format = BankFormat::bf16}, int8{.format = BankFormat::int8},
    two_levels{.open_groups = 4}, bounded{.exact_chunks = 256, .pooled_chunks = 1024};

// D = 64, C = 32, banks kept otherwise.
void bank(benchmark::State& run, Index tile, BankPolicy policy, bool mapped) {
    if (mapped)
        policy.pages =
            std::make_shared<MappedPages>(std::filesystem::temp_directory_path(), Index{256} << 20);
    Past<64, 32> past(run.range(0), 256, policy);
    retrieval<64, 32>(run, tile, past);
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

void of_banks(benchmark::internal::Benchmark* b) { b->Args({longest, 8}); }
BENCHMARK_CAPTURE(bank, prefill_mapped, 256, mapped_file, true)->Apply(of_banks);
BENCHMARK_CAPTURE(bank, step_mapped, 1, mapped_file, true)->Apply(of_banks);
BENCHMARK_CAPTURE(bank, prefill_bf16, 256, bf16, false)->Apply(of_banks);
BENCHMARK_CAPTURE(bank, step_bf16, 1, bf16, false)->Apply(of_banks);
BENCHMARK_CAPTURE(bank, prefill_int8, 256, int8, false)->Apply(of_banks);
BENCHMARK_CAPTURE(bank, step_int8, 1, int8, false)->Apply(of_banks);
BENCHMARK_CAPTURE(bank, prefill_two_levels, 256, two_levels, false)->Apply(of_banks);
BENCHMARK_CAPTURE(bank, step_two_levels, 1, two_levels, false)->Apply(of_banks);
BENCHMARK_CAPTURE(bank, prefill_bounded, 256, bounded, false)->Apply(of_banks);
BENCHMARK_CAPTURE(bank, step_bounded, 1, bounded, false)->Apply(of_banks);

}  // namespace

BENCHMARK_MAIN();
