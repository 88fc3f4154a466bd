// The state of a model's layer as a fact bank, and a bank as a layer's state.
#include "hydralm/memory/layer_facts.hpp"

#include "support/files.hpp"
#include "support/random_rows.hpp"
#include "support/small_model.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

using Model = HydraLM<small_hybrid>;  // two heads of 12; layers: deltanet, deltanet, swa
constexpr Index D = Model::config.head_dim;

std::vector<float> exported(const Model& model, Model::State& state, const std::string& wanted) {
    std::vector<float> found;
    model.export_state(state, [&](const std::string& name, auto, const std::vector<float>& values) {
        if (name == wanted) found = values;
    });
    return found;
}

}  // namespace

TEST_CASE("the S of a layer is read as a fact bank", "[memory]") {
    const Model model = random_model<Model>(1);
    auto state = model.new_state();
    model.prefill(random_tokens(50, 53, 2), state);
    const auto S = exported(model, state, "1.S");
    REQUIRE(static_cast<Index>(S.size()) == 2 * D * D);
    const std::span second(S.data() + D * D, static_cast<std::size_t>(D * D));
    const auto bank = facts_of_layer(model, state, 1, 1);
    std::vector<float> copied(static_cast<std::size_t>(D * D));
    bank.copy_to(copied);
    CHECK(same_bits(copied, second));

    // a unit key along axis 3 recalls column 3 of S
    std::vector<float> key(static_cast<std::size_t>(D)), out(static_cast<std::size_t>(D));
    key[3] = 2;
    bank.recall(key, out);
    for (std::size_t v = 0; v < out.size(); ++v)
        CHECK(out[v] == second[v * static_cast<std::size_t>(D) + 3]);
}

TEST_CASE("a bank is mounted as a layer's initial state", "[memory]") {
    const Model model = random_model<Model>(1);
    const auto tokens = random_tokens(20, 53, 2);
    const Rows<float> keys(9, D, 3), values(9, D, 4);
    LayerFacts<Model> facts;
    facts.write(keys.view(), values.view());
    auto state = model.new_state();
    mount_facts(facts, model, state, 0, 1);
    std::vector<float> expected(static_cast<std::size_t>(D * D)), mounted(expected);
    facts.copy_to(expected);
    facts_of_layer(model, state, 0, 1).copy_to(mounted);
    CHECK(same_bits(mounted, expected));
    for (const float s : exported(model, state, "1.S")) CHECK(s == 0);

    // the facts reach the logits; what was read and mounted again is the same stream
    auto plain = model.new_state();
    const auto last_logits = [&](Model::State& stream) {
        const auto logits = model.prefill(tokens, stream);
        return std::vector<float>(logits.begin(), logits.end());
    };
    CHECK(last_logits(state) != last_logits(plain));

    auto source = model.new_state(), target = model.new_state();
    model.prefill(tokens, source);
    target = source;
    for (Index head = 0; head < 2; ++head) {
        mount_facts(LayerFacts<Model>{}, model, target, 0, head);
        mount_facts(facts_of_layer(model, source, 0, head), model, target, 0, head);
    }
    CHECK(same_state(source, target));

    check_error([&] { facts_of_layer(model, state, 2, 0); },
                {"layer: expected the index of a deltanet layer, found 2"});
    check_error([&] { facts_of_layer(model, state, 3, 0); }, {"layer"});
    check_error([&] { facts_of_layer(model, state, 0, 2); },
                {"head: expected a head in [0, 2), found 2"});
}
