// What this machine can do, measured in this process: the denominators of every fraction a
// benchmark reports.
//
// Clock and neighbours change from run to run, so a speed is quoted as a fraction of the peak
// measured beside it. Both functions take the median of several short runs, on threads of their
// own, and remember it for the rest of the process.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <fstream>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/simd/batch.hpp"

namespace hydralm::benchmarks {

namespace detail {

// Median seconds of several runs of body(thread) on all threads at once, from a common start to the
// last one's end.
template <class F>
double median_seconds(int threads, const F& body, int runs = 9) {
    using Clock = std::chrono::steady_clock;
    std::vector<double> seconds;
    for (int run = 0; run < runs; ++run) {
        std::atomic<int> waiting{threads};
        std::vector<Clock::time_point> begin(static_cast<std::size_t>(threads)), end(begin);
        const auto member = [&](int thread) {
            const auto t = static_cast<std::size_t>(thread);
            for (waiting.fetch_sub(1); waiting.load() > 0;) std::this_thread::yield();
            begin[t] = Clock::now();
            body(thread);
            end[t] = Clock::now();
        };
        std::vector<std::thread> crew;
        crew.reserve(static_cast<std::size_t>(threads));
        for (int t = 1; t < threads; ++t) crew.emplace_back(member, t);
        member(0);
        for (auto& thread : crew) thread.join();
        seconds.push_back(
            std::chrono::duration<double>(*std::max_element(end.begin(), end.end()) -
                                          *std::min_element(begin.begin(), begin.end()))
                .count());
    }
    std::nth_element(seconds.begin(), seconds.begin() + runs / 2, seconds.end());
    return seconds[static_cast<std::size_t>(runs / 2)];
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

// Σ over n floats, n a multiple of 128, read as four contiguous streams side by side: the
// prefetchers follow several, and one alone does not fill the memory channels.
inline float stream_sum(const float* p, Index n) noexcept {
    using Batch = simd::Batch<float>;
    constexpr Index streams = 4, width = simd::lanes<float>;
    return [&]<int... I>(std::integer_sequence<int, I...>) {
        std::array<Batch, sizeof...(I)> part{((void)I, simd::broadcast(0.0F))...};
        for (Index i = 0; i < n / streams; i += 2 * width)
            ((part[I] = part[I] + simd::load(p + I / 2 * (n / streams) + i + I % 2 * width)), ...);
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
    constexpr Index steps = 400'000;
    volatile T multiplier = T(0.5), addend = T(1);
    const double seconds = detail::median_seconds(
        threads, [&](int) { detail::keep(detail::fma_loop<T>(steps, multiplier, addend)); });
    const double flop =
        2.0 * static_cast<double>(steps * detail::fma_chains * simd::lanes<T> * threads);
    return known[threads] = flop / seconds;
}

// Bytes/s of reading a buffer of at least four times the last-level cache, each thread a contiguous
// part of it.
inline double measured_bandwidth(int threads) {
    static std::map<int, double> known;
    if (const auto found = known.find(threads); found != known.end()) return found->second;
    const Index bytes =
        std::clamp(4 * detail::last_level_cache_bytes(), Index{128} << 20, Index{1} << 30);
    const Index part = bytes / (4 * threads) / 1024 * 1024;
    AlignedBuffer<float> buffer(part * threads);
    const double seconds = detail::median_seconds(threads, [&](int thread) {
        detail::keep(detail::stream_sum(buffer.data() + thread * part, part));
    });
    return known[threads] = static_cast<double>(part * threads * 4) / seconds;
}

}  // namespace hydralm::benchmarks
