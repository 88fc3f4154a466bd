// The kernels of rows on one thread: RMS norm, unit-length heads, SwiGLU, softmax, cross-entropy,
// each way, with references.
//
// bytes/s counts one read of every input and one write of every output. Working sets of 256 rows
// lie in the caches, as they do between matmuls: of_bandwidth, over that of memory, may be above 1.
#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <cmath>
#include <span>
#include <vector>

#include "counters.hpp"
#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/random.hpp"
#include "hydralm/kernels/cross_entropy/cross_entropy.hpp"
#include "hydralm/kernels/rms_norm/rms_norm.hpp"
#include "hydralm/kernels/softmax/softmax.hpp"
#include "hydralm/kernels/swiglu/swiglu.hpp"

namespace {

using namespace hydralm;

constexpr Index N = 256;

template <Real T = float>
struct Matrix {
    AlignedBuffer<T> storage;
    MatrixView<T> view;

    Matrix(Index rows, Index cols) : storage(rows * cols), view(storage.data(), rows, cols) {
        Random random(1);
        for (T& v : storage) v = static_cast<T>(random.normal());
    }
    std::span<T> span() { return storage.span(); }
};

// Runs body; arrays: how many arrays of the given number of elements it reads or writes.
template <Real T = float, class F>
void run(benchmark::State& state, Index arrays, Index elements, const F& body) {
    set_num_threads(1);
    for (auto _ : state) {
        body();
        benchmark::ClobberMemory();
    }
    benchmarks::report_bytes(state, static_cast<double>(arrays * elements) * sizeof(T), 1,
                             arrays == 1 ? benchmarks::Traffic::read : benchmarks::Traffic::update);
}

void rms_norm(benchmark::State& state) {
    Matrix<> x(N, state.range(0)), y(N, state.range(0)), w(1, state.range(0));
    run(state, 2, x.storage.size(), [&] { kernels::rms_norm(x.view, w.span(), 1e-5, y.view); });
}
void rms_norm_reference(benchmark::State& state) {
    Matrix<> x(N, state.range(0)), y(N, state.range(0)), w(1, state.range(0));
    run(state, 2, x.storage.size(),
        [&] { kernels::reference::rms_norm(x.view, w.span(), 1e-5, y.view); });
}
void rms_norm_eigen(benchmark::State& state) {
    Matrix<> x(N, state.range(0)), y(N, state.range(0)), w(1, state.range(0));
    const auto in = x.view.eigen(), weight = w.view.eigen();
    auto out = y.view.eigen();
    run(state, 2, x.storage.size(), [&] {
        for (Index n = 0; n < N; ++n) {
            const float r =
                1.0F / std::sqrt(in.row(n).squaredNorm() / static_cast<float>(in.cols()) + 1e-5F);
            out.row(n) = (in.row(n) * r).cwiseProduct(weight.row(0));
        }
    });
}
void rms_norm_backward(benchmark::State& state) {
    const Index d = state.range(0);
    Matrix<> x(N, d), dy(N, d), dx(N, d), w(1, d), dw(1, d);
    AlignedBuffer<std::byte> bytes(kernels::rms_norm_backward_workspace_bytes<float>(N, d));
    Arena arena(bytes.span());
    run(state, 3, x.storage.size(), [&] {
        kernels::rms_norm_backward(x.view, w.span(), 1e-5, dy.view, dx.view, dw.span(), arena);
    });
}

template <Index D>
void l2_normalize(benchmark::State& state) {
    Matrix<> x(N, 512), norms(N, 512 / D);
    run(state, 2, x.storage.size(), [&] { kernels::l2_normalize<D>(x.view, norms.view); });
}
void l2_normalize_reference(benchmark::State& state) {
    Matrix<> x(N, 512), norms(N, 512 / 64);
    run(state, 2, x.storage.size(),
        [&] { kernels::reference::l2_normalize<float>(64, x.view, norms.view); });
}
void l2_normalize_eigen(benchmark::State& state) {
    Matrix<> x(N, 512);
    MatrixView<float> heads(x.storage.data(), N * 512 / 64, 64);
    auto units = heads.eigen();
    run(state, 2, x.storage.size(), [&] { units.rowwise().normalize(); });
}
template <Index D>
void l2_normalize_backward(benchmark::State& state) {
    Matrix<> y(N, 512), dy(N, 512), dx(N, 512), norms(N, 512 / D);
    run(state, 3, y.storage.size(),
        [&] { kernels::l2_normalize_backward<D>(y.view, norms.view, dy.view, dx.view); });
}

void swiglu(benchmark::State& state) {
    Matrix<> x(N, 2 * state.range(0)), y(N, state.range(0));
    run(state, 3, y.storage.size(), [&] { kernels::swiglu(x.view, y.view); });
}
void swiglu_reference(benchmark::State& state) {
    Matrix<> x(N, 2 * state.range(0)), y(N, state.range(0));
    run(state, 3, y.storage.size(), [&] { kernels::reference::swiglu(x.view, y.view); });
}
void swiglu_eigen(benchmark::State& state) {
    const Index h = state.range(0);
    Matrix<> x(N, 2 * h), y(N, h);
    const auto gate = x.view.middle_cols(0, h).eigen(), up = x.view.middle_cols(h, h).eigen();
    auto out = y.view.eigen();
    run(state, 3, y.storage.size(),
        [&] { out = (gate.array() / (1 + (-gate.array()).exp()) * up.array()).matrix(); });
}
void swiglu_backward(benchmark::State& state) {
    Matrix<> x(N, 2 * state.range(0)), dy(N, state.range(0)), dx(N, 2 * state.range(0));
    run(state, 5, dy.storage.size(), [&] { kernels::swiglu_backward(x.view, dy.view, dx.view); });
}

template <Real T>
void softmax(benchmark::State& state) {
    Matrix<T> x(16, state.range(0)), y(16, state.range(0));
    run<T>(state, 2, x.storage.size(), [&] { kernels::softmax(x.view, y.view); });
}
void softmax_reference(benchmark::State& state) {
    Matrix<> x(16, state.range(0)), y(16, state.range(0));
    run(state, 2, x.storage.size(), [&] { kernels::reference::softmax<float>(x.view, y.view); });
}
template <Real T>
void softmax_eigen(benchmark::State& state) {
    Matrix<T> x(16, state.range(0)), y(16, state.range(0));
    const auto in = x.view.eigen();
    auto out = y.view.eigen();
    run<T>(state, 2, x.storage.size(), [&] {
        for (Index n = 0; n < in.rows(); ++n) {
            out.row(n) = (in.row(n).array() - in.row(n).maxCoeff()).exp().matrix();
            out.row(n) *= 1 / out.row(n).sum();
        }
    });
}
template <Real T>
void cross_entropy(benchmark::State& state) {
    Matrix<T> x(16, state.range(0));
    const std::vector<token_id> labels(16, 3);
    std::vector<double> losses(16);
    run<T>(state, 1, x.storage.size(), [&] { kernels::cross_entropy(x.view, labels, losses); });
}
void cross_entropy_reference(benchmark::State& state) {
    Matrix<> x(16, state.range(0));
    const std::vector<token_id> labels(16, 3);
    std::vector<double> losses(16);
    run(state, 1, x.storage.size(),
        [&] { kernels::reference::cross_entropy<float>(x.view, labels, losses); });
}
template <Real T>
void cross_entropy_eigen(benchmark::State& state) {
    Matrix<T> x(16, state.range(0));
    const auto in = x.view.eigen();
    std::vector<double> losses(16);
    run<T>(state, 1, x.storage.size(), [&] {
        for (Index n = 0; n < in.rows(); ++n) {
            const T m = in.row(n).maxCoeff();
            losses[static_cast<std::size_t>(n)] =
                std::log((in.row(n).array() - m).exp().sum()) + m - in(n, 3);
        }
    });
}
template <Real T>
void cross_entropy_backward(benchmark::State& state) {
    Matrix<T> x(16, state.range(0)), dx(16, state.range(0));
    const std::vector<token_id> labels(16, 3);
    std::vector<double> losses(16);
    run<T>(state, 2, x.storage.size(),
           [&] { kernels::cross_entropy_backward(x.view, labels, 0.1, dx.view, losses); });
}
template <Real T>
void cross_entropy_backward_eigen(benchmark::State& state) {
    Matrix<T> x(16, state.range(0)), dx(16, state.range(0));
    const auto in = x.view.eigen();
    auto out = dx.view.eigen();
    std::vector<double> losses(16);
    run<T>(state, 2, x.storage.size(), [&] {
        for (Index n = 0; n < in.rows(); ++n) {
            const T m = in.row(n).maxCoeff();
            out.row(n) = (in.row(n).array() - m).exp().matrix();
            const T sum = out.row(n).sum();
            losses[static_cast<std::size_t>(n)] = std::log(sum) + m - in(n, 3);
            out.row(n) *= T(0.1) / sum;
            out(n, 3) -= T(0.1);
        }
    });
}

}  // namespace

BENCHMARK(rms_norm)->Arg(512)->Arg(2048)->UseRealTime();
BENCHMARK(rms_norm_reference)->Arg(512)->UseRealTime();
BENCHMARK(rms_norm_eigen)->Arg(512)->UseRealTime();
BENCHMARK(rms_norm_backward)->Arg(512)->UseRealTime();
BENCHMARK_TEMPLATE(l2_normalize, 32)->UseRealTime();
BENCHMARK_TEMPLATE(l2_normalize, 64)->UseRealTime();
BENCHMARK_TEMPLATE(l2_normalize, 128)->UseRealTime();
BENCHMARK(l2_normalize_reference)->UseRealTime();
BENCHMARK(l2_normalize_eigen)->UseRealTime();
BENCHMARK_TEMPLATE(l2_normalize_backward, 64)->UseRealTime();
BENCHMARK(swiglu)->Arg(1408)->UseRealTime();
BENCHMARK(swiglu_reference)->Arg(1408)->UseRealTime();
BENCHMARK(swiglu_eigen)->Arg(1408)->UseRealTime();
BENCHMARK(swiglu_backward)->Arg(1408)->UseRealTime();
BENCHMARK_TEMPLATE(softmax, float)->Arg(256)->Arg(32000)->UseRealTime();
BENCHMARK_TEMPLATE(softmax, double)->Arg(256)->Arg(32000)->UseRealTime();
BENCHMARK(softmax_reference)->Arg(32000)->UseRealTime();
BENCHMARK_TEMPLATE(softmax_eigen, float)->Arg(256)->Arg(32000)->UseRealTime();
BENCHMARK_TEMPLATE(softmax_eigen, double)->Arg(256)->Arg(32000)->UseRealTime();
BENCHMARK_TEMPLATE(cross_entropy, float)->Arg(256)->Arg(32000)->UseRealTime();
BENCHMARK_TEMPLATE(cross_entropy, double)->Arg(256)->Arg(32000)->UseRealTime();
BENCHMARK(cross_entropy_reference)->Arg(32000)->UseRealTime();
BENCHMARK_TEMPLATE(cross_entropy_eigen, float)->Arg(256)->Arg(32000)->UseRealTime();
BENCHMARK_TEMPLATE(cross_entropy_eigen, double)->Arg(256)->Arg(32000)->UseRealTime();
BENCHMARK_TEMPLATE(cross_entropy_backward, float)->Arg(256)->Arg(32000)->UseRealTime();
BENCHMARK_TEMPLATE(cross_entropy_backward, double)->Arg(256)->Arg(32000)->UseRealTime();
BENCHMARK_TEMPLATE(cross_entropy_backward_eigen, float)->Arg(256)->Arg(32000)->UseRealTime();
BENCHMARK_TEMPLATE(cross_entropy_backward_eigen, double)->Arg(256)->Arg(32000)->UseRealTime();
BENCHMARK_MAIN();
