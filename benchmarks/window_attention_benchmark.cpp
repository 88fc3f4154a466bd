// Windowed attention, W = 512, D = 64, H = 12: prefill of N = 2048 tokens, and against N;
// gradients; decoding.
//
// FLOP/s counts the useful ones, 4·D per visible pair (10·D backward), bytes/s of a decoded token
// its keys and values.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <vector>

#include "counters.hpp"
#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/parallel.hpp"
#include "hydralm/core/random.hpp"
#include "hydralm/kernels/window_attention/window_attention.hpp"

namespace {

using namespace hydralm;

constexpr Index D = 64, H = 12, W = 512;

AlignedBuffer<float> normal(Index n, std::uint64_t seed) {
    Random random(seed);
    AlignedBuffer<float> values(n);
    for (float& x : values) x = static_cast<float>(random.normal());
    return values;
}

double visible_pairs(Index N) {
    double pairs = 0;
    for (Index t = 0; t < N; ++t) pairs += static_cast<double>(std::min(t + 1, W));
    return pairs;
}

// q, k, v as a layer has them: columns of rows of 3·H·D; keys and values of a head contiguous.
struct Heads {
    Index N;
    AlignedBuffer<float> q = normal(N * H * D, 1), keys = normal(H * N * D, 2),
                         values = normal(H * N * D, 3);
    AlignedBuffer<float> out{N * H * D}, log_sum_exp{H * N};

    explicit Heads(Index tokens) : N(tokens) {}
    MatrixView<const float> q_view(Index h) const { return {q.data() + h * D, N, D, H * D}; }
    MatrixView<const float> key_view(Index h) const { return {keys.data() + h * N * D, N, D}; }
    MatrixView<const float> value_view(Index h) const { return {values.data() + h * N * D, N, D}; }
    MatrixView<float> out_view(Index h) { return {out.data() + h * D, N, D, H * D}; }
};

// In tiles of Tile queries; 0: the default.
template <Index Tile>
void attention_prefill(benchmark::State& state) {
    const int threads = static_cast<int>(state.range(0));
    set_num_threads(threads);
    Heads heads(state.range(1));
    constexpr Index bytes = kernels::window_attention_workspace_bytes<float, D, Tile>();
    AlignedBuffer<std::byte> scratch(H * bytes);
    for (auto _ : state)
        parallel_for(H, [&](Index h) {
            Arena arena({scratch.data() + h * bytes, bytes});
            kernels::window_attention<D, Tile>(heads.q_view(h), heads.key_view(h),
                                               heads.value_view(h), W, 0, heads.out_view(h), arena);
        });
    benchmarks::report_flop<float>(state, 4.0 * D * H * visible_pairs(heads.N), threads);
    state.SetComplexityN(heads.N);
}
BENCHMARK(attention_prefill<0>)
    ->Name("attention_prefill")
    ->Args({1, 2048})
    ->Args({2, 2048})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(attention_prefill<16>)->Args({1, 2048})->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(attention_prefill<32>)->Args({1, 2048})->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(attention_prefill<64>)->Args({1, 2048})->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(attention_prefill<0>)
    ->Name("attention_prefill_complexity")
    ->ArgsProduct({{1}, {2048, 4096, 8192, 16384}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond)
    ->Complexity();

void attention_backward(benchmark::State& state) {
    const int threads = static_cast<int>(state.range(0));
    set_num_threads(threads);
    Heads heads(state.range(1));
    const Index N = heads.N;
    AlignedBuffer<float> dq(N * H * D), dkeys(H * N * D), dvalues(H * N * D);
    const AlignedBuffer<float> dout = normal(N * H * D, 4);
    constexpr Index bytes = kernels::window_attention_backward_workspace_bytes<float, D>();
    AlignedBuffer<std::byte> scratch(H * bytes);
    for (Index h = 0; h < H; ++h) {
        Arena arena({scratch.data(), bytes});
        kernels::window_attention<D>(heads.q_view(h), heads.key_view(h), heads.value_view(h), W, 0,
                                     heads.out_view(h), arena, heads.log_sum_exp.data() + h * N);
    }
    for (auto _ : state)
        parallel_for(H, [&](Index h) {
            Arena arena({scratch.data() + h * bytes, bytes});
            kernels::window_attention_backward<D>(
                heads.q_view(h), heads.key_view(h), heads.value_view(h), W, 0, heads.out_view(h),
                heads.log_sum_exp.data() + h * N,
                MatrixView<const float>(dout.data() + h * D, N, D, H * D),
                MatrixView<float>(dq.data() + h * D, N, D, H * D),
                MatrixView<float>(dkeys.data() + h * N * D, N, D),
                MatrixView<float>(dvalues.data() + h * N * D, N, D), arena);
        });
    benchmarks::report_flop<float>(state, 10.0 * D * H * visible_pairs(heads.N), threads);
}
BENCHMARK(attention_backward)
    ->Args({1, 2048})
    ->Args({2, 2048})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

// What one would write with Eigen: blocks of 64 queries against all the keys they may see, masked.
void attention_prefill_eigen(benchmark::State& state) {
    constexpr Index block = 64;
    using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    Heads heads(state.range(0));
    Matrix s(block, W + block);
    for (auto _ : state)
        for (Index h = 0; h < H; ++h)
            for (Index i = 0; i < heads.N; i += block) {
                const Index first = std::max<Index>(0, i - W + 1), count = i + block - first;
                auto p = s.leftCols(count);
                p.noalias() = heads.q_view(h).middle_rows(i, block).eigen() *
                              heads.key_view(h).middle_rows(first, count).eigen().transpose();
                for (Index r = 0; r < block; ++r) {
                    auto row = p.row(r).array();
                    const Index low = std::max<Index>(0, i + r - W + 1 - first),
                                high = i + r + 1 - first;
                    row.head(low).setConstant(-1e30F);
                    row.tail(count - high).setConstant(-1e30F);
                    row = ((row - row.maxCoeff()) * 0.125F).exp();
                    row /= row.sum();
                }
                heads.out_view(h).middle_rows(i, block).eigen().noalias() =
                    p * heads.value_view(h).middle_rows(first, count).eigen();
            }
    benchmarks::report_flop<float>(state, 4.0 * D * H * visible_pairs(heads.N));
}
BENCHMARK(attention_prefill_eigen)->Arg(2048)->UseRealTime()->Unit(benchmark::kMillisecond);

void attention_prefill_reference(benchmark::State& state) {
    Heads heads(state.range(0));
    for (auto _ : state)
        kernels::window_attention_reference<float>(heads.q_view(0), heads.key_view(0),
                                                   heads.value_view(0), W, heads.out_view(0));
    benchmarks::report_flop<float>(state, 4.0 * D * visible_pairs(heads.N));
}
BENCHMARK(attention_prefill_reference)
    ->Arg(2048)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond)
    ->Iterations(1);

// One token of `streams` streams of H heads: in cache (1), from memory (64).
void attention_step(benchmark::State& state) {
    const int threads = static_cast<int>(state.range(0));
    const Index rings = state.range(1) * H;
    set_num_threads(threads);
    const AlignedBuffer<float> keys = normal(rings * W * D, 1), values = normal(rings * W * D, 2),
                               q = normal(rings * D, 3);
    AlignedBuffer<float> out(rings * D);
    for (auto _ : state)
        parallel_for(rings, [&](Index r) {
            kernels::window_attention_step<D>(
                q.data() + r * D, MatrixView<const float>(keys.data() + r * W * D, W, D),
                MatrixView<const float>(values.data() + r * W * D, W, D), W, out.data() + r * D);
        });
    benchmarks::report_bytes(state, 2.0 * sizeof(float) * static_cast<double>(rings * W * D),
                             threads);
}
BENCHMARK(attention_step)
    ->Args({1, 1})
    ->Args({1, 64})
    ->Args({2, 64})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace

BENCHMARK_MAIN();
