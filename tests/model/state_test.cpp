// The state of a stream as a value: snapshots, forks, rollback, restoring; and weights as values.
#include <cmath>
#include <type_traits>
#include <vector>

#include "support/catch.hpp"
#include "support/small_model.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

using Model = HydraLM<small_remembering>;
constexpr Index V = small_remembering.vocab_size;

// What the stream gives from here on.
std::vector<float> go_on(const Model& model, Model::State& state) {
    const auto tokens = random_tokens(40, V, 9);
    auto logits = logits_in_pieces(model, state, slice(tokens, 0, 30));
    const auto steps = logits_by_step(model, state, slice(tokens, 30, 10));
    logits.insert(logits.end(), steps.begin(), steps.end());
    return logits;
}

}  // namespace

TEST_CASE("A copy of a state goes on exactly as the original", "[state]") {
    const Model model = random_model<Model>(1);
    const auto prompt = random_tokens(300, V, 1);
    auto state = model.new_state();
    model.prefill(prompt, state);
    const Model::State snapshot = state;
    const auto expected = go_on(model, state);
    REQUIRE(state.position() == 340);

    auto fork = snapshot;
    CHECK(fork.position() == 300);
    CHECK(same_bits(go_on(model, fork), expected));
    CHECK(same_state(fork, state));

    state = snapshot;  // rollback
    CHECK(state.position() == 300);
    CHECK(same_bits(go_on(model, state), expected));

    auto& self = state;
    state = snapshot;
    state = self;
    CHECK(same_bits(go_on(model, state), expected));

    auto small = model.new_state(1);  // into a state of less scratch
    small = snapshot;
    CHECK(same_bits(go_on(model, small), expected));

    auto source = snapshot;
    Model::State moved = std::move(source);
    CHECK(same_bits(go_on(model, moved), expected));
    moved = Model::State(snapshot);
    CHECK(same_bits(go_on(model, moved), expected));
    CHECK_THROWS_AS(model.step(1, source), Error);
    source = snapshot;  // a moved-from state may be assigned to
    CHECK(same_bits(go_on(model, source), expected));
}

TEST_CASE("A state restored from bytes goes on exactly", "[state]") {
    const Model model = random_model<Model>(2);
    auto state = model.new_state();
    model.prefill(random_tokens(77, V, 2), state);
    REQUIRE(static_cast<Index>(state.bytes().size()) == Model::state_bytes);
    const std::vector<std::byte> bytes(state.bytes().begin(), state.bytes().end());
    auto restored = model.new_state();
    model.prefill(random_tokens(5, V, 3), restored);
    restored.restore(bytes, state.bank_bytes(), 77);
    CHECK(same_bits(go_on(model, restored), go_on(model, state)));
}

TEST_CASE("A state fits its own model only", "[state]") {
    constexpr HydraConfig other{.vocab_size = 53, .d_model = 24, .n_layers = 2, .n_heads = 2};
    STATIC_REQUIRE_FALSE(std::is_convertible_v<HydraLM<other>::State, Model::State>);
    STATIC_REQUIRE_FALSE(
        std::is_convertible_v<HydraLM<small_remembering, double>::State, Model::State>);
    const Model model;
    auto state = model.new_state();
    const std::vector<std::byte> short_bytes(Model::state_bytes - 64, std::byte{1});
    try {
        state.restore(short_bytes, {}, 7);
        FAIL("accepted");
    } catch (const Error& error) {
        CHECK(error.detail().field == "state");
    }
    const std::vector<std::byte> bytes(state.bytes().begin(), state.bytes().end());
    try {
        state.restore(bytes, short_bytes, 7);
        FAIL("accepted");
    } catch (const Error& error) {
        CHECK(error.detail().field == "banks");
    }
    CHECK_THROWS_AS(state.restore(bytes, {}, -1), Error);
    CHECK(state.position() == 0);
    CHECK(same_state(state, model.new_state()));
}

TEST_CASE("What a caller throws leaves a stream behind the tile it was shown", "[state]") {
    const auto model = random_model<Model>(8);
    const auto tokens = random_tokens(3 * Model::prefill_tile, V, 8);
    auto whole = model.new_state(), state = model.new_state();
    const auto expected = model.prefill(tokens, whole);
    const auto fail_at = [](std::size_t at) {
        return [at](auto, std::size_t first) {
            if (first == at) throw std::runtime_error("full");
        };
    };
    constexpr auto tile = static_cast<std::size_t>(Model::prefill_tile);
    CHECK_THROWS_AS(model.run(tokens, state, Form::parallel, fail_at(tile)), std::runtime_error);
    CHECK(state.position() == 2 * Model::prefill_tile);
    CHECK(
        same_bits(model.prefill(slice(tokens, 2 * Model::prefill_tile, Model::prefill_tile), state),
                  expected));
    CHECK(same_state(state, whole));
}

TEST_CASE("A reset state is a new one", "[state]") {
    const Model model = random_model<Model>(3);
    auto used = model.new_state();
    model.prefill(random_tokens(300, V, 3), used);
    used.reset();
    auto fresh = model.new_state();
    CHECK(used.position() == 0);
    CHECK(same_state(used, fresh));
    CHECK(same_bits(go_on(model, used), go_on(model, fresh)));
}

TEST_CASE("Past 10⁷ tokens a stream goes on finite, alike in every form", "[state]") {
    using Double = HydraLM<small_hybrid, double>;
    const auto model = random_model<Double>(4);
    auto state = model.new_state();
    model.prefill(random_tokens(100, V, 4), state);
    const std::vector<std::byte> bytes(state.bytes().begin(), state.bytes().end());
    const auto tokens = random_tokens(300, V, 5);
    for (const std::int64_t position : {10000003LL, (1LL << 33) + 5}) {
        auto parallel = model.new_state(), recurrent = model.new_state();
        parallel.restore(bytes, {}, position);
        recurrent.restore(bytes, {}, position);
        const auto a = logits_in_pieces(model, parallel, tokens);
        const auto b = logits_by_step(model, recurrent, tokens);
        CHECK(parallel.position() == position + 300);
        double worst = 0;
        for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
        CHECK(worst < 1e-9);
    }
}

TEST_CASE("A model lives in memory of the caller's", "[state]") {
    alignas(64) static std::byte memory[Model::weight_bytes];
    STATIC_REQUIRE(Model::weight_bytes > Model::parameter_count * 4);
    Model model(memory);
    initialise(model, 5, InitScheme::fan_in);
    const Model own = random_model<Model>(5);
    auto a = model.new_state(), b = own.new_state();
    CHECK(same_bits(go_on(model, a), go_on(own, b)));

    // Another model over the same memory has the same weights, and so has a moved one.
    const Model again(memory);
    a.reset();
    b.reset();
    CHECK(same_bits(go_on(again, a), go_on(own, b)));
    const Model moved = std::move(model);
    a.reset();
    b.reset();
    CHECK(same_bits(go_on(moved, a), go_on(own, b)));

    try {
        const std::span<std::byte> too_small(memory, 100);
        const Model refused(too_small);
        FAIL("accepted");
    } catch (const Error& error) {
        CHECK(error.detail().field == "weight memory");
        CHECK(error.detail().found == "100 bytes, 0 beyond that alignment");
    }
    CHECK_THROWS_AS(Model(std::span(memory).subspan(1)), Error);
}

TEST_CASE("A model that was moved from is refused, and may be assigned to", "[state]") {
    auto source = random_model<Model>(5);
    auto state = source.new_state();
    BatchDecoder<Model> decoder(source, 1);
    const std::vector<float> expected = go_on(source, state);
    Model moved = std::move(source);

    const auto tokens = random_tokens(3, V, 5);
    std::vector<float> out(3 * static_cast<std::size_t>(V));
    const auto fill = [](const ParameterInfo&, auto) {};
    const std::string refusal =
        "hydralm: model: expected one with weights, found one that was moved from; use the model "
        "that has its weights now, or assign one to it";
    state.reset();
    CHECK_THROWS_WITH(source.prefill(tokens, state), refusal);
    CHECK_THROWS_WITH(source.step(1, state), refusal);
    CHECK_THROWS_WITH(source.logits(tokens, state, {out.data(), 3, V}), refusal);
    CHECK_THROWS_WITH(source.get_parameters(fill), refusal);
    CHECK_THROWS_WITH(source.set_parameters(fill), refusal);
    CHECK_THROWS_WITH(decoder.step(std::vector<token_id>{1}), refusal);
    CHECK(state.position() == 0);

    CHECK(same_bits(go_on(moved, state), expected));
    source = std::move(moved);
    CHECK_THROWS_WITH(moved.step(1, state), refusal);
    state.reset();
    CHECK(same_bits(go_on(source, state), expected));
}
