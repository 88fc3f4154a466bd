// FactBank: facts written and recalled per second.
//
// FLOP/s counts 4·KeyDim·ValueDim a written fact, 2·KeyDim·ValueDim a recalled one. Argument: facts
// in one call; 1 is bound by reading and writing S. write_eigen is the rule one by one on an Eigen
// matrix.
#include <benchmark/benchmark.h>

#include <Eigen/Core>

#include "counters.hpp"
#include "hydralm/core/random.hpp"
#include "hydralm/memory/fact_bank.hpp"

namespace {

using namespace hydralm;

template <class T, Index KeyDim, Index ValueDim>
struct Facts {
    AlignedBuffer<T> key_data, value_data;
    MatrixView<T> keys, values;

    explicit Facts(Index N)
        : key_data(N * KeyDim),
          value_data(N * ValueDim),
          keys(key_data.data(), N, KeyDim),
          values(value_data.data(), N, ValueDim) {
        Random random(1);
        for (T& x : key_data) x = static_cast<T>(random.normal());
        for (T& x : value_data) x = static_cast<T>(random.normal());
    }
};

template <class T>
void report(benchmark::State& state, double flop_per_fact) {
    const auto facts = static_cast<double>(state.range(0));
    state.counters["facts/s"] = {facts, benchmark::Counter::kIsIterationInvariantRate};
    benchmarks::report_flop<T>(state, facts * flop_per_fact, num_threads());
}

template <class T, Index KeyDim, Index ValueDim, int Threads>
void write(benchmark::State& state) {
    set_num_threads(Threads);
    Facts<T, KeyDim, ValueDim> facts(state.range(0));
    FactBank<T, KeyDim, ValueDim> bank;
    for (auto _ : state) {
        bank.write(facts.keys, facts.values, T(0.999));
        benchmark::ClobberMemory();
    }
    report<T>(state, 4.0 * KeyDim * ValueDim);
}

template <class T, Index KeyDim, Index ValueDim, int Threads>
void recall(benchmark::State& state) {
    set_num_threads(Threads);
    Facts<T, KeyDim, ValueDim> facts(state.range(0));
    FactBank<T, KeyDim, ValueDim> bank;
    bank.write(facts.keys, facts.values);
    for (auto _ : state) {
        bank.recall(facts.keys, facts.values);
        benchmark::ClobberMemory();
    }
    report<T>(state, 2.0 * KeyDim * ValueDim);
}

template <class T, Index KeyDim, Index ValueDim>
void write_eigen(benchmark::State& state) {
    set_num_threads(1);
    using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
    using Vector = Eigen::Vector<T, Eigen::Dynamic>;
    Facts<T, KeyDim, ValueDim> facts(state.range(0));
    Matrix S = Matrix::Zero(ValueDim, KeyDim);
    Vector key(KeyDim), write(ValueDim);
    for (auto _ : state) {
        for (Index n = 0; n < state.range(0); ++n) {
            key = facts.keys.eigen().row(n).transpose().normalized();
            write = facts.values.eigen().row(n).transpose();
            write.noalias() -= S * key;
            S.noalias() += write * key.transpose();
        }
        benchmark::ClobberMemory();
    }
    report<T>(state, 4.0 * KeyDim * ValueDim);
}

BENCHMARK(write<float, 1024, 1024, 1>)->Arg(1)->Arg(64)->Arg(1024)->UseRealTime();
BENCHMARK(write<float, 1024, 1024, 2>)->Arg(1024)->UseRealTime();
BENCHMARK(write<double, 1024, 1024, 1>)->Arg(1024)->UseRealTime();
BENCHMARK(write<float, 128, 128, 1>)->Arg(1)->Arg(1024)->UseRealTime();
BENCHMARK(write_eigen<float, 1024, 1024>)->Arg(64)->UseRealTime();
BENCHMARK(recall<float, 1024, 1024, 1>)->Arg(1)->Arg(1024)->UseRealTime();
BENCHMARK(recall<float, 1024, 1024, 2>)->Arg(1024)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
