// A model whose shape is read at run time trains as the one whose shape is a type: bit for bit.
#include "hydralm/inference/drafts.hpp"
#include "hydralm/inference/speculative.hpp"
#include "hydralm/training.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/runtime_blocks.hpp"
#include "support/small_model.hpp"
#include "support/thread_ranks.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

using Static = HydraLM<small_remembering, float>;
using Runtime = RuntimeModel<float>;

Runtime new_runtime() { return Runtime(small_remembering, SmallKernels{}); }

// Windows of random ids, the same for both.
class Windows : public BatchSource {
public:
    void next(Batch& batch) override {
        batch.streams = 2;
        batch.length = 30;
        batch.fresh = position_ % 2 == 0;
        batch.tokens = random_tokens(60, 53, position_);
        batch.labels = random_tokens(60, 53, position_ + 1000);
        ++position_;
    }
    std::uint64_t position() const override { return position_; }
    void seek(std::uint64_t position) override { position_ = position; }

private:
    std::uint64_t position_ = 0;
};

class FreshWindows : public Windows {
public:
    void next(Batch& batch) override {
        Windows::next(batch);
        batch.fresh = true;
    }
};

template <class Model>
std::vector<std::vector<float>> weights_of(const Model& model) {
    std::vector<std::vector<float>> all;
    model.get_parameters([&](const ParameterInfo&, std::span<const float> values) {
        all.emplace_back(values.begin(), values.end());
    });
    return all;
}

template <class Model>
std::vector<std::vector<float>> trained(Model& model, OptimiserKind kind, Keep keep) {
    initialise(model, 3, InitScheme::fan_in);
    TrainerOptions options;
    options.optimiser.kind = kind;
    options.keep = keep;
    Trainer<Model> trainer(model, options);
    Windows source;
    for (int step = 0; step < 4; ++step) trainer.step(source);
    return weights_of(model);
}

}  // namespace

TEST_CASE("A run-time model trains to the bits of the specialised one", "[runtime_training]") {
    for (const auto kind : {OptimiserKind::adamw, OptimiserKind::muon})
        for (const auto keep : {Keep::everything, Keep::block_inputs}) {
            Static model;
            Runtime runtime = new_runtime();
            const auto expected = trained(model, kind, keep), found = trained(runtime, kind, keep);
            REQUIRE(expected.size() == found.size());
            for (std::size_t i = 0; i < expected.size(); ++i) {
                INFO(Static::parameters[i].name());
                CHECK(same_bits(expected[i], found[i]));
            }
        }
}

TEST_CASE("Ranks train to the bits of one, sums begun behind the layers", "[runtime_training]") {
    // Heads of 12 in kernels of 12, and of 16, which pad: their gradient is final last.
    for (const bool pads : {false, true}) {
        const auto trained_on = [&](Ranks& ranks) {
            Runtime model = pads ? Runtime(small_remembering, WiderKernels{}) : new_runtime();
            initialise(model, 3, InitScheme::fan_in);
            TrainerOptions options;
            options.accumulate = 4;
            options.clip = 0.5;
            Trainer<Runtime> trainer(model, options, ranks);
            FreshWindows source;
            double loss = 0;
            for (int step = 0; step < 3; ++step) loss = trainer.step(source).loss;
            return std::pair(loss, weights_of(model));
        };
        const auto expected = trained_on(one_rank());
        for (const int count : {2, 4}) {
            std::vector<std::decay_t<decltype(expected)>> found(static_cast<std::size_t>(count));
            on_ranks(count, [&](Ranks& ranks) {
                found[static_cast<std::size_t>(ranks.rank())] = trained_on(ranks);
            });
            for (const auto& own : found) CHECK(own == expected);
        }
    }
}

TEST_CASE("What is final behind a layer goes before the layers that come before it",
          "[runtime_training]") {
    const Runtime model = new_runtime();
    const Index P = model.parameter_count;
    struct Begun : Ranks {
        int rank() const noexcept override { return 0; }
        int count() const noexcept override { return 2; }
        std::vector<Index> sizes;  // of the exchanges
        void exchange_elements(const void*, std::span<const Index> to, void*,
                               std::span<const Index>, std::size_t) override {
            sizes.push_back(to.back());
        }
    } ranks;
    PairwiseSum<float> batches(1, P);
    ParameterShare<float> share(ranks, {P / 3, P});
    std::vector<float> gradient(static_cast<std::size_t>(P));
    SumBehindLayers<float> sum(model, gradient, batches, share);
    Index first = 0, last_layers = 0;  // parameters before blocks.1, and from there on
    for (const ParameterInfo& info : model.parameters)
        (last_layers > 0 || info.name().starts_with("blocks.1.") ? last_layers : first) +=
            info.size();
    sum.after(3);
    sum.after(2);
    CHECK(ranks.sizes.empty());  // too few
    sum.after(1);
    REQUIRE(last_layers > least_bucket);
    CHECK(ranks.sizes == std::vector<Index>{last_layers});
    sum.after(0);
    sum.begin_rest();
    CHECK(ranks.sizes == std::vector<Index>{last_layers, first});
    CHECK(first + last_layers == P);
}

TEST_CASE("A model with matrices in bf16 is not trained", "[runtime_training]") {
    const Runtime model(small_remembering, SmallKernels{}, format_choice<float>(weights::BF16{}));
    check_error(
        [&] { Gradients<Runtime>(model, 1, 8); },
        {"embed.weight: expected weights of the model's scalar, to be trained, found bf16"});
}

TEST_CASE("The gradient of heads in wider kernels is that of the heads", "[runtime_training]") {
    Static model;
    Runtime padded(small_remembering, WiderKernels{});
    CHECK(padded.kernel_head_dim == 16);
    initialise(model, 6, InitScheme::fan_in);
    initialise(padded, 6, InitScheme::fan_in);
    const auto gradient = [](const auto& any, Keep keep) {
        using Model = std::decay_t<decltype(any)>;
        Gradients<Model> gradients(any, 2, 30, keep);
        gradients.refresh(any);
        const auto tokens = random_tokens(60, 53, 7), labels = random_tokens(60, 53, 8);
        for (int call = 0; call < 2; ++call) {  // the second adds to the first
            BatchStates<Model> states(any, 2);
            gradients.add(any, tokens, labels, states.streams(30), 1.0 / 60);
        }
        return std::vector<float>(gradients.values().begin(), gradients.values().end());
    };
    for (const Keep keep : {Keep::everything, Keep::block_inputs})
        check_close(gradient(padded, keep), gradient(model, keep), 1e-3, "gradient");
}

TEST_CASE("Losses of a run-time model are those of the specialised one", "[runtime_training]") {
    Static model;
    Runtime runtime = new_runtime();
    initialise(model, 4, InitScheme::normal);
    initialise(runtime, 4, InitScheme::normal);
    Windows source;
    CHECK(Evaluator<Static>(model, 2, 30).loss(model, source, 3) ==
          Evaluator<Runtime>(runtime, 2, 30).loss(runtime, source, 3));
}

TEST_CASE("Modules to draft with are trained and draft as those of the specialised model",
          "[runtime_training]") {
    static constexpr HydraConfig config = [] {
        HydraConfig c = small_hybrid;
        c.mtp_depth = 2;
        return c;
    }();
    using Drafting = HydraLM<config, float>;
    Drafting model;
    Runtime runtime(config, SmallKernels{});
    const auto expected = trained(model, OptimiserKind::adamw, Keep::everything),
               found = trained(runtime, OptimiserKind::adamw, Keep::everything);
    for (std::size_t i = 0; i < expected.size(); ++i) {
        INFO(Drafting::parameters[i].name());
        CHECK(same_bits(expected[i], found[i]));
    }
    const auto text = [](const auto& any) {
        using Model = std::decay_t<decltype(any)>;
        MtpDraft<Model> draft(any);
        SpeculativeDecoder<Model, MtpDraft<Model>> decoder(any, draft, 3);
        auto state = any.new_state();
        Sampler<float> sampler(53, {.temperature = 0.7, .seed = 5});
        std::vector<token_id> tokens;
        decoder.prefill(random_tokens(9, 53, 6), state);
        decoder.generate(state, sampler, 40,
                         [&](token_id token) { return tokens.push_back(token), true; });
        return std::pair(tokens, decoder.statistics().accepted);
    };
    CHECK(text(model) == text(runtime));
    const Runtime none = new_runtime();
    CHECK_THROWS_AS(MtpDraft<Runtime>(none), Error);
}
