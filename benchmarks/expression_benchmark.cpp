// Expressions on one thread, beside the loop written by hand and Eigen: silu(g)·u, axpy with decay,
// AdamW, RMS norm, softmax, logarithm of a sum of exponentials. By hand: what a careful author
// writes with simd/, whole batches only; softmax and the logarithm are the library's kernels, for
// they keep bounds that a plain loop does not.
#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <cmath>
#include <span>

#include "counters.hpp"
#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/random.hpp"
#include "hydralm/kernels/softmax/softmax.hpp"

namespace {

using namespace hydralm;

constexpr Index lanes = simd::lanes<float>;
using Batch = simd::Batch<float>;

struct Row {
    AlignedBuffer<float> storage;

    explicit Row(Index n) : storage(n) {
        Random random(1);
        for (float& v : storage) v = static_cast<float>(std::abs(random.normal()));
    }
    float* p() { return storage.data(); }
    RowView<float> view() { return {storage.data(), storage.size()}; }
    auto array() { return Eigen::Map<Eigen::ArrayXf>(storage.data(), storage.size()); }
};

// arrays: how many arrays of n floats body reads or writes.
template <class F>
void run(benchmark::State& state, Index arrays, const F& body) {
    for (auto _ : state) {
        body();
        benchmark::ClobberMemory();
    }
    benchmarks::report_bytes(state, static_cast<double>(arrays * state.range(0)) * sizeof(float), 1,
                             arrays == 1 ? benchmarks::Traffic::read : benchmarks::Traffic::update);
}
template <class F>
void by_batches(Index n, const F& body) {
    for (Index i = 0; i + lanes <= n; i += lanes) body(i);
}

void silu_expression(benchmark::State& state) {
    Row y(state.range(0)), g(state.range(0)), u(state.range(0));
    run(state, 3, [&] { out(y.view()) = silu(g.view()) * u.view(); });
}
void silu_by_hand(benchmark::State& state) {
    Row y(state.range(0)), g(state.range(0)), u(state.range(0));
    run(state, 3, [&] {
        by_batches(state.range(0), [&](Index i) {
            simd::store(y.p() + i, simd::silu(simd::load(g.p() + i)) * simd::load(u.p() + i));
        });
    });
}
void silu_eigen(benchmark::State& state) {
    Row y(state.range(0)), g(state.range(0)), u(state.range(0));
    run(state, 3, [&] { y.array() = g.array() / (1 + (-g.array()).exp()) * u.array(); });
}

void decay_expression(benchmark::State& state) {
    Row w(state.range(0)), g(state.range(0));
    run(state, 3, [&] { out(w.view()) = 0.999 * w.view() - 1e-3 * g.view(); });
}
void decay_by_hand(benchmark::State& state) {
    Row w(state.range(0)), g(state.range(0));
    const Batch keep(0.999F), rate(1e-3F);
    run(state, 3, [&] {
        by_batches(state.range(0), [&](Index i) {
            simd::store(w.p() + i, keep * simd::load(w.p() + i) - rate * simd::load(g.p() + i));
        });
    });
}
void decay_eigen(benchmark::State& state) {
    Row w(state.range(0)), g(state.range(0));
    run(state, 3, [&] { w.array() = 0.999F * w.array() - 1e-3F * g.array(); });
}

void adamw_expression(benchmark::State& state) {
    Row m(state.range(0)), v(state.range(0)), w(state.range(0)), g(state.range(0));
    run(state, 7, [&] {
        const auto mean = 0.9 * m.view() + 0.1 * g.view();
        const auto spread = 0.95 * v.view() + 0.05 * square(g.view());
        out(m.view(), v.view(), w.view()) =
            values(mean, spread, 0.9999 * w.view() - 1e-3 * mean / (sqrt(spread) + 1e-8));
    });
}
void adamw_by_hand(benchmark::State& state) {
    Row m(state.range(0)), v(state.range(0)), w(state.range(0)), g(state.range(0));
    const Batch b1(0.9F), c1(0.1F), b2(0.95F), c2(0.05F), keep(0.9999F), rate(1e-3F), eps(1e-8F);
    run(state, 7, [&] {
        by_batches(state.range(0), [&](Index i) {
            const Batch gradient = simd::load(g.p() + i);
            const Batch mean = b1 * simd::load(m.p() + i) + c1 * gradient;
            const Batch spread = b2 * simd::load(v.p() + i) + c2 * (gradient * gradient);
            const Batch next =
                keep * simd::load(w.p() + i) - rate * mean / (simd::sqrt(spread) + eps);
            simd::store(m.p() + i, mean);
            simd::store(v.p() + i, spread);
            simd::store(w.p() + i, next);
        });
    });
}
void adamw_eigen(benchmark::State& state) {
    Row m(state.range(0)), v(state.range(0)), w(state.range(0)), g(state.range(0));
    run(state, 7, [&] {
        m.array() = 0.9F * m.array() + 0.1F * g.array();
        v.array() = 0.95F * v.array() + 0.05F * g.array().square();
        w.array() = 0.9999F * w.array() - 1e-3F * m.array() / (v.array().sqrt() + 1e-8F);
    });
}

void rms_norm_expression(benchmark::State& state) {
    Row y(state.range(0)), x(state.range(0)), w(state.range(0));
    run(state, 3, [&] {
        const float r = 1 / std::sqrt(mean_of_squares(x.view()) + 1e-5F);
        out(y.view()) = x.view() * r * w.view();
    });
}
void rms_norm_by_hand(benchmark::State& state) {
    Row y(state.range(0)), x(state.range(0)), w(state.range(0));
    const Index n = state.range(0);
    run(state, 3, [&] {
        Batch s0(0.0F), s1(0.0F), s2(0.0F), s3(0.0F);
        const auto add = [&](Batch& s, Index i) {
            const Batch v = simd::load(x.p() + i);
            s = s + v * v;
        };
        for (Index i = 0; i + 4 * lanes <= n; i += 4 * lanes) {
            add(s0, i);
            add(s1, i + lanes);
            add(s2, i + 2 * lanes);
            add(s3, i + 3 * lanes);
        }
        const float squares = simd::reduce_add<float>((s0 + s1) + (s2 + s3));
        const Batch r(1 / std::sqrt(squares / static_cast<float>(n) + 1e-5F));
        by_batches(n, [&](Index i) {
            simd::store(y.p() + i, simd::load(x.p() + i) * r * simd::load(w.p() + i));
        });
    });
}
void rms_norm_eigen(benchmark::State& state) {
    Row y(state.range(0)), x(state.range(0)), w(state.range(0));
    run(state, 3, [&] {
        const float r = 1 / std::sqrt(x.array().square().mean() + 1e-5F);
        y.array() = x.array() * r * w.array();
    });
}

void softmax_expression(benchmark::State& state) {
    Row y(state.range(0)), x(state.range(0));
    run(state, 2, [&] {
        const float largest = max(x.view());
        const float total = out(y.view()).assign_and_sum(exp_finite(x.view() - largest));
        out(y.view()) *= 1 / total;
    });
}
void softmax_kernel(benchmark::State& state) {
    Row y(state.range(0)), x(state.range(0));
    const MatrixView<float> to(y.p(), 1, state.range(0)), from(x.p(), 1, state.range(0));
    run(state, 2, [&] { kernels::softmax(from, to); });
}
void softmax_eigen(benchmark::State& state) {
    Row y(state.range(0)), x(state.range(0));
    run(state, 2, [&] {
        y.array() = (x.array() - x.array().maxCoeff()).exp();
        y.array() *= 1 / y.array().sum();
    });
}

void log_sum_exp_expression(benchmark::State& state) {
    Row x(state.range(0));
    run(state, 1, [&] {
        const float largest = max(x.view());
        benchmark::DoNotOptimize(largest + std::log(sum(exp_finite(x.view() - largest))));
    });
}
void log_sum_exp_kernel(benchmark::State& state) {
    Row x(state.range(0));
    run(state, 1, [&] { benchmark::DoNotOptimize(kernels::log_sum_exp<float>(x.storage.span())); });
}
void log_sum_exp_eigen(benchmark::State& state) {
    Row x(state.range(0));
    run(state, 1, [&] {
        const float largest = x.array().maxCoeff();
        benchmark::DoNotOptimize(largest + std::log((x.array() - largest).exp().sum()));
    });
}

[[maybe_unused]] const bool registered = [] {
    const auto add = [](const char* name, void (*body)(benchmark::State&)) {
        benchmark::RegisterBenchmark(name, body)->Arg(256)->Arg(4096);
    };
    add("silu/expression", silu_expression);
    add("silu/by_hand", silu_by_hand);
    add("silu/eigen", silu_eigen);
    add("decay/expression", decay_expression);
    add("decay/by_hand", decay_by_hand);
    add("decay/eigen", decay_eigen);
    add("adamw/expression", adamw_expression);
    add("adamw/by_hand", adamw_by_hand);
    add("adamw/eigen", adamw_eigen);
    add("rms_norm/expression", rms_norm_expression);
    add("rms_norm/by_hand", rms_norm_by_hand);
    add("rms_norm/eigen", rms_norm_eigen);
    add("softmax/expression", softmax_expression);
    add("softmax/kernel", softmax_kernel);
    add("softmax/eigen", softmax_eigen);
    add("log_sum_exp/expression", log_sum_exp_expression);
    add("log_sum_exp/kernel", log_sum_exp_kernel);
    add("log_sum_exp/eigen", log_sum_exp_eigen);
    return true;
}();

}  // namespace

BENCHMARK_MAIN();
