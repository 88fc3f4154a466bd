// The counters by which every benchmark reports its speed: what it does a second, the most this
// process measured, and the fraction of it.
#pragma once

#include <benchmark/benchmark.h>

#include "machine_peak.hpp"

namespace hydralm::benchmarks {

// operations: of one iteration. of_peak is what it does a second over peak, where one is known.
inline void report_operations(benchmark::State& run, double operations, double peak,
                              const char* name = "op/s") {
    run.counters[name] = {operations, benchmark::Counter::kIsIterationInvariantRate};
    if (peak == 0) return;
    run.counters["peak"] = peak;
    run.counters["of_peak"] = {operations / peak, benchmark::Counter::kIsIterationInvariantRate};
}

// flop: of one iteration, on that many threads. of_peak is FLOP/s over peak, which registers alone
// reach; of_sustained over what a register tile reaches that is fed from the first-level cache.
template <Real T>
void report_flop(benchmark::State& run, double flop, int threads = 1) {
    report_operations(run, flop, measured_fma_peak<T>(threads), "FLOP/s");
    const double sustained = measured_sustained_peak<T>(threads);
    run.counters["sustained"] = sustained;
    run.counters["of_sustained"] = {flop / sustained,
                                    benchmark::Counter::kIsIterationInvariantRate};
}

// bytes: read and written by one iteration, on that many threads. of_bandwidth is bytes/s over
// bandwidth.
inline void report_bytes(benchmark::State& run, double bytes, int threads = 1,
                         Traffic traffic = Traffic::read) {
    const double bandwidth = measured_bandwidth(threads, traffic);
    run.counters["bytes/s"] = {bytes, benchmark::Counter::kIsIterationInvariantRate};
    run.counters["bandwidth"] = bandwidth;
    run.counters["of_bandwidth"] = {bytes / bandwidth,
                                    benchmark::Counter::kIsIterationInvariantRate};
}

}  // namespace hydralm::benchmarks
