// The gated delta rule of one head on one thread: prefill, decoding, gradients.
//
// FLOP/s counts 6 D² per token (14 D² backward), bytes/s one read and one write of S; per_token is
// the time per token and head. step cycles through heads so that S comes from the cache a model of
// that many heads leaves it in; where that is none, the states take 128 MiB.
#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <cmath>
#include <vector>

#include "counters.hpp"
#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/random.hpp"
#include "hydralm/kernels/delta_rule/delta_rule.hpp"

namespace {

using namespace hydralm;

// q, k, v of one head as slices of a model's [N, 3I], here of 4 heads.
template <class T, Index D>
struct Head {
    Index N;
    AlignedBuffer<T> qkv, gates, state, out;

    explicit Head(Index tokens)
        : N(tokens), qkv(N * 12 * D), gates(N * 8), state(D * D), out(N * D) {
        Random random(1);
        for (Index t = 0; t < N; ++t) {
            for (Index i = 0; i < 12 * D; ++i)
                qkv[t * 12 * D + i] = static_cast<T>(random.normal() / std::sqrt(D));
            for (Index i = 0; i < 4; ++i)
                gates[t * 8 + i] = static_cast<T>(-0.1 * random.uniform());
            for (Index i = 4; i < 8; ++i) gates[t * 8 + i] = static_cast<T>(random.uniform());
        }
    }
    MatrixView<T, D> part(Index p) { return {qkv.data() + p * 4 * D, N, D, 12 * D}; }
    kernels::GatedDeltaInput<T, D> input() {
        return {part(0), part(1), part(2), {gates.data(), N, 8}, {gates.data() + 4, N, 8}};
    }
    // In the places of input.
    kernels::GatedDeltaGradients<T, D> gradients() {
        return {part(0), part(1), part(2), {gates.data(), N, 8}, {gates.data() + 4, N, 8}};
    }
    MatrixView<T, D> state_view() { return {state.data(), D}; }
    MatrixView<T, D> out_view() { return {out.data(), N}; }
    T decay(Index t) { return input().log_decay[t]; }
    static Index workspace(Index block) {
        return kernels::gated_delta_workspace_bytes<T, D>(block);
    }
    template <Index Chunk>
    static Index backward_workspace() {
        return kernels::gated_delta_backward_workspace_bytes<T, D, Chunk>();
    }
};

// With a decay for every key channel.
template <class T, Index D>
struct ChannelHead : Head<T, D> {
    AlignedBuffer<T> decays;  // of 4 heads

    explicit ChannelHead(Index tokens) : Head<T, D>(tokens), decays(tokens * 4 * D) {
        Random random(2);
        for (T& g : decays) g = static_cast<T>(-0.1 * random.uniform());
    }
    MatrixView<T, D> decay_rows() { return {decays.data(), this->N, D, 4 * D}; }
    kernels::GatedDeltaInput<T, D, D, kernels::ChannelDecay<T, D>> input() {
        const auto head = Head<T, D>::input();
        return {head.q, head.k, head.v, decay_rows(), head.beta};
    }
    kernels::GatedDeltaGradients<T, D, D, kernels::ChannelDecay<T, D>> gradients() {
        const auto head = Head<T, D>::gradients();
        return {head.q, head.k, head.v, decay_rows(), head.beta};
    }
    const T* decay(Index t) { return input().log_decay.row(t); }
    static Index workspace(Index block) {
        return kernels::gated_delta_channel_workspace_bytes<T, D>(block);
    }
    template <Index Chunk>
    static Index backward_workspace() {
        return kernels::gated_delta_channel_backward_workspace_bytes<T, D, Chunk>();
    }
};

template <class T>
void report(benchmark::State& state, Index tokens, double flop_per_token) {
    const auto count = static_cast<double>(tokens);
    state.counters["per_token"] = {
        count, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert};
    benchmarks::report_flop<T>(state, count * flop_per_token);
}

template <class T, Index D, Index Block, template <class, Index> class H = Head>
void prefill(benchmark::State& state) {
    H<T, D> head(state.range(0));
    AlignedBuffer<std::byte> bytes(head.workspace(Block));
    Arena arena(bytes.span());
    for (auto _ : state) {
        kernels::gated_delta_chunkwise<Block>(head.input(), head.state_view(), head.out_view(),
                                              Block, arena);
        benchmark::ClobberMemory();
    }
    report<T>(state, head.N, 6.0 * D * D);
    state.SetComplexityN(head.N);
}

template <class T, Index D>
void prefill_recurrent(benchmark::State& state) {
    Head<T, D> head(state.range(0));
    for (auto _ : state) {
        kernels::gated_delta_recurrent(head.input(), head.state_view(), head.out_view());
        benchmark::ClobberMemory();
    }
    report<T>(state, head.N, 6.0 * D * D);
}

template <class T, Index D>
void prefill_reference(benchmark::State& state) {
    Head<T, D> head(state.range(0));
    for (auto _ : state) {
        kernels::gated_delta_reference(head.input(), head.state_view(), head.out_view());
        benchmark::ClobberMemory();
    }
    report<T>(state, head.N, 6.0 * D * D);
}

// The same recurrence as one would write it with Eigen.
template <class T, Index D>
void prefill_eigen(benchmark::State& state) {
    Head<T, D> head(state.range(0));
    using Vector = Eigen::Matrix<T, 1, D>;
    Eigen::Matrix<T, D, D, Eigen::RowMajor> S;
    S.setZero();
    for (auto _ : state) {
        const auto input = head.input();
        for (Index t = 0; t < head.N; ++t) {
            const Eigen::Map<const Vector> q(input.q.row(t)), k(input.k.row(t)), v(input.v.row(t));
            S *= std::exp(input.log_decay[t]);
            const Vector u = input.beta[t] * (v - k * S);
            S.noalias() += k.transpose() * u;
            Eigen::Map<Vector>(head.out_view().row(t)).noalias() = q * S;
        }
        benchmark::ClobberMemory();
    }
    report<T>(state, head.N, 6.0 * D * D);
}

// One token of each of state.range(0) heads.
template <class T, Index D, template <class, Index> class H = Head>
void step(benchmark::State& state) {
    const Index heads = state.range(0);
    H<T, D> head(heads);
    AlignedBuffer<T> states(heads * D * D);
    const auto input = head.input();
    for (auto _ : state) {
        for (Index h = 0; h < heads; ++h)
            kernels::gated_delta_step<T, D>(
                input.q.row(h), input.k.row(h), input.v.row(h), head.decay(h), input.beta[h],
                MatrixView<T, D>(states.data() + h * D * D, D), head.out_view().row(h));
        benchmark::ClobberMemory();
    }
    report<T>(state, heads, 6.0 * D * D);
    benchmarks::report_bytes(state, static_cast<double>(heads * 2 * D * D) * sizeof(T), 1,
                             benchmarks::Traffic::update);
}

template <class T, Index D, Index Chunk, template <class, Index> class H = Head>
void backward(benchmark::State& state) {
    H<T, D> head(state.range(0)), gradient(state.range(0));
    constexpr Index block = kernels::gated_delta_default_block<T, D>;
    AlignedBuffer<std::byte> bytes(
        std::max(head.workspace(block), head.template backward_workspace<Chunk>()));
    Arena arena(bytes.span());
    AlignedBuffer<T> kept(ceil_div(head.N, Chunk) * D * D);
    kernels::gated_delta_chunkwise<block>(head.input(), head.state_view(), head.out_view(), block,
                                          arena, {kept.data(), Chunk});
    for (auto _ : state) {
        kernels::gated_delta_backward<Chunk>(head.input(), kept.data(),
                                             MatrixView<const T, D>(head.out_view()),
                                             gradient.state_view(), gradient.gradients(), arena);
        benchmark::ClobberMemory();
    }
    report<T>(state, head.N, 14.0 * D * D);
}

}  // namespace

BENCHMARK(prefill<float, 64, 4>)->Arg(4096);
BENCHMARK(prefill<float, 64, 8>)->Arg(4096);
BENCHMARK(prefill<float, 64, 16>)->Arg(4096);
BENCHMARK(prefill<float, 64, 32>)->Arg(4096);
BENCHMARK(prefill<float, 64, 64>)->Arg(4096);
BENCHMARK(prefill<float, 128, 4>)->Arg(4096);
BENCHMARK(prefill<float, 128, 8>)->Arg(4096);
BENCHMARK(prefill<float, 128, 16>)->Arg(4096);
BENCHMARK(prefill<float, 128, 32>)->Arg(4096);
BENCHMARK(prefill<float, 128, 64>)->Arg(4096);
BENCHMARK(prefill<float, 32, 4>)->Arg(4096);
BENCHMARK(prefill<float, 32, 8>)->Arg(4096);
BENCHMARK(prefill<float, 32, 16>)->Arg(4096);
BENCHMARK(prefill<double, 64, 4>)->Arg(4096);
BENCHMARK(prefill<double, 64, 8>)->Arg(4096);
BENCHMARK(prefill<double, 64, 16>)->Arg(4096);
BENCHMARK(prefill<float, 64, 8>)
    ->Name("prefill_complexity<float, 64>")
    ->RangeMultiplier(4)
    ->Range(64, 65536)
    ->Complexity();
BENCHMARK(prefill<float, 64, 8, ChannelHead>)->Arg(4096);
BENCHMARK(prefill<float, 128, 8, ChannelHead>)->Arg(4096);
BENCHMARK(prefill_recurrent<float, 64>)->Arg(4096);
BENCHMARK(prefill_recurrent<float, 128>)->Arg(4096);
BENCHMARK(prefill_reference<float, 64>)->Arg(512);
BENCHMARK(prefill_reference<float, 128>)->Arg(512);
BENCHMARK(prefill_eigen<float, 64>)->Arg(4096);
BENCHMARK(prefill_eigen<float, 128>)->Arg(4096);
BENCHMARK(step<float, 64>)->Arg(1)->Arg(12)->Arg(8192)->UseRealTime();
BENCHMARK(step<float, 128>)->Arg(1)->Arg(12)->Arg(2048)->UseRealTime();
BENCHMARK(step<float, 128, ChannelHead>)->Arg(12)->UseRealTime();
BENCHMARK(backward<float, 64, 16>)->Arg(4096);
BENCHMARK(backward<float, 64, 32>)->Arg(4096);
BENCHMARK(backward<float, 64, 64>)->Arg(4096);
BENCHMARK(backward<float, 128, 32>)->Arg(4096);
BENCHMARK(backward<float, 64, 32, ChannelHead>)->Arg(4096);
BENCHMARK(backward<float, 128, 32, ChannelHead>)->Arg(4096);

BENCHMARK_MAIN();
