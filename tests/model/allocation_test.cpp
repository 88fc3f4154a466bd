// After construction nothing that computes allocates.
#include <memory>
#include <vector>

#include "hydralm/inference/batch_decoder.hpp"
#include "hydralm/inference/streaming.hpp"
#include "hydralm/model/standalone.hpp"
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/small_model.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

constexpr HydraConfig config{.vocab_size = 301,
                             .d_model = 64,
                             .n_layers = 2,
                             .n_heads = 4,
                             .swa_window = 100,
                             .swa_every = 2};
using Model = HydraLM<config>;

// What computes may be called where nothing may throw.
static_assert(noexcept(std::declval<const Model&>().forward(nullptr, Streams(nullptr, 0), 0,
                                                            Form::parallel,
                                                            std::declval<Arena&>())) &&
              noexcept(std::declval<const Model&>().head({}, {})));

template <class F>
long allocations_of(const F& f) {
    const long before = test::allocations();
    f();
    return test::allocations() - before;
}

}  // namespace

TEST_CASE("Allocations are counted", "[allocation]") {
    // Called by name: a compiler may leave out a new-expression whose result nobody needs.
    CHECK(allocations_of([] { ::operator delete(::operator new(10)); }) == 1);
    CHECK(allocations_of([] { const AlignedBuffer<float> some(10); }) == 1);
    CHECK(allocations_of([] { const auto some = std::make_unique<Model>(); }) > 1);
}

TEMPLATE_TEST_CASE("Prefill, logits and step do not allocate", "[allocation]", float, double) {
    using T = TestType;
    using Model = HydraLM<config, T>;
    const int threads_before = num_threads();
    for (const int threads : {1, 3}) {
        set_num_threads(threads);
        const Model model = random_model<Model>(1);
        const auto tokens = random_tokens(600, config.vocab_size, 1);
        std::vector<T> out(600 * config.vocab_size);
        const MatrixView<T> rows(out.data(), 600, config.vocab_size);
        auto state = model.new_state();
        auto other = model.new_state(1);
        // The first calls count, too.
        CHECK(allocations_of([&] { model.step(tokens[0], other); }) == 0);
        CHECK(allocations_of([&] { model.prefill(tokens, state); }) == 0);
        CHECK(allocations_of([&] { model.prefill(slice(tokens, 0, 3), state); }) == 0);
        CHECK(allocations_of([&] { model.logits(tokens, state, rows); }) == 0);
        CHECK(allocations_of([&] { model.logits(tokens, state, rows, Form::recurrent); }) == 0);
        CHECK(allocations_of([&] {
                  for (const token_id token : tokens) model.step(token, state);
              }) == 0);
        CHECK(allocations_of([&] { other = state; }) == 0);
        CHECK(allocations_of([&] { state.reset(); }) == 0);
        CHECK(allocations_of([&] { state.restore(other.bytes(), {}, other.position()); }) == 0);
    }
    set_num_threads(threads_before);
}

TEST_CASE("A model in memory of the caller's allocates nothing", "[allocation]") {
    alignas(64) static std::byte memory[Model::weight_bytes];
    CHECK(allocations_of([] { const Model model(memory); }) == 0);
}

TEST_CASE("Batched steps and scoring do not allocate", "[allocation]") {
    const Model model = random_model<Model>(2);
    const auto tokens = random_tokens(600, config.vocab_size, 2);
    BatchDecoder<Model> batch(model, 5);
    CHECK(allocations_of([&] {
              for (Index n = 0; n < 50; ++n) batch.step(slice(tokens, 5 * n, 5));
          }) == 0);
    BatchDecoder<Model> resting(model, 5, {.state = StateFormat::int16});
    CHECK(allocations_of([&] {
              for (Index n = 0; n < 50; ++n) resting.step(slice(tokens, 5 * n, 5));
          }) == 0);
    Scorer<Model> scorer(model);
    auto state = model.new_state();
    CHECK(allocations_of([&] {
              scorer.feed(tokens, state);
              scorer.feed(slice(tokens, 0, 7), state);
          }) == 0);
    CHECK(scorer.predictions() == 606);
    StreamingEngine<Model> engine(model);
    CHECK(allocations_of([&] {
              for (int chunk = 0; chunk < 4; ++chunk) engine.feed(tokens);
          }) == 0);
    StreamingEngine<Model> endless(model);
    std::vector<token_id> buffer(500);
    int chunks = 0;
    CHECK(allocations_of([&] {
              endless.run(
                  [&](std::span<token_id> out) {
                      std::copy_n(tokens.begin(), out.size(), out.begin());
                      return out.size();
                  },
                  buffer, [&](const StreamReport&) { return ++chunks < 20; });
          }) == 0);
    CHECK(endless.state().position() == 20 * 500);
}

TEST_CASE("A bounded bank, once full, does not allocate", "[allocation]") {
    constexpr HydraConfig remembering{.vocab_size = 301,
                                      .d_model = 64,
                                      .n_layers = 1,
                                      .n_heads = 4,
                                      .layer_types = {LayerType::retrieval},
                                      .retrieval_chunk_size = 8,
                                      .retrieval_top_k = 2};
    using Retrieving = HydraLM<remembering>;
    const auto model = random_model<Retrieving>(3);
    auto state =
        model.new_state(Retrieving::prefill_tile, {.exact_chunks = 3, .pooled_chunks = 70});
    const auto tokens = random_tokens(3000, 301, 3);
    model.prefill(tokens, state);
    CHECK(allocations_of([&] { model.prefill(tokens, state); }) == 0);
    CHECK(allocations_of([&] {
              for (Index n = 0; n < 700; ++n)
                  model.step(tokens[static_cast<std::size_t>(n)], state);
          }) == 0);
}

TEST_CASE("A mixer of its own does not allocate", "[allocation]") {
    const Standalone<GatedDeltaNet<float, 16>> mixer(
        GatedDeltaNet<float, 16>({.d_model = 32, .n_heads = 2}));
    auto state = mixer.new_state();
    std::vector<float> x(300 * 32), y(300 * 32);
    CHECK(allocations_of([&] {
              mixer.forward(MatrixView<const float>(x.data(), 300, 32),
                            MatrixView<float>(y.data(), 300, 32), state);
              mixer.step(std::span(x).first(32), std::span(y).first(32), state);
          }) == 0);
}
