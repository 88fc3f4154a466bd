// Taking drafts back: by the history of a round (Stack::rollback) against copies of the state after
// every token. Timed, on one thread, is what a round costs more because its tokens may be taken
// back.
//
// Arguments: tokens fed in the round, tokens kept of them. held: bytes kept for one round.
//   history       the state of the delta rule before the round, the inputs of its updates, the rows
//                 of windows that were overwritten; the updates kept are done again
//   copies        the state of the delta rule after every token but the last, windows as above
//   whole_copies  the whole state after every token but the last
#include <benchmark/benchmark.h>

#include <cstring>

#include "hydralm/hydralm.hpp"

namespace {

using namespace hydralm;

template <int HeadDim>
constexpr HydraConfig medium{.vocab_size = 256,
                             .d_model = 512,
                             .n_layers = 8,
                             .n_heads = 512 / HeadDim,
                             .swa_window = 512,
                             .swa_every = 4};

// N tokens in the recurrent form after 600, with their history.
template <class Model>
struct Round {
    Index N;
    typename Model::State state;
    Index delta_bytes = 0, window_bytes = 0;  // of the state of all such layers
    AlignedBuffer<std::byte> memory, copies;
    Stream stream;

    explicit Round(const benchmark::State& run)
        : N(run.range(0)),
          state(model().new_state()),
          memory(Model::stack.history_bytes(N)),
          copies(N * state.bytes().size()) {
        set_num_threads(1);
        const std::vector<token_id> text(600, 7);
        model().prefill(text, state);
        AlignedBuffer<std::byte> workspace(Model::workspace_bytes(1, N, Form::recurrent));
        Arena history(memory.span()), arena(workspace.span());
        stream = state.stream();
        stream.history = &history;
        model().forward(text.data(), Streams(&stream, 1), N, Form::recurrent, arena);
        stream.history = nullptr;
        Model::stack.for_each([&](const auto& block, auto i) {
            (Model::config.layer_types[i] == LayerType::swa ? window_bytes : delta_bytes) +=
                state_bytes(block);
        });
    }
    static const Model& model() {
        static const Model made = [] {
            Model m;
            initialise(m, 1, InitScheme::fan_in);
            return m;
        }();
        return made;
    }
    // N rows of every window, as many bytes as they are.
    Index row_bytes() const { return window_bytes / Model::config.swa_window * N; }
    void keep(Index slot, Index bytes) {
        std::memcpy(copies.data() + slot * bytes, state.bytes().data(), bytes);
    }
    void restore(Index slot, Index bytes) {
        std::memcpy(state.bytes().data(), copies.data() + slot * bytes, bytes);
        benchmark::ClobberMemory();
    }
};

template <int HeadDim>
void history(benchmark::State& run) {
    using Model = HydraLM<medium<HeadDim>>;
    Round<Model> round(run);
    for (auto _ : run) {
        round.keep(0, round.delta_bytes + round.row_bytes());
        Arena arena(round.memory.span());
        Model::stack.rollback(round.stream, round.N, run.range(1), arena);
        benchmark::ClobberMemory();
    }
    run.counters["held"] = static_cast<double>(round.memory.size());
}

template <int HeadDim>
void copies(benchmark::State& run) {
    using Model = HydraLM<medium<HeadDim>>;
    Round<Model> round(run);
    for (auto _ : run) {
        round.keep(round.N - 1, round.row_bytes());
        for (Index n = 0; n + 1 < round.N; ++n) round.keep(n, round.delta_bytes);
        round.restore(run.range(1) - 1, round.delta_bytes);
        round.restore(round.N - 1, round.row_bytes());
    }
    run.counters["held"] =
        static_cast<double>((round.N - 1) * round.delta_bytes + round.row_bytes());
}

template <int HeadDim>
void whole_copies(benchmark::State& run) {
    using Model = HydraLM<medium<HeadDim>>;
    Round<Model> round(run);
    const Index bytes = static_cast<Index>(round.state.bytes().size());
    for (auto _ : run) {
        for (Index n = 0; n + 1 < round.N; ++n) round.keep(n, bytes);
        round.restore(run.range(1) - 1, bytes);
    }
    run.counters["held"] = static_cast<double>((round.N - 1) * bytes);
}

void rounds(benchmark::internal::Benchmark* b) {
    for (const Index N : {2, 3, 5, 9})
        for (const Index kept : {Index{1}, N - 1})
            if (kept == 1 || N > 2) b->Args({N, kept});
    b->Unit(benchmark::kMicrosecond);
}

BENCHMARK(history<64>)->Apply(rounds);
BENCHMARK(copies<64>)->Apply(rounds);
BENCHMARK(whole_copies<64>)->Apply(rounds);
BENCHMARK(history<128>)->Apply(rounds);
BENCHMARK(copies<128>)->Apply(rounds);

}  // namespace

BENCHMARK_MAIN();
