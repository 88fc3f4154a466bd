// Rotary embedding on one thread, D = 64, H = 12: the table of angles, and turning the heads by it.
//
// FLOP/s of the table counts one complex product per entry in double, also where a sine and a
// cosine are computed (one row, Eigen); bytes/s of turning one read and one write of x and one read
// of the table. The reference computes the angles of every head anew.
#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <cmath>

#include "counters.hpp"
#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/random.hpp"
#include "hydralm/kernels/rotary/rotary.hpp"

namespace {

using namespace hydralm;

constexpr Index D = 64, H = 12, half = D / 2;
constexpr double base = 10000;

struct Table {
    AlignedBuffer<float> storage;
    MatrixView<float> view;

    explicit Table(Index rows) : storage(rows * D), view(storage.data(), rows, D) {}
};

template <class F>
void table(benchmark::State& state, const F& body) {
    Table angles(state.range(0));
    for (auto _ : state) {
        body(angles.view);
        benchmark::ClobberMemory();
    }
    benchmarks::report_flop<double>(state, 6.0 * half * static_cast<double>(state.range(0)));
}

void rotary_table(benchmark::State& state) {
    table(state, [](auto angles) { kernels::rotary_table<D>(12'345, base, angles); });
}
void rotary_table_eigen(benchmark::State& state) {
    using Array = Eigen::Array<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    table(state, [](auto angles) {
        const Index rows = angles.rows();
        const auto position = Eigen::ArrayXd::LinSpaced(rows, 12'345, 12'344.0 + double(rows));
        const auto pair = Eigen::ArrayXd::LinSpaced(half, 0, half - 1);
        const Eigen::RowVectorXd frequency =
            (pair * (-2.0 / D * std::log(base))).exp().matrix().transpose();
        const Array angle = (position.matrix() * frequency).array();
        angles.middle_cols(0, half).eigen() = angle.cos().matrix().template cast<float>();
        angles.middle_cols(half, half).eigen() = angle.sin().matrix().template cast<float>();
    });
}

template <class F>
void apply(benchmark::State& state, const F& body) {
    const Index N = state.range(0);
    AlignedBuffer<float> x(N * H * D);
    Random random(1);
    for (float& v : x) v = static_cast<float>(random.normal());
    Table angles(N);
    kernels::rotary_table<D>(0, base, angles.view);
    for (auto _ : state) {
        body(MatrixView<float>(x.data(), N, H * D), angles.view);
        benchmark::ClobberMemory();
    }
    benchmarks::report_bytes(state, sizeof(float) * static_cast<double>(N * (2 * H * D + D)), 1,
                             benchmarks::Traffic::update);
}

void rotary_apply(benchmark::State& state) {
    apply(state, [](auto x, auto angles) { kernels::rotary_apply<D>(x, angles); });
}
void rotary_apply_reference(benchmark::State& state) {
    apply(state, [](auto x, auto) { kernels::rotary_reference<float>(x, D, 0, base); });
}
void rotary_apply_eigen(benchmark::State& state) {
    using Row = Eigen::Array<float, 1, half>;
    apply(state, [](auto x, auto angles) {
        for (Index n = 0; n < x.rows(); ++n) {
            const Eigen::Map<const Row> c(angles.row(n)), s(angles.row(n) + half);
            for (Index h = 0; h < H; ++h) {
                Eigen::Map<Row> a(x.row(n) + h * D), b(x.row(n) + h * D + half);
                const Row turned = a * c - b * s;
                b = b * c + a * s;
                a = turned;
            }
        }
    });
}

}  // namespace

BENCHMARK(rotary_table)->Arg(1)->Arg(2048)->UseRealTime();
BENCHMARK(rotary_table_eigen)->Arg(2048)->UseRealTime();
BENCHMARK(rotary_apply)->Arg(256)->Arg(2048)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK(rotary_apply_reference)->Arg(256)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK(rotary_apply_eigen)->Arg(256)->Arg(2048)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK_MAIN();
