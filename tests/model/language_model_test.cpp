// Models written as expressions: the same as a config's where they say the same, and with layers of
// a user's own.
#include "../../examples/decayed_attention.hpp"

#include "hydralm/model/standalone.hpp"
#include "support/catch.hpp"
#include "support/small_model.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

constexpr Index d = 24;
template <Real T>
using Norm = RmsNorm<T, NormShape<d>>;
template <Real T>
using Mlp = SwiGLU<T, MlpShape<d, 65>>;
template <Real T>
using Linear = Block<GatedDeltaNet<T, 12, 0, DeltaNetShape<d, 2>>, Mlp<T>, Norm<T>>;
template <Real T>
using Local = Block<SlidingWindowAttention<T, 12, 0, WindowShape<d, 2, 24>>, Mlp<T>, Norm<T>>;
template <Real T>
using Far = Block<RetrievalAttention<T, 12, 13, RetrievalShape<d, 2, 64>>, Mlp<T>, Norm<T>>;
template <Real T>
using Own = Block<my::DecayedAttention<T, d, 2>, Mlp<T>, Norm<T>>;

// What small_hybrid spells, and a stack with a mixer of the examples.
using Spelled = LanguageModel<Vocabulary<53>, Stack<Repeat<2, Linear<float>>, Local<float>>>;
template <Real T>
using Mixed = LanguageModel<Vocabulary<53, untied>,
                            Stack<Repeat<2, Linear<T>, Own<T>>, Far<T>, Repeat<1, Own<T>>>>;

static_assert(std::is_base_of_v<Spelled, HydraLM<small_hybrid>>);
static_assert(Mixed<float>::layers == 6 && Mixed<float>::stack.first_misfit() == -1);
static_assert(Module<my::DecayedAttention<float, d, 2>> && Module<Mlp<float>> &&
              !Module<Norm<float>>);
static_assert(StackOf<Linear<float>, Local<float>, Far<float>>::rolls_back);

template <Real T>
void check_forms(double bound) {
    const auto model = random_model<Mixed<T>>(3);
    const auto tokens = random_tokens(70, 53, 3);
    auto whole = model.new_state(), pieces = model.new_state(), steps = model.new_state();
    const auto expected = logits_in_pieces(model, whole, tokens);
    check_close(logits_in_pieces(model, pieces, tokens, {1, 8, 9, 40}), expected, bound, "pieces");
    check_close(logits_by_step(model, steps, tokens), expected, bound, "steps");
    check_close(logits_in_pieces(model, steps, tokens), logits_in_pieces(model, pieces, tokens),
                bound, "carried on");
}

}  // namespace

TEST_CASE("A spelled model is that of the config it spells, bit for bit", "[language_model]") {
    const auto named = random_model<HydraLM<small_hybrid>>(5);
    const auto spelled = random_model<Spelled>(5);
    const auto tokens = random_tokens(60, 53, 5);
    auto a = named.new_state();
    auto b = spelled.new_state();
    CHECK(same_bits(logits_in_pieces(named, a, tokens), logits_in_pieces(spelled, b, tokens)));
    CHECK(same_state(a, b));
}

TEST_CASE("Repeated layers are named one after the other", "[language_model]") {
    std::vector<std::string> mixers;
    for (const ParameterInfo& info : Mixed<float>::parameters)
        if (info.name().ends_with("mixer.decay")) mixers.emplace_back(info.name());
    CHECK(mixers == std::vector<std::string>{"blocks.1.mixer.decay", "blocks.3.mixer.decay",
                                             "blocks.5.mixer.decay"});
    CHECK(Mixed<float>::parameters.back().name() == "lm_head.weight");
}

TEST_CASE("With a mixer of a user's own, prefill, pieces and steps agree", "[language_model]") {
    check_forms<float>(2e-4);
    check_forms<double>(1e-10);
}

TEST_CASE("A changed future changes no past, whatever the mixer", "[language_model]") {
    const auto model = random_model<Mixed<double>>(7);
    auto tokens = random_tokens(40, 53, 7);
    auto a = model.new_state(), b = model.new_state();
    const auto before = logits_in_pieces(model, a, tokens);
    tokens[30] = (tokens[30] + 1) % 53;
    const auto after = logits_in_pieces(model, b, tokens);
    CHECK(same_bits(std::span(before).first(30 * 53), std::span(after).first(30 * 53)));
    CHECK_FALSE(same_bits(std::span(before).subspan(30 * 53), std::span(after).subspan(30 * 53)));
}

TEST_CASE("A mixer of a user's own takes tokens back, bit for bit", "[language_model]") {
    using Model = Mixed<float>;
    const auto model = random_model<Model>(9);
    const auto tokens = random_tokens(30, 53, 9);
    constexpr Index N = 6;
    for (Index kept = 0; kept <= N; ++kept) {
        auto state = model.new_state(), expected = model.new_state();
        model.prefill(slice(tokens, 0, 20), state);
        model.prefill(slice(tokens, 0, 20), expected);
        AlignedBuffer<std::byte> memory(Model::stack.history_bytes(N)),
            workspace(Model::workspace_bytes(1, N, Form::recurrent));
        Arena history(memory.span()), arena(workspace.span()), back(memory.span());
        state.reserve(N);
        Stream stream = state.stream();
        stream.history = &history;
        model.forward(tokens.data() + 20, Streams(&stream, 1), N, Form::recurrent, arena);
        Model::stack.rollback(stream, N, kept, back);
        state.advance(kept);
        for (Index n = 0; n < kept; ++n)
            model.step(tokens[static_cast<std::size_t>(20 + n)], expected);
        INFO("kept " << kept);
        CHECK(same_bits(state.bytes(), expected.bytes()));
    }
}
