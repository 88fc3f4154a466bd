// Attention to the whole past, D = 64, 12 heads in groups of keys: prefill, gradients and decoding,
// against the past, the groups, the page (ChunkSize) and the format of keys and values.
//
// FLOP/s counts 4·D per visible pair (10·D backward), bytes/s the keys and values of a decoded
// token, in the format they are kept in.
#include <benchmark/benchmark.h>

#include "counters.hpp"
#include "hydralm/core/random.hpp"
#include "hydralm/kernels/full_attention/backward.hpp"
#include "hydralm/layers/full_attention.hpp"
#include "hydralm/state/stream_memory.hpp"

namespace {

using namespace hydralm;

constexpr Index D = 64, H = 12;

AlignedBuffer<float> normal(Index n, std::uint64_t seed) {
    Random random(seed);
    AlignedBuffer<float> values(n);
    for (float& x : values) x = static_cast<float>(random.normal());
    return values;
}

// The past of N tokens in groups of keys, in pages of C tokens, and queries of the last ones.
template <Index C>
struct Past {
    using Layer = FullAttention<float, D, C>;
    using Heads = kernels::FullAttentionPast<float, D, C>;
    static constexpr Index bytes = kernels::full_attention_workspace_bytes<float, D, C>();
    Layer layer;
    StreamMemory memory;
    AlignedBuffer<std::byte> scratch;

    Past(Index N, Index groups, BankFormat format)
        : layer({.d_model = H * D, .n_heads = H, .n_kv_heads = groups, .rope_base = 1e4}),
          memory(parts(format), StateFormat::exact),
          scratch(H * bytes) {
        memory.reserve(N);
        const auto rows = normal(2 * D, 1);
        for (Index t = 0; t < N; ++t)
            for (Index g = 0; g < groups; ++g) past(g).put(t, rows.data(), rows.data() + D);
    }
    StateParts parts(BankFormat format) const {
        StateParts made;
        add_state(layer, made, BankPolicy{.format = format});
        return made;
    }
    Heads past(Index g) {
        return {memory.banks()[0].pages(0), memory.banks()[0].policy().format, g};
    }
    Arena arena(Index task) { return Arena({scratch.data() + task * bytes, bytes}); }
};

// The N queries that end a past of P tokens; range: threads, P, groups.
template <Index C>
void attend(benchmark::State& state, Index N, BankFormat format) {
    const int threads = static_cast<int>(state.range(0));
    const Index P = state.range(1), G = state.range(2), width = H / G * D;
    set_num_threads(threads);
    Past<C> past(P, G, format);
    const auto q = normal(N * H * D, 2);
    AlignedBuffer<float> out(N * H * D);
    for (auto _ : state)
        parallel_for(G, [&](Index g) {
            Arena arena = past.arena(g);
            kernels::full_attention<D, C, float>({q.data() + g * width, N, width, H * D}, P - N,
                                                 past.past(g),
                                                 {out.data() + g * width, N, width, H * D}, arena);
        });
    const double pairs = static_cast<double>(N) * static_cast<double>(2 * P - N + 1) / 2;
    benchmarks::report_flop<float>(state, 4.0 * D * H * pairs, threads);
    if (N == 1)
        benchmarks::report_bytes(
            state, static_cast<double>(P / C * G * typename Past<C>::Heads::Page{}.bytes(format)),
            threads);
}
template <Index C>
void prefill(benchmark::State& state) {
    attend<C>(state, state.range(1), BankFormat::exact);
}
void step(benchmark::State& state, BankFormat format) { attend<64>(state, 1, format); }

void backward(benchmark::State& state) {
    constexpr Index C = 64;
    const Index N = state.range(1), G = state.range(2), heads = H / G, width = heads * D;
    const int threads = static_cast<int>(state.range(0));
    set_num_threads(threads);
    Past<C> past(N, G, BankFormat::exact), gradients(N, G, BankFormat::exact);
    const auto q = normal(N * H * D, 2), dout = normal(N * H * D, 3);
    AlignedBuffer<float> out(N * H * D), dq(N * H * D), log_sum_exp(N * H);
    constexpr Index bytes = kernels::full_attention_backward_workspace_bytes<float, D, C>();
    AlignedBuffer<std::byte> scratch(G * bytes);
    const auto view = [&](auto& buffer, Index g) {
        return MatrixView(buffer.data() + g * width, N, width, H * D);
    };
    const auto sums = [&](Index g) {
        return MatrixView<float>(log_sum_exp.data() + g * heads, N, heads, H);
    };
    for (Index g = 0; g < G; ++g) {
        Arena arena = past.arena(g);
        kernels::full_attention<D, C, float>(view(q, g), 0, past.past(g), view(out, g), arena,
                                             sums(g));
    }
    for (auto _ : state)
        parallel_for(G, [&](Index g) {
            Arena arena({scratch.data() + g * bytes, bytes});
            kernels::full_attention_backward<D, C, float>(view(q, g), 0, past.past(g), view(out, g),
                                                          sums(g), view(dout, g), view(dq, g),
                                                          gradients.past(g), arena);
        });
    const double pairs = static_cast<double>(N) * static_cast<double>(N + 1) / 2;
    benchmarks::report_flop<float>(state, 10.0 * D * H * pairs, threads);
}

void prefills(benchmark::internal::Benchmark* b) {
    for (const Index threads : {1, 2}) b->Args({threads, 2048, 4});
    b->UseRealTime()->Unit(benchmark::kMillisecond);
}
void steps(benchmark::internal::Benchmark* b) {
    for (const Index past : {4096, 65536}) b->Args({1, past, 4});
    b->Args({2, 65536, 4})->UseRealTime()->Unit(benchmark::kMicrosecond);
}
BENCHMARK(prefill<64>)->Apply(prefills)->Args({1, 2048, 12})->Args({1, 2048, 1});
BENCHMARK(prefill<16>)->Args({1, 2048, 4})->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(prefill<32>)->Args({1, 2048, 4})->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(prefill<128>)->Args({1, 2048, 4})->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(backward)->Apply(prefills);
BENCHMARK_CAPTURE(step, exact, BankFormat::exact)->Apply(steps);
BENCHMARK_CAPTURE(step, bf16, BankFormat::bf16)->Apply(steps);
BENCHMARK_CAPTURE(step, int8, BankFormat::int8)->Apply(steps);

}  // namespace

BENCHMARK_MAIN();
