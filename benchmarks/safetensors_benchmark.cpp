// Reading and writing a checkpoint of 32 Mi elements as float, the file in the page cache: opening,
// mapping, faulting and converting are all counted.
//
// bytes/s counts the bytes of the file and those of the floats. memcpy is the same traffic from
// memory already mapped. Argument: threads.
#include <benchmark/benchmark.h>

#include <filesystem>

#include "counters.hpp"
#include "hydralm/core/random.hpp"
#include "hydralm/io/safetensors_writer.hpp"

namespace {

using namespace hydralm;

constexpr Index rows = 4096, cols = 8192;

const AlignedBuffer<float>& values() {
    static const AlignedBuffer<float> buffer = [] {
        AlignedBuffer<float> random_floats(rows * cols);
        Random random(1);
        for (float& x : random_floats) x = static_cast<float>(random.uniform(-1, 1));
        return random_floats;
    }();
    return buffer;
}

std::filesystem::path path_of(DType dtype) {
    return std::filesystem::temp_directory_path() /
           ("hydralm-benchmark-" + std::string(name(dtype)));
}

void write_checkpoint(DType dtype) {
    SafetensorsWriter writer(path_of(dtype), {{"w", {rows, cols}, dtype}});
    writer.write("w", values().span());
    writer.commit();
}

void report(benchmark::State& state, Index bytes, int threads) {
    benchmarks::report_bytes(state, static_cast<double>(bytes), threads,
                             benchmarks::Traffic::update);
}

void read(benchmark::State& state, DType dtype) {
    const auto threads = static_cast<int>(state.range(0));
    set_num_threads(threads);
    write_checkpoint(dtype);
    AlignedBuffer<float> out(rows * cols);
    for (auto _ : state) {
        const SafetensorsFile file(path_of(dtype));
        file.tensor("w").read(out.span());
        benchmark::ClobberMemory();
    }
    std::filesystem::remove(path_of(dtype));
    report(state, rows * cols * (byte_size(dtype) + 4), threads);
}

void write(benchmark::State& state, DType dtype) {
    for (auto _ : state) write_checkpoint(dtype);
    std::filesystem::remove(path_of(dtype));
    report(state, rows * cols * (byte_size(dtype) + 4), 1);
}

void memcpy_of_floats(benchmark::State& state) {
    AlignedBuffer<float> out(rows * cols);
    for (auto _ : state) {
        std::memcpy(out.data(), values().data(),
                    static_cast<std::size_t>(rows * cols) * sizeof(float));
        benchmark::ClobberMemory();
    }
    report(state, rows * cols * 8, 1);
}

BENCHMARK_CAPTURE(read, F32, DType::f32)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK_CAPTURE(read, BF16, DType::bf16)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK_CAPTURE(read, F64, DType::f64)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK_CAPTURE(write, F32, DType::f32)->UseRealTime();
BENCHMARK_CAPTURE(write, BF16, DType::bf16)->UseRealTime();
BENCHMARK(memcpy_of_floats)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
