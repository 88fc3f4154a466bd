// What this machine can do, measured in this process: the denominators of every fraction a
// benchmark reports.
//
// Clock and neighbours change from run to run, so a speed is quoted as a fraction of the peak
// measured beside it. Both functions take the best of several short runs, on threads of their own
// that share the work as those of parallel_for do, and remember it for the rest of the process.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <fstream>
#include <limits>
#include <map>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/random.hpp"
#include "hydralm/simd/batch.hpp"

namespace hydralm::benchmarks {

// What is done to memory: reading alone, or reading and writing back.
enum class Traffic { read, update };

namespace detail {

// Seconds of the best of several runs of body(task) for all tasks, each claimed by the next free
// thread: from a common start to the last one's end.
template <class F>
double best_seconds(int threads, Index tasks, const F& body, int runs = 50) {
    using Clock = std::chrono::steady_clock;
    double best = std::numeric_limits<double>::infinity();
    for (int run = 0; run < runs; ++run) {
        std::atomic<int> waiting{threads};
        std::atomic<Index> next{0};
        std::vector<Clock::time_point> begin(static_cast<std::size_t>(threads)), end(begin);
        const auto member = [&](int thread) {
            const auto t = static_cast<std::size_t>(thread);
            for (waiting.fetch_sub(1); waiting.load() > 0;) std::this_thread::yield();
            begin[t] = Clock::now();
            for (Index task; (task = next.fetch_add(1)) < tasks;) body(task);
            end[t] = Clock::now();
        };
        std::vector<std::thread> crew;
        crew.reserve(static_cast<std::size_t>(threads));
        for (int t = 1; t < threads; ++t) crew.emplace_back(member, t);
        member(0);
        for (auto& thread : crew) thread.join();
        best = std::min(best,
                        std::chrono::duration<double>(*std::max_element(end.begin(), end.end()) -
                                                      *std::min_element(begin.begin(), begin.end()))
                            .count());
    }
    return best;
}

// Independent chains: more than latency × ports of any core (4 cycles × 2), fewer than the
// registers.
inline constexpr int fma_chains = simd::registers >= 32 ? 24 : 12;

template <Real T>
T fma_loop(Index steps, T multiplier, T addend) noexcept {
    using Batch = simd::Batch<T>;
    const Batch a = simd::broadcast(multiplier), b = simd::broadcast(addend);
    return [&]<int... I>(std::integer_sequence<int, I...>) {
        std::array<Batch, sizeof...(I)> chain{
            simd::broadcast(addend * T(I))...};  // unequal, or they become one
        for (Index i = 0; i < steps; ++i) ((chain[I] = simd::fma<T>(chain[I], a, b)), ...);
        Batch total = b;
        ((total = total + chain[I]), ...);
        return simd::reduce_add<T>(total);
    }(std::make_integer_sequence<int, fma_chains>{});
}

// A register tile of a product: half as many rows as chains by two vectors of columns. In each step
// the values of a row of values and two vectors of weights come from the first-level cache.
template <Real T>
T tile_loop(Index steps, const T* values, const T* weights) noexcept {
    using Batch = simd::Batch<T>;
    return [&]<int... R>(std::integer_sequence<int, R...>) {
        std::array<Batch, fma_chains> sums;
        sums.fill(simd::broadcast(T(0)));
        for (Index k = 0; k < steps; ++k, values += sizeof...(R), weights += 2 * simd::lanes<T>) {
            const Batch w0 = simd::load(weights), w1 = simd::load(weights + simd::lanes<T>);
            ((sums[2 * R] = simd::fma<T>(simd::broadcast(values[R]), w0, sums[2 * R]),
              sums[2 * R + 1] = simd::fma<T>(simd::broadcast(values[R]), w1, sums[2 * R + 1])),
             ...);
        }
        Batch total = sums[0];
        ((total = total + (sums[2 * R] + sums[2 * R + 1])), ...);
        return simd::reduce_add<T>(total);
    }(std::make_integer_sequence<int, fma_chains / 2>{});
}

// Keeps a value, so that what computed it is not optimised away.
template <class T>
void keep(T value) {
    const volatile T sink = value;
    (void)sink;
}

// Bytes of the largest cache of the machine; 32 MiB where the system does not say.
inline Index last_level_cache_bytes() {
    Index largest = 0;
    for (int level = 0; level < 8; ++level) {
        std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(level) +
                           "/size");
        Index size = 0;
        char unit = ' ';
        if (!(file >> size)) continue;
        file >> unit;
        largest = std::max(largest, size << (unit == 'K'   ? 10
                                             : unit == 'M' ? 20
                                             : unit == 'G' ? 30
                                                           : 0));
    }
    return largest > 0 ? largest : Index{32} << 20;
}

// Goes over n floats, n a multiple of 128, as four contiguous streams side by side: the prefetchers
// follow several, and one alone does not fill the memory channels. Reading sums them; updating
// changes their signs.
template <Traffic traffic>
float stream(float* p, Index n) noexcept {
    using Batch = simd::Batch<float>;
    constexpr Index streams = 4, width = simd::lanes<float>;
    return [&]<int... I>(std::integer_sequence<int, I...>) {
        std::array<Batch, sizeof...(I)> part{((void)I, simd::broadcast(0.0F))...};
        for (Index i = 0; i < n / streams; i += 2 * width) {
            const auto at = [&](int s) { return p + s / 2 * (n / streams) + i + s % 2 * width; };
            if constexpr (traffic == Traffic::read) ((part[I] = part[I] + simd::load(at(I))), ...);
            else (simd::store(at(I), -simd::load(at(I))), ...);
        }
        Batch total = part[0];
        ((total = total + part[I]), ...);
        return simd::reduce_add<float>(total);
    }(std::make_integer_sequence<int, 2 * streams>{});
}

}  // namespace detail

// FLOP/s of independent multiply-adds in registers on that many threads (a multiply-add counts 2,
// fused or not).
template <Real T>
double measured_fma_peak(int threads) {
    static std::map<int, double> known;
    if (const auto found = known.find(threads); found != known.end()) return found->second;
    constexpr Index steps = 50'000;
    const Index tasks = 8 * threads;
    volatile T multiplier = T(0.5), addend = T(1);
    const double seconds = detail::best_seconds(threads, tasks, [&](Index) {
        detail::keep(detail::fma_loop<T>(steps, multiplier, addend));
    });
    const double flop =
        2.0 * static_cast<double>(steps * detail::fma_chains * simd::lanes<T> * tasks);
    return known[threads] = flop / seconds;
}

// The same fed from the first-level cache with random numbers, as a product is: under that load
// some processors lower their clock. The most that a kernel made of products can reach.
template <Real T>
double measured_sustained_peak(int threads) {
    static std::map<int, double> known;
    if (const auto found = known.find(threads); found != known.end()) return found->second;
    constexpr Index steps = 128, rounds = 400, rows = detail::fma_chains / 2;
    constexpr Index columns = 2 * simd::lanes<T>;
    AlignedBuffer<T> values(steps * rows), weights(steps * columns);
    Random random(1);
    for (auto* buffer : {&values, &weights})
        for (T& x : *buffer) x = static_cast<T>(random.uniform(-1, 1));
    const Index tasks = 8 * threads;
    const double seconds = detail::best_seconds(threads, tasks, [&](Index) {
        for (Index round = 0; round < rounds; ++round)
            detail::keep(detail::tile_loop(steps, values.data(), weights.data()));
    });
    return known[threads] =
               2.0 * static_cast<double>(steps * rows * columns * rounds * tasks) / seconds;
}

// Bytes/s, read and written, of going over a buffer of at least so many bytes (1 GiB at most) and
// four times the last-level cache in pieces of 1 MiB. What the cache keeps of it between two runs
// it keeps as well of a kernel's data of that size.
inline double measured_bandwidth(int threads, Traffic traffic = Traffic::read,
                                 Index least_bytes = 0) {
    static std::map<std::tuple<int, Traffic, Index>, double> known;
    const std::tuple key(threads, traffic, least_bytes);
    if (const auto found = known.find(key); found != known.end()) return found->second;
    constexpr Index piece = (Index{1} << 20) / sizeof(float);
    const Index bytes = std::clamp(std::max(4 * detail::last_level_cache_bytes(), least_bytes),
                                   Index{128} << 20, Index{1} << 30);
    AlignedBuffer<float> buffer(bytes / Index{sizeof(float)} / piece * piece);
    const double seconds = detail::best_seconds(threads, buffer.size() / piece, [&](Index task) {
        float* const p = buffer.data() + task * piece;
        detail::keep(traffic == Traffic::read ? detail::stream<Traffic::read>(p, piece)
                                              : detail::stream<Traffic::update>(p, piece));
    });
    const int ways = traffic == Traffic::read ? 1 : 2;
    return known[key] = static_cast<double>(ways * buffer.size()) * sizeof(float) / seconds;
}

}  // namespace hydralm::benchmarks
