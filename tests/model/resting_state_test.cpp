// States whose delta rule memory rests in int16 between calls.
#include <cmath>
#include <utility>
#include <vector>

#include "hydralm/inference/batch_decoder.hpp"
#include "hydralm/inference/prefix_cache.hpp"
#include "support/catch.hpp"
#include "support/small_model.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

const BankPolicy resting{.state = StateFormat::int16};

template <class T>
double relative_error(const std::vector<T>& found, const std::vector<T>& expected) {
    double error = 0, size = 0;
    for (std::size_t i = 0; i < found.size(); ++i) {
        error += std::pow(static_cast<double>(found[i]) - static_cast<double>(expected[i]), 2);
        size += std::pow(static_cast<double>(expected[i]), 2);
    }
    return std::sqrt(error / size);
}

// All arrays of the state.
template <class Model>
auto arrays(const Model& model, typename Model::State& state) {
    std::vector<typename Model::Scalar> all;
    model.export_state(state, [&](const std::string&, const auto&, const auto& values) {
        all.insert(all.end(), values.begin(), values.end());
    });
    return all;
}

// The bits of what is written, whatever the cut, whoever computes it.
template <class Model>
void check_values(const Model& model) {
    const auto tokens = random_tokens(600, Model::vocab_size(), 1);
    auto state = model.new_state(256, resting);
    const auto logits = logits_in_pieces(model, state, slice(tokens, 0, 520));
    CHECK(state.rests());

    SECTION("a prefill cut at multiples of 256") {
        auto cut = model.new_state(256, resting);
        CHECK(same_bits(logits_in_pieces(model, cut, slice(tokens, 0, 520), {256, 512}), logits));
        CHECK(same_state(cut, state));
    }
    SECTION("copies, snapshots and roll-back") {
        const StreamMemory snapshot = state;
        const auto before = arrays(model, state);
        auto copy = state;
        CHECK(same_bits(arrays(model, copy), before));
        const auto rest = slice(tokens, 520, 80);
        const auto expected = logits_by_step(model, state, rest);
        CHECK(same_bits(logits_by_step(model, copy, rest), expected));
        static_cast<StreamMemory&>(state) = snapshot;
        CHECK(same_bits(arrays(model, state), before));
        CHECK(same_bits(logits_by_step(model, state, rest), expected));
        auto other = model.new_state();  // of the other format
        other = copy;
        CHECK(same_state(other, state));
        static_cast<StreamMemory&>(other) = StreamMemory(model.new_memory());
        CHECK_FALSE(other.rests());
        static_cast<StreamMemory&>(other) = snapshot;  // awake, for who computes is
        CHECK(same_bits(arrays(model, other), before));
        static_cast<StreamMemory&>(other) = StreamMemory(snapshot);
        CHECK(same_bits(arrays(model, other), before));
        CHECK(same_bits(logits_by_step(model, other, rest), expected));
        auto moved = std::move(other);
        CHECK(same_state(moved, state));
        CHECK_THROWS_AS(model.step(1, other), Error);
        auto copy_of_none = other;
        CHECK_THROWS_AS(model.step(1, copy_of_none), Error);
        copy_of_none = moved;
        CHECK(same_bits(arrays(model, copy_of_none), arrays(model, moved)));
        state.reset();
        CHECK(same_bits(logits_in_pieces(model, state, slice(tokens, 0, 520)), logits));
    }
    SECTION("bytes that were kept elsewhere") {
        auto restored = model.new_state(256, resting);
        restored.restore(std::as_const(state).bytes(), state.bank_bytes(), state.position());
        CHECK(same_bits(arrays(model, restored), arrays(model, state)));
        CHECK(same_state(restored, state));
        auto exact = model.new_state();
        CHECK_THROWS_AS(
            exact.restore(std::as_const(state).bytes(), state.bank_bytes(), state.position()),
            Error);
    }
    SECTION("what is computed differs by what rounding takes") {
        auto exact = model.new_state();
        const double error =
            relative_error(logits, logits_in_pieces(model, exact, slice(tokens, 0, 520)));
        CHECK(error < 3e-4);
        CHECK(error > 0);
        auto steps = model.new_state(256, resting), exact_steps = model.new_state();
        const auto by_step = logits_by_step(model, steps, slice(tokens, 0, 520));
        const auto without = logits_by_step(model, exact_steps, slice(tokens, 0, 520));
        const double each = relative_error(by_step, without);
        CHECK(each < 3e-4);
        CHECK(each > 0);
        CHECK(relative_error(by_step, logits) < 6e-4);
    }
}

}  // namespace

TEST_CASE("A resting state of float is a value", "[resting]") {
    check_values(random_model<HydraLM<small_remembering>>(1));
}
TEST_CASE("A resting state of double is a value", "[resting]") {
    check_values(random_model<HydraLM<small_hybrid, double>>(1));
}

TEST_CASE("Of a delta rule's memory half the bytes are carried on", "[resting]") {
    using Model = HydraLM<small_hybrid>;  // two deltanet layers: H 2, D 12
    constexpr Index rows = 2 * 12, memory = arena_bytes<float>(rows * 12),
                    at_rest = arena_bytes<std::int16_t>(rows * 12) + arena_bytes<float>(rows);
    const Model model = random_model<Model>(2);
    const StreamMemory exact = model.new_memory(), half = model.new_memory(resting);
    CHECK(exact.size() == Model::state_bytes);
    CHECK(half.size() == Model::state_bytes - 2 * (memory - at_rest));
    CHECK(half.rests());
    CHECK_FALSE(exact.keeps_as(half));
    CHECK(half.keeps_as(model.new_memory(resting)));
    CHECK_NOTHROW(half.expect_bytes(Model::state_bytes));
    CHECK_THROWS_AS(half.expect_bytes(half.size()), Error);
}

TEST_CASE("Resting streams in a batch and behind kept prefixes have the bits of one alone",
          "[resting]") {
    using Model = HydraLM<small_remembering>;
    const Model model = random_model<Model>(3);
    const auto tokens = random_tokens(300, Model::vocab_size(), 4);
    BatchDecoder<Model> batch(model, 2);
    auto alone = model.new_state(256, resting);
    model.prefill(slice(tokens, 0, 290), alone);
    const Index tile = batch.state(0).tile();
    batch.state(0) = alone;
    CHECK(batch.state(0).tile() == tile);
    REQUIRE(tile != alone.tile());
    for (const token_id token : slice(tokens, 290, 10)) {
        const auto row = batch.step(std::vector{token, token_id{1}});
        const auto expected = model.step(token, alone);
        REQUIRE(same_bits(std::span<const float>(row.row(0), expected.size()), expected));
    }
    CHECK(same_state(batch.state(0), alone));
    CHECK_FALSE(batch.state(1).rests());

    PrefixCache<Model> cache(model, 1 << 24);
    auto state = model.new_state(256, resting), exact = model.new_state();
    cache.prefill(tokens, exact);
    cache.prefill(tokens, state);
    CHECK(cache.statistics().resumed == 0);  // another format
    const StreamMemory after = state;
    cache.prefill(tokens, state);
    CHECK(cache.statistics().resumed == 256);
    CHECK(same_state(state, after));
    auto small = model.new_state(64, resting);  // rounded behind other tokens
    cache.prefill(tokens, small);
    CHECK(cache.statistics().resumed == 256);
    cache.prefill(tokens, small);
    CHECK(cache.statistics().resumed == 512);
}

TEST_CASE("Tokens taken back from a resting state were never fed", "[resting]") {
    using Model = HydraLM<small_remembering>;
    const Model model = random_model<Model>(5);
    const auto tokens = random_tokens(120, Model::vocab_size(), 6);
    constexpr Index N = 7;
    AlignedBuffer<std::byte> memory(Model::stack.history_bytes(N));
    auto start = model.new_state(256, resting);
    model.prefill(slice(tokens, 0, 100), start);
    for (Index kept = 1; kept < N; ++kept) {
        auto state = start, expected = start;
        model.prefill(slice(tokens, 100, kept), expected, Form::recurrent);
        state.reserve(N);
        Arena history(memory.span()), again(memory.span()), arena(state.workspace());
        Stream stream = state.stream();
        stream.history = &history;
        model.forward(tokens.data() + 100, Streams(&stream, 1), N, Form::recurrent, arena);
        Model::stack.rollback(stream, N, kept, again);
        state.advance(kept);
        CHECK(same_bits(std::as_const(state).bytes(), std::as_const(expected).bytes()));
    }
}
