// The short convolution on one thread, K = 4, SiLU fused: prefill of 512 tokens, decoding of 8
// streams, gradients.
//
// bytes/s counts one read of x and one write of y; of the gradients, reads of x and dy and a write
// of dx. They lie in the caches, as they do between matmuls: of_bandwidth, over that of memory, may
// be above 1.
#include "hydralm/kernels/short_conv/short_conv.hpp"

#include <benchmark/benchmark.h>

#include <Eigen/Core>

#include "counters.hpp"
#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/random.hpp"

namespace {

using namespace hydralm;

constexpr Index taps = 4;
const auto activation = [](auto z) { return simd::silu(z); };

struct Data {
    Index N, C;
    AlignedBuffer<float> x, y, weight, bias, cache;

    Data(Index tokens, Index channels)
        : N(tokens),
          C(channels),
          x(N * C),
          y(N * C),
          weight(taps * C),
          bias(C),
          cache((taps - 1) * C) {
        Random random(1);
        for (float& v : x) v = static_cast<float>(random.normal());
        for (float& v : weight) v = static_cast<float>(random.normal());
    }
    MatrixView<const float> x_view() const { return {x.data(), N, C}; }
    MatrixView<const float> weight_view() const { return {weight.data(), taps, C}; }
    MatrixView<float> y_view() { return {y.data(), N, C}; }
    MatrixView<float> cache_view() { return {cache.data(), taps - 1, C}; }
};

// arrays: how many of so many elements are read or written.
void report(benchmark::State& state, Index elements, int arrays = 2) {
    benchmarks::report_bytes(state, static_cast<double>(elements * arrays) * sizeof(float), 1,
                             benchmarks::Traffic::update);
}

void prefill(benchmark::State& state) {
    Data d(512, state.range(0));
    for (auto _ : state) {
        kernels::short_conv(d.x_view(), d.weight_view(), d.bias.data(), d.cache_view(), d.y_view(),
                            activation);
        benchmark::ClobberMemory();
    }
    report(state, d.N * d.C);
}

void prefill_of_heads(benchmark::State& state) {  // 64 columns at a time
    Data d(512, state.range(0));
    for (auto _ : state) {
        for (Index c = 0; c < d.C; c += 64)
            kernels::short_conv(d.x_view().middle_cols(c, 64), d.weight_view().middle_cols(c, 64),
                                d.bias.data() + c, d.cache_view().middle_cols(c, 64),
                                d.y_view().middle_cols(c, 64), activation);
        benchmark::ClobberMemory();
    }
    report(state, d.N * d.C);
}

void prefill_reference(benchmark::State& state) {
    Data d(512, state.range(0));
    for (auto _ : state) {
        kernels::short_conv_reference<float>(d.x_view(), d.weight_view(), d.bias.data(),
                                             d.cache_view(), d.y_view(), activation);
        benchmark::ClobberMemory();
    }
    report(state, d.N * d.C);
}

void prefill_eigen(benchmark::State& state) {
    Data d(512, state.range(0));
    for (auto _ : state) {
        const auto x = d.x_view().eigen().array();
        const auto w = d.weight_view().eigen().array();
        auto y = d.y_view().eigen();
        for (Index t = 3; t < d.N; ++t) {
            const auto s = (x.row(t - 3) * w.row(0) + x.row(t - 2) * w.row(1) +
                            x.row(t - 1) * w.row(2) + x.row(t) * w.row(3))
                               .eval();
            y.row(t) = s / (1 + (-s).exp());
        }
        benchmark::ClobberMemory();
    }
    report(state, d.N * d.C);
}

void step(benchmark::State& state) {  // 8 streams
    Data d(8, state.range(0));
    AlignedBuffer<float> caches(8 * (taps - 1) * d.C);
    for (auto _ : state) {
        for (Index stream = 0; stream < 8; ++stream)
            kernels::short_conv(d.x_view().middle_rows(stream, 1), d.weight_view(), d.bias.data(),
                                {caches.data() + stream * (taps - 1) * d.C, taps - 1, d.C},
                                d.y_view().middle_rows(stream, 1), activation);
        benchmark::ClobberMemory();
    }
    report(state, d.N * d.C);
}

void backward(benchmark::State& state) {
    Data d(512, state.range(0)), gradient(512, state.range(0));
    AlignedBuffer<std::byte> bytes(kernels::short_conv_backward_workspace_bytes<float>(taps));
    Arena arena(bytes.span());
    for (auto _ : state) {
        kernels::short_conv_backward(d.x_view(), d.cache_view(), d.weight_view(), d.bias.data(),
                                     d.y_view(), gradient.cache_view(), gradient.y_view(),
                                     MatrixView<float>(gradient.weight.data(), taps, d.C),
                                     gradient.bias.data(), arena,
                                     [](auto s) { return simd::silu_derivative(s); });
        benchmark::ClobberMemory();
    }
    report(state, d.N * d.C, 3);
}

}  // namespace

BENCHMARK(prefill)->Arg(768)->Arg(1536)->UseRealTime();
BENCHMARK(prefill_of_heads)->Arg(768)->Arg(1536)->UseRealTime();
BENCHMARK(prefill_reference)->Arg(1536)->UseRealTime();
BENCHMARK(prefill_eigen)->Arg(1536)->UseRealTime();
BENCHMARK(step)->Arg(1536)->UseRealTime();
BENCHMARK(backward)->Arg(1536)->UseRealTime();

BENCHMARK_MAIN();
