// Bad input is refused by name, and the stream is as before.
#include <limits>
#include <vector>

#include "support/catch.hpp"
#include "support/small_model.hpp"

namespace {

using namespace hydralm;
using namespace hydralm::test;

using Model = HydraLM<small_hybrid>;
constexpr token_id V = small_hybrid.vocab_size;

template <class F>
void check_refused(const F& call, const std::string& message) {
    try {
        call();
        FAIL("accepted; expected: " << message);
    } catch (const Error& error) {
        CHECK(std::string(error.what()) == message);
    }
}

}  // namespace

TEST_CASE("Tokens outside the vocabulary are refused, the state unchanged", "[errors]") {
    const Model model = random_model<Model>(1);
    auto state = model.new_state();
    const auto prompt = random_tokens(20, V, 1);
    model.prefill(prompt, state);
    const Model::State before = state;
    std::vector<float> out(600 * V);
    const auto bad = [](Index place, token_id id) {
        return "hydralm: token " + std::to_string(place) + ": expected an id in [0, 53), found " +
               std::to_string(id) + "; use the tokeniser the model was made for";
    };
    for (const token_id id :
         {-1, V, V + 1, std::numeric_limits<token_id>::min(), std::numeric_limits<token_id>::max()})
        for (const Index place : {0, 1, 300, 599}) {
            auto tokens = random_tokens(600, V, 2);
            tokens[static_cast<std::size_t>(place)] = id;
            check_refused([&] { model.prefill(tokens, state); }, bad(place, id));
            check_refused(
                [&] { model.logits(tokens, state, MatrixView<float>(out.data(), 600, V)); },
                bad(place, id));
            check_refused([&] { model.step(id, state); }, bad(0, id));
        }
    CHECK(state.position() == 20);
    CHECK(same_state(state, before));
    CHECK(out == std::vector<float>(600 * V));
}

TEST_CASE("An empty prompt is refused; no positions are no logits", "[errors]") {
    const Model model = random_model<Model>(1);
    auto state = model.new_state();
    check_refused([&] { model.prefill({}, state); },
                  "hydralm: tokens: expected at least one, found none; start with a prompt");
    CHECK(state.position() == 0);
    model.logits({}, state, MatrixView<float>(nullptr, 0, V));
    CHECK(state.position() == 0);
    CHECK(same_state(state, model.new_state()));
}

TEST_CASE("Logits of another shape are refused, the state unchanged", "[errors]") {
    const Model model = random_model<Model>(1);
    auto state = model.new_state();
    std::vector<float> out(5 * V);
    const auto tokens = random_tokens(3, V, 1);
    const auto into = [&](Index rows, Index cols) {
        return [&, rows, cols] {
            model.logits(tokens, state, MatrixView<float>(out.data(), rows, cols));
        };
    };
    const std::string fix = "; give a row of vocab_size logits for every token";
    check_refused(into(2, V), "hydralm: out: expected [3, 53], found [2, 53]" + fix);
    check_refused(into(4, V), "hydralm: out: expected [3, 53], found [4, 53]" + fix);
    check_refused(into(3, V - 1), "hydralm: out: expected [3, 53], found [3, 52]" + fix);
    CHECK(state.position() == 0);
}
