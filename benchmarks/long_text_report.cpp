// One long text over the ranks of an MPI job against one process, in float: logits of every token,
// and the gradient of a shorter text.
//
//     mpirun -n 2 long_text_report [TOKENS [TOKENS OF THE GRADIENT]]
//     mpirun -n 2 long_text_report MODEL TEXT
//
// Every rank computes the whole text by itself first, and compares its run with that. Two small
// models with random weights: of Gated DeltaNet and a window; and with retrieval, where a choice of
// chunks that hangs on rounding may fall otherwise. Of that one, and, in the second form, of a
// checkpoint with heads of 32 and chunks of 32 that is given the bytes of a file, also: which share
// of the chunks that come from the ranks before a rank's tokens read.
#include <hydralm/io.hpp>
#include <hydralm/training.hpp>
#include <hydralm/training/distributed.hpp>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <string_view>
#include <vector>

namespace {

using namespace hydralm;

constexpr HydraConfig windowed{.vocab_size = 64,
                               .d_model = 32,
                               .n_layers = 3,
                               .n_heads = 2,
                               .mlp_multiple_of = 16,
                               .swa_window = 64,
                               .swa_every = 3};
constexpr HydraConfig retrieving{
    .vocab_size = 64,
    .d_model = 32,
    .n_layers = 3,
    .n_heads = 2,
    .mlp_multiple_of = 16,
    .swa_window = 64,
    .layer_types = {LayerType::deltanet, LayerType::swa, LayerType::retrieval},
    .retrieval_chunk_size = 128,
    .retrieval_top_k = 8};
constexpr double bound = 2e-4, gradient_bound = 1e-3;

std::vector<token_id> random_text(Index tokens, int vocab_size) {
    Random random(11, 3);
    std::vector<token_id> text(static_cast<std::size_t>(tokens));
    for (token_id& id : text)
        id = static_cast<token_id>(random.below(static_cast<std::uint64_t>(vocab_size)));
    return text;
}

// Which chunks tokens read, by any head of any layer.
class ChunksRead : public ReadObserver {
public:
    explicit ChunksRead(Index chunks) : read_(static_cast<std::size_t>(chunks)) {}
    void read(std::int64_t, Index, Index chunk, double) noexcept override {
        read_[static_cast<std::size_t>(chunk)] = 1;
    }
    // Of the first so many chunks.
    Index count(Index chunks) const { return std::count(read_.begin(), read_.begin() + chunks, 1); }

private:
    std::vector<std::uint8_t> read_;
};

// The greatest over ranks.
double greatest(Ranks& ranks, double own) { return std::ranges::max(ranks.gather(own)); }

template <class F>
double seconds(Ranks& ranks, const F& f) {
    ranks.any(false);  // together
    const auto begin = std::chrono::steady_clock::now();
    f();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
    return greatest(ranks, time.count());
}

// Says which share of the chunks before its run a rank's tokens read, over all ranks.
void print_share(const char* name, Ranks& ranks, const ChunksRead& reads, Index chunks_before) {
    Index read = 0, passed = 0;
    for (const Index n : ranks.gather(reads.count(chunks_before))) read += n;
    for (const Index n : ranks.gather(chunks_before)) passed += n;
    if (ranks.rank() == 0 && passed > 0)
        std::printf("%s: %d ranks: %td of %td chunks of ranks before are read, %.1f %%\n", name,
                    ranks.count(), read, passed,
                    100.0 * static_cast<double>(read) / static_cast<double>(passed));
}

template <class Model>
void compare_logits(const char* name, const Model& model, Ranks& ranks, Index tokens) {
    const Index d = model.d_model(), V = model.vocab_size();
    const auto text = random_text(tokens, static_cast<int>(V));
    std::vector<float> hidden(static_cast<std::size_t>(tokens * d));  // of one process
    const double one = seconds(ranks, [&] {
        auto state = model.new_state(Model::prefill_tile, {.open_groups = 2});
        model.run(std::span(text), state, Form::parallel,
                  [&](MatrixView<const float> rows, std::size_t first) {
                      for (Index i = 0; i < rows.rows(); ++i)
                          std::copy_n(rows.row(i), d,
                                      hidden.data() + (static_cast<Index>(first) + i) * d);
                  });
    });
    double largest = 0.0;
    std::vector<double> differences;  // the largest of a token
    std::vector<float> memory(static_cast<std::size_t>(2 * Model::prefill_tile * V));
    const Index chunk = std::max<Index>(1, model.config.retrieval_chunk_size);
    const auto reads = std::make_shared<ChunksRead>(tokens / chunk + 1);
    auto state = model.new_state(Model::prefill_tile, {.open_groups = 2, .reads = reads});
    std::vector<float> found(static_cast<std::size_t>(tokens * d));
    std::size_t begin = text.size(), end = 0;
    const std::int64_t before = ranks.traffic().bytes_sent;
    const double over = seconds(ranks, [&] {
        run_over_ranks(model, std::span(text), state, ranks,
                       [&](MatrixView<const float> rows, std::size_t first) {
                           for (Index i = 0; i < rows.rows(); ++i)
                               std::copy_n(rows.row(i), d,
                                           found.data() + (static_cast<Index>(first) + i) * d);
                           begin = std::min(begin, first);
                           end = first + static_cast<std::size_t>(rows.rows());
                       });
    });
    const auto sent = static_cast<double>(ranks.traffic().bytes_sent - before);
    for (auto t = static_cast<Index>(begin); t < static_cast<Index>(end);) {
        const Index n = std::min<Index>(Model::prefill_tile, static_cast<Index>(end) - t);
        const MatrixView<float> a(memory.data(), n, V), b(memory.data() + n * V, n, V);
        model.head({hidden.data() + t * d, n, d}, a);
        model.head({found.data() + t * d, n, d}, b);
        for (Index i = 0; i < n; ++i) {
            double of_row = 0.0;
            for (Index v = 0; v < V; ++v) {
                largest = std::max(largest, std::abs(static_cast<double>(a(i, v))));
                of_row = std::max(of_row, std::abs(static_cast<double>(a(i, v)) - b(i, v)));
            }
            differences.push_back(of_row);
        }
        t += n;
    }
    largest = greatest(ranks, largest);
    const double difference = greatest(ranks, std::ranges::max(differences));
    Index beyond = 0;
    for (const Index count : ranks.gather(static_cast<Index>(std::ranges::count_if(
             differences, [&](double of_row) { return of_row > bound * largest; }))))
        beyond += count;
    const double most = greatest(ranks, sent);
    if (ranks.rank() == 0)
        std::printf(
            "%s: %td tokens, %d ranks: logits differ by %.1e of the largest, %td tokens by "
            "more than %g; %.1f s, one process on each rank %.1f s; a rank sends %.0f "
            "bytes\n",
            name, tokens, ranks.count(), difference / largest, beyond, bound, over, one, most);
    if (!state.banks().empty()) print_share(name, ranks, *reads, static_cast<Index>(begin) / chunk);
}

template <class Model>
void compare_gradients(const char* name, const Model& model, Ranks& ranks, Index tokens) {
    const auto text = random_text(tokens + 1, static_cast<int>(model.vocab_size()));
    const std::span ids = std::span(text).first(static_cast<std::size_t>(tokens)),
                    labels = std::span(text).subspan(1);
    const double scale = 1.0 / static_cast<double>(tokens);
    std::vector<float> expected;
    double loss = 0.0;
    const double one = seconds(ranks, [&] {
        Gradients<Model> gradients(model, 1, tokens, Keep::block_inputs);
        gradients.refresh(model);
        BatchStates states(model, 1);
        loss = gradients.add(model, ids, labels, states.streams(tokens), scale).mean();
        expected.assign(gradients.values().begin(), gradients.values().end());
    });
    GradientsOverRanks<Model> gradients(model, 1, tokens, ranks, Keep::block_inputs);
    gradients.refresh(model);
    double found = 0.0;
    const double over = seconds(ranks, [&] {
        BatchStates states(model, 1);
        found = gradients.add(model, ids, labels, states, scale).mean();
        gradients.sum_over_ranks();
    });
    double worst = 0.0;
    const float* next = expected.data();
    gradients.for_each([&](const ParameterInfo&, std::span<const float> values) {
        double largest = 0.0, difference = 0.0;
        for (const float value : values) {
            largest = std::max(largest, std::abs(static_cast<double>(*next)));
            difference = std::max(difference, std::abs(static_cast<double>(value) - *next++));
        }
        if (largest > 0.0) worst = std::max(worst, difference / largest);
    });
    if (ranks.rank() == 0)
        std::printf(
            "%s: %td tokens, %d ranks: loss %.7f, %.7f; gradients differ by %.1e of the "
            "largest of a tensor (at most %g); %.1f s, one process on each rank %.1f s\n",
            name, tokens, ranks.count(), found, loss, worst, gradient_bound, over, one);
}

template <class Model>
void compare(const char* name, Ranks& ranks, Index tokens, Index of_gradient) {
    Model model;
    initialise(model, 5, InitScheme::fan_in);
    compare_logits(name, model, ranks, tokens);
    compare_gradients(name, model, ranks, of_gradient);
}

// Of a trained model, and the bytes of a file.
void read_chunks(const char* path, const char* text_path, Ranks& ranks) {
    const MappedFile file(text_path);
    std::vector<token_id> text;
    for (const char byte : file.text()) text.push_back(static_cast<unsigned char>(byte));
    const auto model = open<float>(path, Kernels<Sizes<32>, Sizes<32>>{});
    const Index chunk = std::max<Index>(1, model.config.retrieval_chunk_size);
    const auto reads = std::make_shared<ChunksRead>(std::ssize(text) / chunk + 1);
    auto state = model.new_state(RuntimeModel<float>::prefill_tile, {.reads = reads});
    std::size_t begin = text.size();
    run_over_ranks(
        model, std::span<const token_id>(text), state, ranks,
        [&](MatrixView<const float>, std::size_t first) { begin = std::min(begin, first); });
    print_share(path, ranks, *reads, static_cast<Index>(begin) / chunk);
}

// The number of tokens that a word says; 0 for another word.
Index tokens_of(std::string_view word) {
    Index tokens = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), tokens);
    return error == std::errc() && end == word.data() + word.size() ? tokens : 0;
}

}  // namespace

int main(int argc, char** argv) {
    const Index tokens = argc > 1 ? tokens_of(argv[1]) : 1'000'000,
                of_gradient = argc > 2 ? tokens_of(argv[2]) : 65536;
    const bool of_checkpoint = argc == 3 && tokens < 1;
    if (!of_checkpoint && (argc > 3 || tokens < 1 || of_gradient < 1)) {
        std::fprintf(stderr,
                     "usage: long_text_report [TOKENS [TOKENS OF THE GRADIENT]], or\n"
                     "       long_text_report MODEL TEXT\n");
        return 2;
    }
    MpiRanks ranks;
    try {
        if (of_checkpoint) {
            read_chunks(argv[1], argv[2], ranks);
            return 0;
        }
        compare<HydraLM<windowed>>("D D S", ranks, tokens, of_gradient);
        compare<HydraLM<retrieving>>("D S R", ranks, tokens, of_gradient);
    } catch (const Error& error) {
        std::fprintf(stderr, "long_text_report: %s\n", error.what());
        return 1;
    }
}
