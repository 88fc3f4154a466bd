// kernels/matmul: prefill, batched decoding, decode and the weight gradient, beside Eigen and the
// plain loops.
//
// Arguments: threads, M, in, out. bytes/s counts one read of the weights, as they are kept; where
// they are small they come from cache and of_bandwidth is above 1. The label of a row with weights
// of 8 or 4 bits is the leaf that computes it; its of_peak is of the instructions of that leaf.
#include "hydralm/kernels/matmul/matmul.hpp"

#include <benchmark/benchmark.h>

#include <vector>

#include "byte_dot_peak.hpp"
#include "counters.hpp"
#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/parallel.hpp"
#include "hydralm/core/random.hpp"

using namespace hydralm;

namespace {

template <Real T>
struct Problem {
    explicit Problem(const benchmark::State& state)
        : threads(static_cast<int>(state.range(0))),
          rows(state.range(1)),
          in(state.range(2)),
          out(state.range(3)),
          x(rows * in),
          w(out * in),
          y(rows * out) {
        set_num_threads(threads);
        Eigen::setNbThreads(threads);
        Random random(1);
        for (auto* buffer : {&x, &w, &y})
            for (auto& v : *buffer) v = static_cast<T>(random.uniform(-1, 1));
    }
    double operations() const {
        return 2.0 * static_cast<double>(rows) * static_cast<double>(in) * static_cast<double>(out);
    }
    template <class F>
    void time(benchmark::State& state, const F& f) const {
        f();
        for (auto _ : state) {
            f();
            benchmark::ClobberMemory();
        }
    }
    // Times f and reports it as this problem.
    template <class F>
    void measure(benchmark::State& state, const F& f) const {
        time(state, f);
        benchmarks::report_flop<T>(state, operations(), threads);
        benchmarks::report_bytes(
            state, static_cast<double>(in) * static_cast<double>(out) * sizeof(T), threads);
    }
    MatrixView<const T> x_view() const { return {x.data(), rows, in}; }
    MatrixView<const T> w_view() const { return {w.data(), out, in}; }
    MatrixView<T> y_view() { return {y.data(), rows, out}; }

    int threads;
    Index rows, in, out;
    AlignedBuffer<T> x, w, y;
};

template <Real T>
void matmul(benchmark::State& state) {
    Problem<T> problem(state);
    AlignedBuffer<T> storage(weights::PackedMatrix<T>::storage_size(problem.out, problem.in));
    const auto packed = weights::PackedMatrix<T>::pack(problem.w_view(), storage.data());
    problem.measure(state, [&] { kernels::matmul(problem.x_view(), packed, problem.y_view()); });
}

void matmul_bf16(benchmark::State& state) {
    Problem<float> problem(state);
    using Weights = weights::Bf16Matrix;
    AlignedBuffer<Weights::Element> storage(Weights::storage_size(problem.out, problem.in));
    const auto packed = Weights::pack(problem.w_view(), storage.data());
    problem.time(state, [&] { kernels::matmul(problem.x_view(), packed, problem.y_view()); });
    benchmarks::report_flop<float>(state, problem.operations(), problem.threads);
    benchmarks::report_bytes(state, static_cast<double>(storage.size() * Index{2}),
                             problem.threads);
}

// Quantising so many weights takes longer than measuring: the same 4096 blocks again and again.
template <class Weights>
AlignedBuffer<std::uint8_t> quantised_weights(const Problem<float>& problem) {
    using Block = typename Weights::Block;
    constexpr Index distinct = 4096;
    std::vector<Block> blocks;
    for (Index i = 0; i < distinct; ++i)
        blocks.push_back(Block::quantise(problem.w.data() + i * weights::block_size, 32));
    const Index count = problem.out * Weights::blocks_of(problem.in);
    for (Index i = distinct; i < count; ++i)
        blocks.push_back(blocks[static_cast<std::size_t>(i * 31 % distinct)]);
    AlignedBuffer<std::uint8_t> storage(Weights::storage_size(problem.out, problem.in));
    Weights::pack_blocks(blocks.data(), problem.out, problem.in, storage.data());
    return storage;
}

// By the leaf of that number in simd::byte_dot_leaves, the fastest first.
template <class Weights, std::size_t leaf_number>
void matmul_quantised(benchmark::State& state) {
    const auto& leaf = simd::byte_dot_leaves[leaf_number];
    if (!leaf.available()) {
        state.SkipWithError("this machine cannot run it");
        return;
    }
    Problem<float> problem(state);
    const auto storage = quantised_weights<Weights>(problem);
    const Weights packed(storage.data(), problem.out, problem.in);
    problem.time(state, [&] {
        kernels::detail::multiply_by(leaf, problem.x_view(), std::array{&packed}, problem.y_view(),
                                     acc);
    });
    state.SetLabel(leaf.name);
    benchmarks::report_operations(state, problem.operations(),
                                  benchmarks::measured_byte_dot_peak(leaf, problem.threads));
    benchmarks::report_bytes(state, static_cast<double>(storage.size()), problem.threads);
}

// out counts both halves, so that the work is that of the row above.
void matmul_swiglu(benchmark::State& state) {
    Problem<float> problem(state);
    const Index h = problem.out / 2;
    using Weights = weights::PackedMatrix<float>;
    AlignedBuffer<float> gate(Weights::storage_size(h, problem.in)),
        up(Weights::storage_size(h, problem.in));
    const auto g = Weights::pack(problem.w_view().middle_rows(0, h), gate.data());
    const auto u = Weights::pack(problem.w_view().middle_rows(h, h), up.data());
    problem.measure(state, [&] {
        kernels::matmul_swiglu(problem.x_view(), g, u, {problem.y.data(), problem.rows, h});
    });
}

void matmul_gradient(benchmark::State& state) {
    Problem<float> problem(state);
    problem.measure(state, [&] {
        kernels::matmul_gradient<float>(problem.y_view(), problem.x_view(),
                                        {problem.w.data(), problem.out, problem.in});
    });
}

void eigen(benchmark::State& state) {
    Problem<float> problem(state);
    auto y = problem.y_view().eigen();
    problem.measure(state, [&] {
        y.noalias() = problem.x_view().eigen() * problem.w_view().eigen().transpose();
    });
}

void reference(benchmark::State& state) {
    Problem<float> problem(state);
    problem.measure(state, [&] {
        kernels::reference::matmul<float>(problem.x_view(), problem.w_view(), problem.y_view());
    });
}

constexpr Index both = 2;

void large_shape(benchmark::internal::Benchmark* b) {
    for (const Index threads : {Index{1}, both}) b->Args({threads, 512, 2048, 8192});
    b->UseRealTime();
}

void prefill_shapes(benchmark::internal::Benchmark* b) {
    for (const Index threads : {Index{1}, both}) {
        b->Args({threads, 512, 2048, 8192});
        for (const Index rows : {64, 128, 256}) b->Args({threads, rows, 512, 1536});
    }
    b->UseRealTime();
}

// Weights of 128 MiB in float: read from memory, not from cache.
void decode_shapes(benchmark::internal::Benchmark* b) {
    for (const Index threads : {Index{1}, both})
        for (const Index rows : {1, 4, 8, 16, 32, 64}) b->Args({threads, rows, 4096, 8192});
    b->UseRealTime();
}

// As many inputs, and so many outputs that weights of 4 bits are four times a cache of 32 MiB.
void few_bits_shapes(benchmark::internal::Benchmark* b) {
    for (const Index threads : {Index{1}, both})
        for (const Index rows : {1, 8}) b->Args({threads, rows, 4096, 65536});
    b->UseRealTime();
}

template <std::size_t leaf_number>
void register_leaf() {
    if constexpr (leaf_number < simd::byte_dot_leaves.size()) {
        const std::string name = simd::byte_dot_leaves[leaf_number].name;
        const auto row = [&](const std::string& what, auto* function, auto* shapes) {
            benchmark::RegisterBenchmark((what + "/" + name).c_str(), function)->Apply(shapes);
        };
        row("prefill/q8", matmul_quantised<weights::Q8Matrix, leaf_number>, large_shape);
        row("prefill/q4", matmul_quantised<weights::Q4Matrix, leaf_number>, large_shape);
        row("decode/q8", matmul_quantised<weights::Q8Matrix, leaf_number>, few_bits_shapes);
        row("decode/q4", matmul_quantised<weights::Q4Matrix, leaf_number>, few_bits_shapes);
        register_leaf<leaf_number + 1>();
    }
}

void gradient_shapes(benchmark::internal::Benchmark* b) {
    for (const Index threads : {Index{1}, both})
        b->Args({threads, 2048, 256, 256})
            ->Args({threads, 2048, 256, 1024})
            ->Args({threads, 512, 2048, 2048});
    b->UseRealTime();
}

}  // namespace

BENCHMARK(matmul<float>)->Name("prefill/float")->Apply(prefill_shapes);
BENCHMARK(matmul_bf16)->Name("prefill/bf16")->Apply(large_shape);
BENCHMARK(matmul<double>)->Name("prefill/double")->Apply(prefill_shapes);
BENCHMARK(matmul_swiglu)->Name("prefill/swiglu")->Apply(prefill_shapes);
BENCHMARK(eigen)->Name("prefill/eigen")->Apply(prefill_shapes);
BENCHMARK(reference)->Name("prefill/reference")->Args({1, 64, 512, 1536})->UseRealTime();
BENCHMARK(matmul<float>)->Name("decode/float")->Apply(decode_shapes);
BENCHMARK(matmul_bf16)->Name("decode/bf16")->Apply(decode_shapes);
BENCHMARK(eigen)->Name("decode/eigen")->Args({1, 1, 4096, 8192})->UseRealTime();
BENCHMARK(reference)->Name("decode/reference")->Args({1, 1, 4096, 8192})->UseRealTime();
BENCHMARK(matmul_gradient)->Name("gradient/float")->Apply(gradient_shapes);

int main(int argc, char** argv) {
    register_leaf<0>();
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
}
