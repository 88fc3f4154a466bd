// Optimisers: golden and known Newton–Schulz, steps worked by hand in double, the rate's schedule.
#include "hydralm/training/optimiser.hpp"

#include <array>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "hydralm/core/parallel.hpp"
#include "hydralm/core/random.hpp"
#include "hydralm/model/hydra_lm.hpp"
#include "hydralm/training/learning_rate.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/golden.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

constexpr HydraConfig config{.vocab_size = 7,
                             .d_model = 8,
                             .n_layers = 2,
                             .n_heads = 2,
                             .mlp_multiple_of = 4,
                             .swa_window = 5,
                             .swa_every = 2,
                             .tie_embeddings = false};
using Model = HydraLM<config, double>;

template <class T>
std::vector<T> orthogonalised(std::vector<T> values, Index rows, Index cols) {
    AlignedBuffer<std::byte> memory(newton_schulz_workspace_bytes<T>(rows, cols));
    Arena arena(memory.span());
    newton_schulz(MatrixView<T>(values.data(), rows, cols), arena);
    return values;
}

template <class T>
void check_golden(double bound) {
    const GoldenFile file = read_golden("muon/newton_schulz.safetensors");
    for (const std::string shape : {"wide", "tall", "square"}) {
        const auto& input = file[shape + ".input"];
        check_close(orthogonalised(input.as<T>(), input.shape[0], input.shape[1]),
                    file[shape + ".orthogonalised"].values, bound, shape);
    }
}

// The five steps as they are written.
std::vector<double> stepped(const std::vector<double>& values, Index rows, Index cols) {
    using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    Matrix x = Eigen::Map<const Matrix>(values.data(), rows, cols);
    if (rows > cols) x.transposeInPlace();
    x /= x.norm() + 1e-7;
    for (int i = 0; i < 5; ++i) {
        const Matrix a = x * x.transpose();
        x = (3.4445 * x + (-4.7750 * a + 2.0315 * a * a) * x).eval();
    }
    if (rows > cols) x.transposeInPlace();
    return {x.data(), x.data() + x.size()};
}

// Values that repeat nowhere, of both signs.
std::vector<double> sample(Index size, std::uint64_t seed) {
    Random random(seed);
    std::vector<double> values(static_cast<std::size_t>(size));
    for (double& value : values) value = random.normal();
    return values;
}

}  // namespace

TEST_CASE("Newton-Schulz agrees with the golden vectors", "[optimiser]") {
    check_golden<double>(1e-9);
    check_golden<float>(1e-3);
}

TEST_CASE("Newton-Schulz maps singular values as its polynomial does", "[optimiser]") {
    // A diagonal matrix stays diagonal: each value goes through the polynomial five times.
    const std::vector<double> diagonal{3.0, -1.0, 0.5, 0.02};
    double norm = 0.0;
    for (const double s : diagonal) norm += s * s;
    norm = std::sqrt(norm) + 1e-7;
    std::vector<double> matrix(4 * 6, 0.0), expected(4 * 6, 0.0);
    for (std::size_t i = 0; i < 4; ++i) {
        matrix[i * 6 + i] = diagonal[i];
        double s = diagonal[i] / norm;
        for (int k = 0; k < 5; ++k)
            s = 3.4445 * s - 4.7750 * s * s * s + 2.0315 * s * s * s * s * s;
        expected[i * 6 + i] = s;
        CHECK(std::abs(s) > 0.3);
        CHECK(std::abs(s) < 1.3);
    }
    check_close(orthogonalised(matrix, 4, 6), expected, 1e-12, "diagonal");
    const std::vector<double> zero(12, 0.0);
    CHECK(orthogonalised(zero, 4, 3) == zero);
}

TEST_CASE("Newton-Schulz is its five steps on every shape and any number of threads",
          "[optimiser]") {
    const int before = num_threads();
    const std::array<std::pair<Index, Index>, 8> shapes{
        {{1, 1}, {1, 7}, {9, 1}, {33, 47}, {48, 48}, {130, 65}, {97, 200}, {149, 149}}};
    for (const auto& [rows, cols] : shapes) {
        const std::string shape = std::to_string(rows) + " x " + std::to_string(cols);
        const std::vector<double> matrix = sample(rows * cols, 7);
        const std::vector<double> expected = stepped(matrix, rows, cols);
        check_close(orthogonalised(matrix, rows, cols), expected, 1e-10, shape);
        const std::vector<float> rounded(matrix.begin(), matrix.end());
        set_num_threads(1);
        const std::vector<float> alone = orthogonalised(rounded, rows, cols);
        check_close(alone, expected, 1e-3, shape + ", float");
        set_num_threads(3);
        CHECK(orthogonalised(rounded, rows, cols) == alone);
        set_num_threads(before);
    }
    // Of one singular value: Q is a⁵ = 485 beside it, and roundings of as much remain.
    std::vector<float> one;
    for (int i = 0; i < 60; ++i)
        for (int j = 0; j < 80; ++j)
            one.push_back(static_cast<float>(std::sin(1.0 + i) * std::cos(2.0 * j)));
    const std::vector<double> wide(one.begin(), one.end());
    check_close(orthogonalised(wide, 60, 80), stepped(wide, 60, 80), 1e-9, "rank 1");
    check_close(orthogonalised(one, 60, 80), stepped(wide, 60, 80), 5e-3, "rank 1, float");
}

TEST_CASE("AdamW and Muon make the steps worked by hand", "[optimiser]") {
    for (const auto kind : {OptimiserKind::adamw, OptimiserKind::muon}) {
        OptimiserOptions options;
        options.kind = kind;
        Optimiser<Model> optimiser(Model(), options);
        const Index size = Model::parameter_count;
        std::vector<double> w = sample(size, 1), expected = w;
        std::vector<double> m(w.size(), 0.0), v(w.size(), 0.0);
        for (int t = 1; t <= 3; ++t) {
            const auto g = sample(size, 10 + static_cast<std::uint64_t>(t));
            const double scale = 0.5 + 0.25 * t;
            optimiser.step(w, g, scale);
            std::size_t first = 0;
            for (const auto& info : Model::parameters) {
                const auto n = static_cast<std::size_t>(info.size());
                const std::string_view group = hydralm::name(info.law.group);
                if (kind == OptimiserKind::muon && group == "muon") {
                    const auto rows = static_cast<std::size_t>(info.rows() / info.parts.count),
                               cols = static_cast<std::size_t>(info.cols());
                    for (std::size_t p = first; p < first + n; p += rows * cols) {
                        std::vector<double> update(rows * cols);
                        for (std::size_t i = 0; i < update.size(); ++i) {
                            m[p + i] = 0.95 * m[p + i] + g[p + i];
                            update[i] = g[p + i] + 0.95 * m[p + i];
                        }
                        update = orthogonalised(update, static_cast<Index>(rows),
                                                static_cast<Index>(cols));
                        const double shape =
                            rows > cols
                                ? std::sqrt(static_cast<double>(rows) / static_cast<double>(cols))
                                : 1.0;
                        for (std::size_t i = 0; i < update.size(); ++i)
                            expected[p + i] -= 5e-3 * scale * shape * update[i];
                    }
                } else {
                    const std::string name(info.name());
                    const bool plain = name.find("norm") != std::string::npos ||
                                       name.ends_with(".bias") || name == "embed.weight";
                    for (std::size_t i = first; i < first + n; ++i) {
                        m[i] = 0.9 * m[i] + 0.1 * g[i];
                        v[i] = 0.95 * v[i] + 0.05 * g[i] * g[i];
                        const double rate = 3e-4 * scale;
                        if (!plain) expected[i] -= rate * 0.1 * expected[i];
                        expected[i] -= rate * (m[i] / (1 - std::pow(0.9, t))) /
                                       (std::sqrt(v[i] / (1 - std::pow(0.95, t))) + 1e-8);
                    }
                }
                first += n;
            }
            check_close(w, expected, 1e-12, "step " + std::to_string(t));
        }
        CHECK(optimiser.steps() == 3);
    }
}

TEST_CASE("Parameters are routed by rule", "[optimiser]") {
    for (const auto& info : Model::parameters) {
        const std::string name(info.name());
        const bool matrix = name.find("qkv_proj") != std::string::npos ||
                            name.find("o_proj") != std::string::npos ||
                            name.find("w_fused") != std::string::npos ||
                            name.find("w_down") != std::string::npos;
        INFO(name);
        CHECK(hydralm::name(info.law.group) == std::string(matrix ? "muon" : "adamw"));
    }
}

TEST_CASE("The rate warms up, then falls along a cosine", "[optimiser]") {
    const LearningRate rate{.peak = 1.0, .least = 0.1, .warmup = 4, .total = 12};
    CHECK(rate(0) == 0.25);
    CHECK(rate(3) == 1.0);
    CHECK(rate(4) == 1.0);
    CHECK(rate(8) == Approx(0.55));
    CHECK(rate(12) == Approx(0.1));
    CHECK(rate(100) == Approx(0.1));
    const LearningRate held{.peak = 2.0, .least = 1.0, .warmup = 2, .total = 10, .hold = 6};
    CHECK(held(1) == 2.0);
    CHECK(held(5) == 2.0);
    CHECK(held(6) == 2.0);
    CHECK(held(8) == Approx(1.5));
    CHECK(held(10) == Approx(1.0));
    CHECK(LearningRate{.peak = 2.0, .total = 1}(0) == 2.0);
}

TEST_CASE("The norm of a gradient shows what is not finite, and scales", "[optimiser]") {
    std::vector<float> g(70001, 0.0F);
    g[5] = 3.0F;
    g[70000] = 4.0F;
    CHECK(gradient_norm<float>(g) == 5.0);
    scale_gradient<float>(g, 0.5);
    CHECK(g[70000] == 2.0F);
    CHECK(gradient_norm<float>(std::span<const float>()) == 0.0);
    g[60000] = std::numeric_limits<float>::quiet_NaN();
    CHECK_FALSE(std::isfinite(gradient_norm<float>(g)));
}
