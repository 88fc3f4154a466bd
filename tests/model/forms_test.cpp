// One function in three forms: whole texts, pieces, steps; what is bit for bit and what is to
// rounding; causality.
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/small_model.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

constexpr Index N = 600;  // two tiles of prefill and a part of one
constexpr Index V = small_hybrid.vocab_size;

template <class T>
constexpr double bound = sizeof(T) == 4 ? 2e-4 : 1e-10;

template <class Model>
void check_forms_agree() {
    using T = typename Model::Scalar;
    const Model model = random_model<Model>(1);
    const auto tokens = random_tokens(N, V, 1);
    auto state = model.new_state();
    const auto whole = logits_in_pieces(model, state, tokens);
    REQUIRE(state.position() == N);
    for (const std::vector<Index>& ends : std::vector<std::vector<Index>>{
             {1}, {63, 64, 65}, {255, 257}, {100, 100, 599}, {7, 8, 9, 300}}) {
        auto pieces = model.new_state();
        check_close(logits_in_pieces(model, pieces, tokens, ends), whole, bound<T>,
                    "pieces, first " + std::to_string(ends.front()));
        REQUIRE(pieces.position() == N);
    }
    auto stepped = model.new_state();
    const auto steps = logits_by_step(model, stepped, tokens);
    check_close(steps, whole, bound<T>, "step");
    auto prefilled = model.new_state();
    const auto last = model.prefill(tokens, prefilled);
    CHECK(same_bits(last, std::span(whole).last(V)));
    CHECK(same_state(prefilled, state));

    // The recurrent form and steps are the same bits, whatever the scratch of the state.
    for (const Index tile : {1, 64, 256}) {
        auto recurrent = model.new_state(tile);
        CHECK(same_bits(logits_in_pieces(model, recurrent, tokens, {5, 300}, Form::recurrent),
                        steps));
        CHECK(same_state(recurrent, stepped));
    }
    // Forms take turns on one state.
    auto mixed = model.new_state();
    model.prefill(slice(tokens, 0, 301), mixed);
    for (Index n = 301; n < 333; ++n) model.step(tokens[static_cast<std::size_t>(n)], mixed);
    check_close(model.prefill(slice(tokens, 333, N - 333), mixed), std::span(whole).last(V),
                bound<T>, "in turns");
}

template <class Model>
void check_cuts_and_tiles() {
    const Model model = random_model<Model>(2);
    const auto tokens = random_tokens(N, V, 2);
    auto state = model.new_state();
    const auto whole = logits_in_pieces(model, state, tokens);
    for (const std::vector<Index>& ends : std::vector<std::vector<Index>>{
             {256}, {512}, {256, 512}, {0, 256, 256}, {8, 16, 200}, {264, 328}}) {
        auto pieces = model.new_state();
        CHECK(same_bits(logits_in_pieces(model, pieces, tokens, ends), whole));
        CHECK(same_state(pieces, state));
    }
    for (const Index tile : {-5, 0, 1, 3, 8, 64, 100, 1000}) {
        auto tiled = model.new_state(tile);
        INFO("tile " << tile);
        CHECK(same_bits(logits_in_pieces(model, tiled, tokens), whole));
        CHECK(same_state(tiled, state));
    }
}

template <class Model>
void check_causality() {
    const Model model = random_model<Model>(3);
    const auto tokens = random_tokens(N, V, 3);
    auto state = model.new_state();
    const auto whole = logits_in_pieces(model, state, tokens);
    for (const Index t : {0, 1, 8, 63, 64, 255, 256, 300, 599}) {
        auto changed = tokens;
        for (Index n = t; n < N; ++n) {
            token_id& token = changed[static_cast<std::size_t>(n)];
            token = (token + 1 + static_cast<token_id>(n % 7)) % static_cast<token_id>(V);
        }
        for (const Form form : {Form::parallel, Form::recurrent}) {
            if (form == Form::recurrent && t != 64) continue;
            auto other = model.new_state();
            auto same = model.new_state();
            const auto now = logits_in_pieces(model, other, changed, {}, form);
            const auto was =
                form == Form::parallel ? whole : logits_in_pieces(model, same, tokens, {}, form);
            INFO("changed from token " << t);
            const auto past = static_cast<std::size_t>(t * V);
            CHECK(same_bits(std::span(now).first(past), std::span(was).first(past)));
            CHECK_FALSE(same_bits(std::span(now).subspan(past, static_cast<std::size_t>(V)),
                                  std::span(was).subspan(past, static_cast<std::size_t>(V))));
        }
        // Nor does the length of the text: the first t tokens alone.
        auto shorter = model.new_state();
        const auto alone = logits_in_pieces(model, shorter, slice(tokens, 0, t));
        CHECK(same_bits(alone, std::span(whole).first(alone.size())));
    }
}

constexpr HydraConfig window_only(int window) {
    return {.vocab_size = 40,
            .d_model = 24,
            .n_layers = 2,
            .n_heads = 2,
            .swa_window = window,
            .swa_every = 1};
}
constexpr HydraConfig full_only{.vocab_size = 40,
                                .d_model = 24,
                                .n_layers = 2,
                                .n_heads = 2,
                                .layer_types = {LayerType::full, LayerType::full}};

}  // namespace

TEST_CASE("Prefill, pieces and steps are one function", "[forms]") {
    check_forms_agree<HydraLM<small_hybrid, float>>();
    check_forms_agree<HydraLM<small_hybrid, double>>();
    check_forms_agree<HydraLM<small_remembering, float>>();
    check_forms_agree<HydraLM<small_remembering, double>>();
    check_forms_agree<HydraLM<small_full, float>>();
    check_forms_agree<HydraLM<small_full, double>>();
}

TEST_CASE("Neither cuts at multiples of 8 nor the scratch of a state change a bit", "[forms]") {
    check_cuts_and_tiles<HydraLM<small_hybrid, float>>();
    check_cuts_and_tiles<HydraLM<small_hybrid, double>>();
    check_cuts_and_tiles<HydraLM<small_remembering, float>>();
    check_cuts_and_tiles<HydraLM<small_remembering, double>>();
    check_cuts_and_tiles<HydraLM<small_full, float>>();
}

TEST_CASE("A changed future changes no past", "[forms]") {
    check_causality<HydraLM<small_hybrid, float>>();
    check_causality<HydraLM<small_hybrid, double>>();
    check_causality<HydraLM<small_remembering, float>>();
    check_causality<HydraLM<small_remembering, double>>();
    check_causality<HydraLM<small_full, float>>();
}

TEST_CASE("Windows of at least N are one model", "[forms]") {
    using Wide = HydraLM<window_only(1000), double>;
    using Narrow = HydraLM<window_only(70), double>;
    const auto wide = random_model<Wide>(4);
    const auto narrow = random_model<Narrow>(4);
    const auto tokens = random_tokens(70, 40, 4);
    for (const Form form : {Form::parallel, Form::recurrent}) {
        auto a = wide.new_state();
        auto b = narrow.new_state();
        check_close(logits_in_pieces(narrow, b, tokens, {}, form),
                    logits_in_pieces(wide, a, tokens, {}, form), 1e-12, "window");
        // One more token, and the narrow window has lost the first.
        CHECK(difference(narrow.step(1, b), wide.step(1, a)).relative_rms > 1e-6);
    }
}

TEST_CASE("A window of at least N is attention to the whole past", "[forms]") {
    const auto window = random_model<HydraLM<window_only(1000), double>>(5);
    const auto full = random_model<HydraLM<full_only, double>>(5);
    const auto tokens = random_tokens(300, 40, 5);
    for (const Form form : {Form::parallel, Form::recurrent}) {
        auto a = window.new_state();
        auto b = full.new_state();
        check_close(logits_in_pieces(full, b, tokens, {}, form),
                    logits_in_pieces(window, a, tokens, {}, form), 1e-12, "whole past");
    }
}
