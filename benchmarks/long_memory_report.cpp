// The long-memory report: one trained model, its banks kept and searched in every way, from 65,536
// to 1,048,576 tokens. Prints a page of Markdown table by table.
#include <hydralm/model/standalone.hpp>
#include <hydralm/state/mapped_pages.hpp>

#include <cmath>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "retrieval_task.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::benchmarks;

constexpr HydraConfig config = retrieval_config(32, 4);
using Model = HydraLM<config>;
constexpr Index H = config.n_heads, D = 32, C = 32, k = config.retrieval_top_k;
using Mixer = RetrievalAttention<float, D, C, RetrievalShape<config.d_model, H, k, 4>>;

// Of the chunks that flat routing keeps for the tokens of a trailer, the share that routing by
// groups keeps too: for every number of open groups.
std::vector<double> recall(const Model& model, Index length, std::span<const Index> open) {
    using Selection = kernels::RetrievalSelection<float>;
    const TaskSequence sequence(TaskKind::retrieval_qa, {length, 32, 8, 512}, Split::evaluation, 7,
                                0);
    auto state = model.new_state();
    std::vector<token_id> tokens(4096);
    const Index trailer = sequence.trailer();
    for (Index at = 0; at < trailer; at += 4096) {
        const auto part =
            std::span(tokens).first(static_cast<std::size_t>(std::min<Index>(4096, trailer - at)));
        sequence.fill(at, part);
        model.prefill(part, state);
    }
    const Index N = length - trailer, d = config.d_model, I = H * D;
    tokens.resize(static_cast<std::size_t>(N));
    sequence.fill(trailer, tokens);
    state.reserve(N);
    const Stream stream = state.stream();
    const auto offsets = Model::stack.state_offsets();
    AlignedBuffer<std::byte> memory(Index{8} << 20);
    Arena arena(memory.span());
    // The first layer, then what the second makes of its input.
    const MatrixView<float> x(arena.take<float>(N * d), N, d),
        normed(arena.take<float>(N * d), N, d), qkv(arena.take<float>(N * 3 * I), N, 3 * I),
        mixed(arena.take<float>(N * 3 * I), N, 3 * I), o(arena.take<float>(N * I), N, I);
    for (Index n = 0; n < N; ++n)
        model.weights().embed.copy_row(tokens[static_cast<std::size_t>(n)], x.row(n));
    std::vector<double> shares(open.size(), 0.0);
    Model::stack.for_each([&](const auto& block, auto i) {
        const Streams streams = Streams(&stream, 1).at(offsets[i]);
        const auto& p = std::get<i>(model.weights().blocks);
        if constexpr (i == 0) {
            block.forward(p, streams, N, x, Form::parallel, arena);
        } else {
            const auto& mixer = block.mixer();
            kernels::rms_norm(MatrixView<const float>(x),
                              std::span<const float>(p.mixer.norm.weight), config.rms_eps, normed);
            kernels::matmul(MatrixView<const float>(normed), p.mixer.inner.qkv_proj, qkv);
            const auto layer = bind_state(mixer, streams, 0);
            double kept = 0;
            std::vector<double> found(open.size(), 0.0);
            for (Index h = 0; h < H; ++h) {
                const Arena::Scope scope(arena);
                const auto flat = Selection::take(arena, N, k),
                           groups = Selection::take(arena, N, k);
                mixer.mix_head(p.mixer.inner, layer, trailer, qkv, mixed, {}, flat, o, h, arena);
                kernels::RetrievalPast past = retrieval_past(*layer.bank);
                for (std::size_t j = 0; j < open.size(); ++j) {
                    past.open_groups = open[j];
                    kernels::retrieval_route<D, C, float>(
                        MatrixView<const float>(mixed.middle_cols(h * D, D)), trailer,
                        kernels::RetrievalHead<float, D, C>(past, h), 1.0F, 0.0F, groups, arena);
                    for (Index n = 0; n < N; ++n)
                        for (Index s = 0; s < k; ++s) {
                            const auto* row = groups.chunks + n * k;
                            const std::int32_t chunk = flat.chunks[n * k + s];
                            kept += j == 0;
                            found[j] += std::find(row, row + k, chunk) != row + k;
                        }
                }
            }
            for (std::size_t j = 0; j < open.size(); ++j) shares[j] = found[j] / kept;
        }
    });
    return shares;
}

using Layer = Standalone<Mixer>;
constexpr Index piece = 4096;

// Tokens [piece, d] for a retrieval layer: noise, of which no two are alike, …
struct RandomInputs {
    Random random{3};
    Layer layer() {
        Layer made;
        made.set_parameters([&](const ParameterInfo&, std::span<float> values) {
            for (float& v : values) v = static_cast<float>(0.1 * random.normal());
        });
        return made;
    }
    void fill(Index, std::span<float> x) {
        for (float& v : x) v = static_cast<float>(random.normal());
    }
};
// … or what the trained model's has for its input on a haystack: the model up to there, ended by
// the norm before the mixer.
class TrainedInputs {
public:
    static constexpr HydraConfig below = [] {
        HydraConfig first = config;
        first.n_layers = 1;
        first.layer_types = LayerTypes{LayerType::swa};
        return first;
    }();

    TrainedInputs(const Model& model, Index length)
        : sequence_(TaskKind::retrieval_qa, {length, 32, 8, 512}, Split::evaluation, 7, 0) {
        model.get_parameters([&](const ParameterInfo& info, std::span<const float> values) {
            weights_[std::string(info.name())].assign(values.begin(), values.end());
        });
        weights_["norm_f.weight"] = weights_.at("blocks.1.norm1.weight");
        set(model_, "");
        state_ = model_.new_state();
    }
    Layer layer() const {
        Layer made;
        set(made, "blocks.1.mixer.");
        return made;
    }
    void fill(Index at, std::span<float> x) {
        std::array<token_id, piece> tokens;
        sequence_.fill(at, tokens);
        model_.run(tokens, *state_, Form::parallel,
                   [&](MatrixView<const float> hidden, std::size_t first) {
                       for (Index n = 0; n < hidden.rows(); ++n)
                           std::copy_n(hidden.row(n), config.d_model,
                                       x.data() + (static_cast<Index>(first) + n) * config.d_model);
                   });
    }

private:
    template <class Target>
    void set(Target& target, const std::string& prefix) const {
        target.set_parameters([&](const ParameterInfo& info, std::span<float> values) {
            const auto& given = weights_.at(prefix + std::string(info.name()));
            std::copy_n(given.data(), values.size(), values.data());
        });
    }

    TaskSequence sequence_;
    std::map<std::string, std::vector<float>> weights_;
    HydraLM<below> model_;
    std::optional<HydraLM<below>::State> state_;
};

// Seconds of processor time, which other work on the machine disturbs least, that a retrieval layer
// alone takes on one thread for the first lengths[i] tokens of a stream.
template <class Inputs>
std::vector<double> layer_seconds(std::span<const Index> lengths, Index open, Inputs inputs) {
    const Layer layer = inputs.layer();
    constexpr Index d = config.d_model;
    const int threads = num_threads();
    set_num_threads(1);
    std::vector<float> x(static_cast<std::size_t>(piece * d)), y(x.size());
    auto state = layer.new_state(256, {.open_groups = open});
    std::vector<double> seconds;
    double sum = 0;
    for (Index at = 0; at < lengths.back(); at += piece) {
        inputs.fill(at, x);
        const std::clock_t begin = std::clock();
        layer.forward({x.data(), piece, d}, {y.data(), piece, d}, state);
        sum += static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
        if (std::find(lengths.begin(), lengths.end(), at + piece) != lengths.end())
            seconds.push_back(sum);
    }
    set_num_threads(threads);
    return seconds;
}

// Least squares of ln seconds over ln length.
double slope(std::span<const Index> lengths, std::span<const double> seconds) {
    double sx = 0, sy = 0, sxx = 0, sxy = 0;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
        const double a = std::log(static_cast<double>(lengths[i])), b = std::log(seconds[i]);
        sx += a, sy += b, sxx += a * a, sxy += a * b;
    }
    const auto n = static_cast<double>(lengths.size());
    return (n * sxy - sx * sy) / (n * sxx - sx * sx);
}

struct Asked {
    double accuracy, tokens_per_second;
    std::int64_t answers;
};
Asked ask(const Model& model, Index length, std::int64_t haystacks, const BankPolicy& policy) {
    const auto begin = std::chrono::steady_clock::now();
    const auto score =
        score_task(model, TaskKind::retrieval_qa, {length, 32, 8, 512}, haystacks, 7, 4, policy);
    return {score.accuracy(), static_cast<double>(length * haystacks) / seconds_since(begin),
            score.answers};
}

void routing(const Model& model) {
    std::printf(
        "## Two levels against flat routing\n"
        "\n"
        "Flat: every chunk is scored. Two levels: the sums of 64 summaries are scored, and only "
        "the "
        "chunks of the best groups.\n"
        "Recall: of the chunks that flat routing keeps for the 32 tokens of a trailer in both "
        "heads, those kept too.\n"
        "\n"
        "| tokens | recall, 1 group open | 2 | 4 | 8 | right, flat | tokens/s | right, 4 open | "
        "tokens/s |\n"
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
    const std::array<Index, 4> open{1, 2, 4, 8};
    struct Row {
        Index length;
        std::int64_t flat_haystacks, haystacks;
    };
    for (const Row& row : {Row{65536, 8, 8}, {131072, 4, 4}, {1048576, 1, 4}}) {
        std::printf("| %td |", row.length);
        for (const double share : recall(model, row.length, open)) std::printf(" %.3f |", share);
        for (const auto& [haystacks, groups] :
             {std::pair<std::int64_t, Index>{row.flat_haystacks, 0}, {row.haystacks, 4}}) {
            const Asked asked = ask(model, row.length, haystacks, {.open_groups = groups});
            std::printf(" %.3f of %lld | %.0f |", asked.accuracy,
                        static_cast<long long>(asked.answers), asked.tokens_per_second);
            std::fflush(stdout);
        }
        std::printf("\n");
    }
    const std::array<Index, 5> lengths{65536, 131072, 262144, 524288, 1048576};
    std::printf(
        "\n"
        "Seconds of processor time of the retrieval layer alone, on one thread (prefill in tiles "
        "of "
        "256), for so many tokens,\n"
        "and the slope of their logarithms. Trained: the model's own layer, on a haystack. Random: "
        "weights and inputs of\n"
        "noise, where no two queries look for the same.\n"
        "\n"
        "| inputs | routing | 65,536 | 131,072 | 262,144 | 524,288 | 1,048,576 | slope |\n"
        "|---|---|---:|---:|---:|---:|---:|---:|\n");
    const auto row = [&](const char* name, Index groups, auto inputs) {
        const auto seconds = layer_seconds(lengths, groups, std::move(inputs));
        std::printf("| %s | %s |", name, groups == 0 ? "flat" : "two levels, 4 open");
        for (const double s : seconds) std::printf(" %.2f |", s);
        std::printf(" %.3f |\n", slope(lengths, seconds));
        std::fflush(stdout);
    };
    for (const Index groups : {0, 4}) {
        row("trained", groups, TrainedInputs(model, lengths.back()));
        row("random", groups, RandomInputs());
    }
}

void banks(const Model& model) {
    constexpr Index length = 131072;
    std::printf(
        "\n"
        "## Banks\n"
        "\n"
        "%td tokens, 32 facts, 4 haystacks; bytes of the whole state at their end.\n"
        "\n"
        "| bank | bytes | accuracy | tokens/s |\n"
        "|---|---:|---:|---:|\n",
        length);
    const auto row = [&](const std::string& bank, const BankPolicy& policy) {
        auto state = model.new_state(Model::prefill_tile, policy);
        const std::vector<token_id> filler(4096, 1);
        for (Index at = 0; at < length; at += 4096) model.prefill(filler, state);
        const Index bytes = state.size();
        state.reset();
        const Asked asked = ask(model, length, 4, policy);
        std::printf("| %s | %td | %.3f | %.0f |\n", bank.c_str(), bytes, asked.accuracy,
                    asked.tokens_per_second);
        std::fflush(stdout);
    };
    const auto mapped = [](BankFormat format) {
        return BankPolicy{.pages = std::make_shared<MappedPages>(
                              std::filesystem::temp_directory_path(), Index{8} << 20),
                          .format = format};
    };
    row("in memory", {});
    row("in memory, bf16", {.format = BankFormat::bf16});
    row("in memory, int8", {.format = BankFormat::int8});
    row("mapped, 8 MiB resident", mapped(BankFormat::exact));
    row("mapped, int8, 8 MiB resident", mapped(BankFormat::int8));
    for (const Index mebibytes : {64, 32, 16, 8, 4})
        row("compressive, " + std::to_string(mebibytes) + " MiB",
            Model::bounded_banks(mebibytes << 20));
    row("compressive, int8, 16 MiB", Model::bounded_banks(Index{16} << 20, BankFormat::int8));
}

}  // namespace

int main() {
    std::printf(
        "# Retrieval far and in little memory\n"
        "\n"
        "Measured by `./run reports`: S R (d 64, 2 heads of 32, C = 32, k = 4), trained by the "
        "curriculum of [retrieval](retrieval.md)\n"
        "on at most 1,024 tokens, seed 1, then asked about haystacks it never saw, 32 facts each. "
        "Times are those of a run of all\n"
        "this in one process, side by side in each row.\n"
        "\n");
    const Model model = trained_on_retrieval<config>(1);
    routing(model);
    banks(model);
}
