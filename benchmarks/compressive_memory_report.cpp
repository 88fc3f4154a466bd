// The report on CompressiveMemory: its error against exact attention over everything, on queries,
// keys and values of a model trained here on text. Prints a page of Markdown.
//
// Usage: compressive_memory_report PATH..., files or folders of text.
#include <hydralm/memory/compressive_memory.hpp>

#include <Eigen/Dense>

#include "trained_on_text.hpp"

namespace {

using namespace hydralm;

// The window holds all of a text: the layer has learnt exact attention over everything.
constexpr Index N = 1024, first_query = 512;
constexpr HydraConfig config{.vocab_size = 256,
                             .d_model = 128,
                             .n_layers = 4,
                             .n_heads = 4,
                             .swa_window = N,
                             .swa_every = 4};
using Model = HydraLM<config>;
constexpr Index D = Model::config.head_dim, d = config.d_model;
constexpr benchmarks::TextTraining training{.steps = 300, .batch = 2, .length = N, .rate = 3e-3};

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
struct Head {
    Matrix q, k, v, exact;  // [N, D], q and k rotated; [N − first_query, D]
};

// softmax(q·k/√D) v over the last `window` tokens, for every query from first_query on.
Matrix attention(const Head& head, Index window) {
    Matrix out(N - first_query, D);
    for (Index t = first_query; t < N; ++t) {
        const Index begin = std::max<Index>(0, t + 1 - window), count = t + 1 - begin;
        Eigen::ArrayXd p = (head.k.middleRows(begin, count) * head.q.row(t).transpose()).array() /
                           std::sqrt(double{D});
        p = (p - p.maxCoeff()).exp();
        out.row(t - first_query) =
            p.matrix().transpose() * head.v.middleRows(begin, count) / p.sum();
    }
    return out;
}

// What the windowed layer of the model makes of a text, head by head.
std::vector<Head> heads_of(const Model& model, std::span<const token_id> text) {
    AlignedBuffer<float> x_data(N * d), normed_data(N * d), qkv_data(N * 3 * d), angles(N * D);
    const MatrixView<float> x(x_data.data(), N, d), normed(normed_data.data(), N, d),
        qkv(qkv_data.data(), N, 3 * d), table(angles.data(), N, D);
    for (Index n = 0; n < N; ++n)
        model.weights().embed.copy_row(text[static_cast<std::size_t>(n)], x.row(n));
    kernels::rotary_table<D>(0, config.swa_rope_base, table);
    auto state = model.new_state();
    const Stream stream = state.stream();
    AlignedBuffer<std::byte> workspace(hydralm::scratch_bytes(Model::stack, {.tokens = N}));
    std::vector<Head> heads;
    Model::stack.for_each([&](const auto& block, auto i) {
        const auto& p = std::get<i>(model.weights().blocks);
        if constexpr (Model::config.layer_types[i] == LayerType::swa) {
            kernels::rms_norm(x, std::span<const float>(p.mixer.norm.weight), config.rms_eps,
                              normed);
            kernels::matmul(normed, p.mixer.inner.qkv_proj, qkv);
            kernels::rotary_apply<D>(qkv.middle_cols(0, 2 * d), table);
            for (Index h = 0; h < config.n_heads; ++h) {
                const auto part = [&](Index which) -> Matrix {
                    return qkv.middle_cols(which * d + h * D, D).eigen().template cast<double>();
                };
                heads.push_back({part(0), part(1), part(2), {}});
                heads.back().exact = attention(heads.back(), N);
            }
        }
        Arena arena(workspace.span());
        constexpr auto offsets = Model::stack.state_offsets();
        block.forward(p, Streams(&stream, 1).at(offsets[i]), N, x, Form::parallel, arena);
    });
    return heads;
}

struct Budget {
    Index window, summaries, ratio;
};

Matrix compressed(const Head& head, const Budget& b, const Eigen::VectorXd& pooling) {
    CompressiveMemory<double, D> memory(b.window, b.summaries, b.ratio);
    memory.set_pooling({pooling.data(), static_cast<std::size_t>(b.ratio)});
    Matrix out(N - first_query, D);
    const auto row = [](auto& m, Index t) {
        return std::span(m.data() + t * D, static_cast<std::size_t>(D));
    };
    for (Index t = 0; t < N; ++t) {
        memory.append(row(head.k, t), row(head.v, t));
        if (t >= first_query) memory.attend(row(head.q, t), row(out, t - first_query));
    }
    return out;
}

using Texts = std::vector<std::vector<Head>>;  // heads of every text

// √(Σ |approximate − exact|² / Σ |exact|²) over all texts and heads.
template <class F>
double error(const Texts& texts, const F& approximate) {
    double squares = 0.0, scale = 0.0;
    for (const auto& heads : texts)
        for (std::size_t h = 0; h < heads.size(); ++h) {
            squares += (approximate(heads[h], h) - heads[h].exact).squaredNorm();
            scale += heads[h].exact.squaredNorm();
        }
    return std::sqrt(squares / scale);
}

// Pooling weights of head h with the least error on the texts: Gauss–Newton from the mean, with
// differences for derivatives; a step that does not help is the last.
Eigen::VectorXd fitted(const Texts& texts, std::size_t h, const Budget& b) {
    const Index rows = static_cast<Index>(texts.size()) * (N - first_query) * D;
    const auto residual = [&](const Eigen::VectorXd& pooling) {
        Eigen::VectorXd r(rows);
        Index at = 0;
        for (const auto& heads : texts) {
            const Matrix difference = compressed(heads[h], b, pooling) - heads[h].exact;
            r.segment(at, difference.size()) = difference.reshaped<Eigen::RowMajor>();
            at += difference.size();
        }
        return r;
    };
    Eigen::VectorXd best = Eigen::VectorXd::Constant(b.ratio, 1.0 / static_cast<double>(b.ratio));
    Eigen::VectorXd r = residual(best);
    for (int step = 0; step < 5; ++step) {
        Eigen::MatrixXd jacobian(rows, b.ratio);
        constexpr double h_step = 1e-5;
        for (Index i = 0; i < b.ratio; ++i) {
            Eigen::VectorXd moved = best;
            moved[i] += h_step;
            jacobian.col(i) = (residual(moved) - r) / h_step;
        }
        const Eigen::VectorXd next =
            best - (jacobian.transpose() * jacobian).ldlt().solve(jacobian.transpose() * r);
        const Eigen::VectorXd next_r = residual(next);
        if (!(next_r.squaredNorm() < r.squaredNorm())) break;
        best = next;
        r = next_r;
    }
    return best;
}

void row(const Texts& fit, const Texts& held_out, const Budget& b) {
    const Eigen::VectorXd mean =
        Eigen::VectorXd::Constant(b.ratio, 1.0 / static_cast<double>(b.ratio));
    std::vector<Eigen::VectorXd> learned;
    for (std::size_t h = 0; h < fit.front().size(); ++h) learned.push_back(fitted(fit, h, b));
    const Index pairs = b.window + b.ratio + b.summaries + 1;
    std::printf("| %td | %td | %td | %td | %td | %.3f | %.3f | %.3f |\n", b.window, b.summaries,
                b.ratio, pairs, b.window + b.summaries * b.ratio,
                error(held_out, [&](const Head& head, auto) { return attention(head, pairs); }),
                error(held_out, [&](const Head& head, auto) { return compressed(head, b, mean); }),
                error(held_out, [&](const Head& head, std::size_t h) {
                    return compressed(head, b, learned[h]);
                }));
    std::fflush(stdout);
}

void report(const TextCorpus& corpus) {
    const auto [text, held_out] = corpus.split(0.1, 1, 2 * N);  // a passage is in the second half
    const Model model = benchmarks::trained_on_text<Model>(text, training);
    const auto texts_of = [&](const TextCorpus& part) {
        Texts texts;
        for (const auto& file : part.texts())
            if (const auto ids = benchmarks::passage(file, N);
                texts.size() < 4 && static_cast<Index>(ids.size()) == N)
                texts.push_back(heads_of(model, ids));
        return texts;
    };
    const Texts fit = texts_of(text), unseen = texts_of(held_out);
    std::printf(
        "# CompressiveMemory against exact attention\n"
        "\n"
        "Measured by `./run reports`: a model of %d layers of d %d, trained in %lld steps of %td × "
        "%td bytes on the pods of\n"
        "perl-doc; its layer of windowed attention (%d heads of %td, a window as long as the "
        "texts) gives queries, keys and\n"
        "values, rotated as the layer attends them. Relative RMS error of the outputs for the "
        "tokens from %td to %td of\n"
        "%zu held-out texts of %td bytes, all heads together, against exact attention over all "
        "tokens before. Pairs: what is\n"
        "kept, w + r + n_summary + 1. Tokens: what the window and the summaries reach back to; "
        "older ones are in the tombstone.\n"
        "\"Window alone\" is exact attention over as many of the last tokens, the rest forgotten. "
        "Learned: r pooling weights a\n"
        "head, least squares on %zu of the training texts.\n"
        "\n"
        "| w | n_summary | r | pairs | tokens | window alone | mean pooling | learned pooling |\n"
        "|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        config.n_layers, config.d_model, static_cast<long long>(training.steps), training.batch,
        training.length, config.n_heads, D, first_query, N - 1, unseen.size(), N, fit.size());
    for (const Budget& b : {Budget{16, 16, 4},
                            {16, 16, 16},
                            {32, 32, 4},
                            {32, 32, 16},
                            {64, 64, 4},
                            {64, 64, 8},
                            {64, 64, 16},
                            {128, 128, 2},
                            {128, 128, 4},
                            {128, 128, 8},
                            {256, 128, 2},
                            {256, 128, 4}})
        row(fit, unseen, b);
}

}  // namespace

int main(int argc, char** argv) {
    try {
        report(TextCorpus({argv + 1, argv + argc}));
    } catch (const Error& error) {
        std::fprintf(stderr, "compressive_memory_report: %s\n", error.what());
        return 1;
    }
}
