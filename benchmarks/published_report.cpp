// Published models of real size on this machine: time to open, memory, prefill, decoding. Prints a
// page of Markdown. Every row is a process of its own, which measures its denominators too.
//
// Usage: published_report FOLDER..., each of a published model; weights may be any numbers.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <optional>
#include <vector>

#include "byte_dot_peak.hpp"
#include "hydralm/core/zero_pages.hpp"
#include "hydralm/families/open.hpp"
#include "machine_peak.hpp"

namespace {

using namespace hydralm;
using weights::Format;

constexpr Index prompts[] = {512, 4096}, new_tokens = 32;

template <class F>
double seconds(const F& f) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double median(std::vector<double> values) {
    std::ranges::sort(values);
    return values[values.size() / 2];
}

// Of this process, without what is mapped from files.
double resident_bytes() {
    long size = 0, resident = 0, shared = 0;
    if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
        if (std::fscanf(file, "%ld %ld %ld", &size, &resident, &shared) != 3) resident = shared = 0;
        std::fclose(file);
    }
    return static_cast<double>(resident - shared) * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

// Of f behind clear, the second of two times: then files are in memory, and the host of a virtual
// machine has given it.
template <class Clear, class F>
double second_seconds(const Clear& clear, const F& f) {
    clear();
    f();
    clear();
    return seconds(f);
}

// Of copying the bytes of all tensors into new memory, by one thread.
double copy_seconds(const std::filesystem::path& folder) {
    const Checkpoint checkpoint(folder);
    std::vector<ZeroPages<std::byte>> copies;
    return second_seconds([&] { copies.clear(); },
                          [&] {
                              for (const StoredTensor* tensor : checkpoint.tensors()) {
                                  const auto bytes = tensor->bytes();
                                  copies.emplace_back(static_cast<Index>(bytes.size()));
                                  std::memcpy(copies.back().data(), bytes.data(), bytes.size());
                              }
                          });
}

// Multiply-adds of a token in products with weights; the head's, once a prompt, apart.
struct Products {
    double token = 0, head = 0;
    explicit Products(const RuntimeModel<float>& model) {
        for (const ParameterInfo& info : model.parameters) {
            if (info.fields == 0) continue;
            const auto numbers = static_cast<double>(info.size());
            const bool embedding = info.name() == "embed.weight";
            if (info.name() == "lm_head.weight" || (embedding && model.ties_head)) head = numbers;
            else if (!embedding) token += numbers;
        }
    }
};

std::vector<token_id> random_tokens(Index n, Index vocab) {
    Random random(1);
    std::vector<token_id> ids(static_cast<std::size_t>(n));
    for (token_id& id : ids)
        id = static_cast<token_id>(random.below(static_cast<std::uint64_t>(vocab)));
    return ids;
}

// The peak of what products of this format are made of: in operations of multiply-adds counted two.
double peak(Format format, int threads) {
    return block_bytes(format) != 0
               ? benchmarks::measured_byte_dot_peak(simd::byte_dot_leaf(), threads)
               : benchmarks::measured_sustained_peak<float>(threads);
}

template <class Weights>
void measure(const std::filesystem::path& folder, const char* label, Format format,
             Weights weights) {
    const double copying = copy_seconds(folder);
    std::optional<RuntimeModel<float>> model;
    for (const int threads : {1, 2}) {
        set_num_threads(threads);
        const double opening =
            second_seconds([&] { model.reset(); }, [&] { model.emplace(open(folder, weights)); });
        const double memory = resident_bytes();
        const Products products(*model);
        const double most = peak(format, threads),
                     bandwidth = benchmarks::measured_bandwidth(threads, benchmarks::Traffic::read,
                                                                model->weight_bytes);
        std::printf("| %s | %s | %d | %.2f (%.1f ×) | %.2f (%.2f ×) |", folder.filename().c_str(),
                    label, threads, opening, opening / copying, memory / 1e9,
                    memory / static_cast<double>(model->weight_bytes));
        auto state = model->new_state();
        for (const Index prompt : prompts) {
            const auto ids = random_tokens(prompt, model->vocab_size());
            state.reset();
            const double took = seconds([&] { (void)model->prefill(ids, state); });
            const double flop = 2 * (products.token * static_cast<double>(prompt) + products.head);
            std::printf(" %.0f (%.0f %%) |", static_cast<double>(prompt) / took,
                        100 * flop / took / most);
        }
        std::vector<double> steps;
        for (const token_id id : random_tokens(new_tokens, model->vocab_size()))
            steps.push_back(seconds([&] { (void)model->step(id, state); }));
        // An embedding that is no head's is read a row a token; states and the past are read whole.
        double read = static_cast<double>(model->weight_bytes) * (products.token + products.head) /
                          static_cast<double>(model->parameter_count) +
                      static_cast<double>(model->state_bytes);
        for (const PageBank& bank : state.banks())
            read += static_cast<double>(bank.bytes(state.position()));
        std::printf(" %.1f (%.0f %%) |\n", 1 / median(steps),
                    100 * read / median(steps) / bandwidth);
        std::fflush(stdout);
    }
}

// In a process of its own: what was measured before has no memory in this.
template <class F>
bool apart(const F& f) {
    std::fflush(stdout);
    const pid_t child = ::fork();
    if (child == 0) {
        try {
            f();
        } catch (const std::exception& error) {
            std::fprintf(stderr, "published_report: %s\n", error.what());
            ::_exit(1);
        }
        std::fflush(stdout);
        ::_exit(0);
    }
    int status = 1;
    return child > 0 && ::waitpid(child, &status, 0) == child && status == 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) {
        std::fprintf(stderr, "usage: published_report FOLDER...\n");
        return 2;
    }
    std::printf(
        "# Published models of real size\n"
        "\n"
        "`published_report FOLDER...`: checkpoints of these sizes, with random weights in bf16. "
        "Opening: seconds, over those of copying\n"
        "the bytes of its tensors to new memory on one thread, both the second time. Memory: of "
        "the process behind opening, in GB, over the bytes of the weights as they are kept.\n"
        "Prefill of 512 and of 4,096 tokens: tokens/s; in brackets what the products alone are of "
        "the peak measured in the same process\n"
        "(bf16: the sustained peak of multiply-adds in float, which is what computes them; q8 and "
        "q4: "
        "that of the instructions for bytes). Decoding behind 4,096 tokens: tokens/s,\n"
        "median of %td; in brackets weights, states, keys and values read of the bandwidth of "
        "reading "
        "as much as the weights (1 GiB at most).\n"
        "\n"
        "| model | weights | threads | open, s | memory, GB | prefill 512 | prefill 4,096 | "
        "decode |\n"
        "|---|---|---:|---:|---:|---:|---:|---:|\n",
        new_tokens);
    bool all = true;
    for (int i = 1; i < argc; ++i) {
        const std::filesystem::path folder = argv[i];
        all &= apart([&] { measure(folder, "bf16", Format::bf16, weights::BF16{}); });
        all &= apart([&] { measure(folder, "q8", Format::q8, weights::Q8{}); });
        all &= apart([&] { measure(folder, "q4", Format::q4, weights::Q4{}); });
    }
    return all ? 0 : 1;
}
