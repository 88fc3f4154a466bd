// The retrieval report: models trained by the curriculum of docs/retrieval.md, and what they find
// again at lengths they never saw. Prints a table row by row as a page of Markdown.
#include <hydralm/evaluation.hpp>
#include <hydralm/hydralm.hpp>

#include <chrono>
#include <cstdio>
#include <string>

namespace {

using namespace hydralm;

constexpr HydraConfig base{.vocab_size = 512,
                           .d_model = 64,
                           .n_layers = 2,
                           .n_heads = 2,
                           .mlp_mult = 2.0,
                           .swa_window = 64,
                           .layer_types = {LayerType::swa, LayerType::retrieval},
                           .retrieval_chunk_size = 32,
                           .retrieval_top_k = 4};
constexpr HydraConfig with_chunks(int chunk_size, int top_k) {
    HydraConfig config = base;
    config.retrieval_chunk_size = chunk_size;
    config.retrieval_top_k = top_k;
    return config;
}

// length, facts, queries, vocabulary; batch; steps
const std::vector<TaskStage> stages{{{96, 6, 6, 512}, 48, 500},
                                    {{256, 8, 8, 512}, 18, 300},
                                    {{512, 12, 12, 512}, 10, 300},
                                    {{1024, 16, 16, 512}, 5, 200}};

template <HydraConfig config>
void row(std::uint64_t seed) {
    using Model = HydraLM<config>;
    constexpr auto task = TaskKind::retrieval_qa;
    TaskSource source(task, stages, Split::training, seed);
    TrainerOptions options;
    options.optimiser.adamw.rate = 3e-3;
    options.optimiser.adamw.decay = 0.01;
    options.rate = {.peak = 3e-3,
                    .least = 3e-4,
                    .warmup = 50,
                    .total = source.steps(),
                    .hold = source.steps() * 6 / 10};
    Model model;
    initialise(model, seed, InitScheme::fan_in);
    Trainer<Model> trainer(model, options);
    const auto begin = std::chrono::steady_clock::now();
    while (trainer.steps() < source.steps()) trainer.step(source);
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    std::printf("| %d | %d | %llu | %.0f |", config.retrieval_chunk_size, config.retrieval_top_k,
                static_cast<unsigned long long>(seed), seconds);
    for (const Index length : {1024, 16384, 65536}) {
        const auto score = score_task(model, task, {length, 32, 8, 512}, 8, 5, 4);
        std::printf(" %.3f |", score.accuracy());
    }
    std::printf("\n");
    std::fflush(stdout);
}

}  // namespace

int main() {
    std::printf(
        "# Retrieval: chunk size and chunks kept\n"
        "\n"
        "Measured by `./run reports`: S R (d 64, 2 heads of 32, window 64, vocabulary 512) trained "
        "by the curriculum of\n"
        "[retrieval](retrieval.md) on at most 1,024 tokens, then asked for 32 facts in haystacks "
        "it never saw, 256 answers a\n"
        "number. C: tokens a chunk, k: past chunks a token reads.\n"
        "\n"
        "| C | k | seed | seconds of training | 1,024 | 16,384 | 65,536 |\n"
        "|---:|---:|---:|---:|---:|---:|---:|\n");
    row<with_chunks(16, 4)>(1);
    row<with_chunks(32, 4)>(1);
    row<with_chunks(64, 4)>(1);
    row<with_chunks(128, 4)>(1);
    row<with_chunks(32, 2)>(1);
    row<with_chunks(32, 8)>(1);
    row<with_chunks(32, 4)>(2);
}
