// The retrieval report: models trained by the curriculum of docs/retrieval.md, and what they find
// again at lengths they never saw. Prints a table row by row as a page of Markdown.
#include <cstdio>

#include "retrieval_task.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::benchmarks;

template <HydraConfig config>
void row(std::uint64_t seed) {
    const auto begin = std::chrono::steady_clock::now();
    const auto model = trained_on_retrieval<config>(seed);
    std::printf("| %d | %d | %llu | %.0f |", config.retrieval_chunk_size, config.retrieval_top_k,
                static_cast<unsigned long long>(seed), seconds_since(begin));
    for (const Index length : {1024, 16384, 65536}) {
        const auto score = score_task(model, TaskKind::retrieval_qa, {length, 32, 8, 512}, 8, 5, 4);
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
    row<retrieval_config(16, 4)>(1);
    row<retrieval_config(32, 4)>(1);
    row<retrieval_config(64, 4)>(1);
    row<retrieval_config(128, 4)>(1);
    row<retrieval_config(32, 2)>(1);
    row<retrieval_config(32, 8)>(1);
    row<retrieval_config(32, 4)>(2);
}
