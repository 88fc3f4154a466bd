// A published tokenizer at work, on one thread. bytes/s counts the bytes of the text.
//
// HYDRALM_TOKENIZER names the tokenizer.json, HYDRALM_TEXT a file of text, the more unlike itself
// the better: without them there is nothing to measure.
#include <benchmark/benchmark.h>

#include <cstdlib>

#include "hydralm/io/tokenizer/open_tokenizer.hpp"

namespace {

using namespace hydralm;

// The path that a variable of the environment names; none: the row says so.
const char* path_in(const char* variable, benchmark::State& state) {
    const char* const path = std::getenv(variable);
    if (path == nullptr) state.SkipWithError((std::string(variable) + " names no file").c_str());
    return path;
}

void report(benchmark::State& state, std::size_t bytes) {
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes));
}

void load(benchmark::State& state) {
    const char* const path = path_in("HYDRALM_TOKENIZER", state);
    if (path == nullptr) return;
    for (auto _ : state) benchmark::DoNotOptimize(open_tokenizer(path));
    report(state, MappedFile(path).text().size());
}

template <class F>
void with_text(benchmark::State& state, const F& f) {
    const char *const path = path_in("HYDRALM_TOKENIZER", state), *const text = path_in(
                                                                      "HYDRALM_TEXT", state);
    if (path == nullptr || text == nullptr) return;
    const MappedFile file(text);
    f(open_tokenizer(path), file.text());
    report(state, file.text().size());
}

void encode(benchmark::State& state) {
    with_text(state, [&](const BpeTokenizer& tokenizer, std::string_view text) {
        std::size_t tokens = 0;
        for (auto _ : state) tokens = tokenizer.encode(text).size();
        state.counters["bytes/token"] =
            static_cast<double>(text.size()) / static_cast<double>(tokens);
    });
}

void decode(benchmark::State& state) {
    with_text(state, [&](const BpeTokenizer& tokenizer, std::string_view text) {
        const auto ids = tokenizer.encode(text);
        for (auto _ : state) benchmark::DoNotOptimize(tokenizer.decode(ids));
    });
}

BENCHMARK(load)->Unit(benchmark::kMillisecond);
BENCHMARK(encode)->Unit(benchmark::kMillisecond);
BENCHMARK(decode)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
