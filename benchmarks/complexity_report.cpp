// Every mixer, the MLP, the head and a module of multi-token prediction at d 128, for
// scripts/complexity.py: without arguments the formulas of cost.hpp and the bytes of states, one
// row a line; with a row's number its work, inside measured_region, where valgrind counts.
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cost.hpp"
#include "hydralm/hydralm.hpp"
#include "hydralm/layers/full_attention.hpp"
#include "hydralm/model/mtp.hpp"
#include "hydralm/model/standalone.hpp"

using namespace hydralm;
using namespace hydralm::benchmarks;

extern "C" [[gnu::noinline]] void measured_region(const std::function<void()>& work) { work(); }

namespace {

constexpr Index d = 128, H = 4, D = 32, W = 128, C = 32, K = 4, kept = 4, V = 256, hidden = 384;
constexpr HydraConfig shape{.vocab_size = V,
                            .d_model = d,
                            .n_heads = H,
                            .head_dim = D,
                            .dn_short_conv_kernel = K,
                            .swa_window = W,
                            .retrieval_chunk_size = C,
                            .retrieval_top_k = kept};
constexpr HydraConfig grouped = [] {
    HydraConfig c = shape;
    c.n_kv_heads = 2;
    return c;
}();

// What one row does: its tokens, their FLOP and reads by formula, the state behind them.
struct Row {
    std::string name;
    Index before, tokens;
    bool step;
    double flop, read, state;             // of a token; of all
    std::function<double(bool)> measure;  // runs it (true: with the work), returns state bytes
};

std::vector<float> random_rows(Index rows, Index cols) {
    Random random(1);
    std::vector<float> values(static_cast<std::size_t>(rows * cols));
    for (float& x : values) x = static_cast<float>(random.normal());
    return values;
}

template <class Mixer>
void add(std::vector<Row>& rows, const char* name, Mixer mixer, Index before, double weights,
         const std::function<double(double)>& flop, const std::function<double(double)>& read,
         const std::function<double(double)>& state, const BankPolicy& policy = {}) {
    for (const bool step : {false, true}) {
        const Index tokens = step ? 16 : 256;
        Row row{name, before, tokens, step, 2 * weights, sizeof(float) * weights, 0, {}};
        for (Index t = before; t < before + tokens; ++t) {
            row.flop += flop(static_cast<double>(t)) / static_cast<double>(tokens);
            row.read += read(static_cast<double>(t)) / static_cast<double>(tokens);
        }
        row.state = state(static_cast<double>(before + tokens));
        row.measure = [=](bool work) {
            Standalone<Mixer> layer(mixer);
            initialise(layer, 1, InitScheme::fan_in);
            auto stream = layer.new_state(256, policy);
            const Index all = before + tokens;
            const auto x = random_rows(all, d);
            std::vector<float> y(x.size());
            const auto part = [&](Index first, Index count, Form form) {
                layer.forward({x.data() + first * d, count, d}, {y.data() + first * d, count, d},
                              stream, form);
            };
            part(0, before, Form::parallel);
            const auto rest = [&] {
                if (step)
                    for (Index t = before; t < all; ++t) part(t, 1, Form::recurrent);
                else part(before, tokens, Form::parallel);
            };
            if (work) measured_region(rest);
            else rest();
            return static_cast<double>(stream.size());
        };
        rows.push_back(std::move(row));
    }
}

void add_mixer(std::vector<Row>& rows, const char* name, auto mixer, const HydraConfig& c,
               LayerType type, Index before, const BankPolicy& policy = {}) {
    const MixerCost<float> cost{c, type, policy};
    add(
        rows, name, mixer, before, cost.weights(), [=](double t) { return cost.mixing_flop(t); },
        [=](double t) { return cost.read_bytes(t); }, [=](double t) { return cost.state_bytes(t); },
        policy);
}

// A product with weights [out, in], of 256 rows or of 1.
void add_product(std::vector<Row>& rows, const char* name, Index out, Index in) {
    for (const bool step : {false, true}) {
        const Index tokens = step ? 16 : 256;
        const auto weights = static_cast<double>(out * in);
        rows.push_back({name, 0, tokens, step, 2 * weights, 4 * weights, 0, [=](bool work) {
                            const auto x = random_rows(tokens, in), w = random_rows(out, in);
                            std::vector<float> y(static_cast<std::size_t>(tokens * out));
                            using Weights = weights::PackedMatrix<float>;
                            AlignedBuffer<float> storage(Weights::storage_size(out, in));
                            const auto packed = Weights::pack({w.data(), out, in}, storage.data());
                            const Index count = step ? 1 : tokens;
                            const auto run = [&] {
                                for (Index t = 0; t < tokens; t += count)
                                    kernels::matmul(
                                        MatrixView<const float>(x.data() + t * in, count, in),
                                        packed, MatrixView<float>(y.data() + t * out, count, out));
                            };
                            if (work) measured_region(run);
                            else run();
                            return 0.0;
                        }});
    }
}

std::vector<Row> all_rows() {
    std::vector<Row> rows;
    const auto retrieval = RetrievalAttention<float, D, C>(RuntimeRetrievalShape{d, H, kept, K});
    add_mixer(rows, "Gated DeltaNet",
              GatedDeltaNet<float, D>(RuntimeDeltaNetShape{d, H, K, true, true, false}), shape,
              LayerType::deltanet, 256);
    add_mixer(rows, "sliding window, 128",
              SlidingWindowAttention<float, D>(RuntimeWindowShape{d, H, W, 1e4}), shape,
              LayerType::swa, 256);
    add_mixer(rows, "retrieval, flat", retrieval, shape, LayerType::retrieval, 2048);
    add_mixer(rows, "retrieval, flat", retrieval, shape, LayerType::retrieval, 8192);
    add_mixer(rows, "retrieval, two levels, 1 group open", retrieval, shape, LayerType::retrieval,
              8192, {.open_groups = 1});
    add_mixer(rows, "retrieval, bounded, 16 exact and 16 means", retrieval, shape,
              LayerType::retrieval, 8192, {.exact_chunks = 16, .pooled_chunks = 16});
    add_mixer(rows, "full", FullAttention<float, D>(RuntimeFullShape{d, H, 0, 1e4}), shape,
              LayerType::full, 2048);
    add_mixer(rows, "full, 2 groups of keys",
              FullAttention<float, D>(RuntimeFullShape{d, H, 2, 1e4}), grouped, LayerType::full,
              2048);
    const auto nothing = [](double) { return 0.0; };
    add(rows, "MLP, 384 wide", SwiGLU<float>(RuntimeMlpShape{d, hidden}), 0, mlp_weights(shape),
        nothing, nothing, nothing);
    add_product(rows, "head, V 256", V, d);
    add_product(rows, "MTP's projection, beside an MLP and a head", d, 2 * d);
    return rows;
}

}  // namespace

int main(int argc, char** argv) {
    set_num_threads(1);
    const auto rows = all_rows();
    if (argc > 1) return rows.at(std::strtoul(argv[1], nullptr, 10)).measure(true) < 0;
    for (const Row& row : rows)
        std::printf("%s\t%td\t%td\t%d\t%.17g\t%.17g\t%.17g\t%.17g\n", row.name.c_str(), row.before,
                    row.tokens, row.step, row.flop, row.read, row.state, row.measure(false));
}
