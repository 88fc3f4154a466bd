// Files of models that no config describes: they say what they are made of, and another model
// refuses them by the first module that differs.
#include "../../examples/decayed_attention.hpp"

#include "hydralm/io.hpp"
#include "hydralm/model/initialise.hpp"
#include "support/catch.hpp"
#include "support/small_model.hpp"
#include "support/temporary_directory.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

constexpr Index d = 16;
using Norm = RmsNorm<float, NormShape<d>>;
using Mlp = SwiGLU<float, MlpShape<d, 24>>;
template <Index Window>
using Local = Block<SlidingWindowAttention<float, 8, 0, WindowShape<d, 2, Window>>, Mlp, Norm>;
using Own = Block<my::DecayedAttention<float, d, 2>, Mlp, Norm>;
template <class... Layers>
using Model = LanguageModel<Vocabulary<31>, Stack<Layers...>>;
template <double Epsilon>
using Drafting = LanguageModel<Vocabulary<31>, Stack<Own>, Norm,
                               Mtp<1, MtpModule<Mlp, RmsNorm<float, NormShape<d, Epsilon>>>>>;
using Saved = Model<Own, Local<8>>;

template <class Other>
std::string refusal(const std::filesystem::path& path) {
    try {
        load<Other>(path);
    } catch (const Error& error) {
        return error.detail().field;
    }
    return "loaded";
}

}  // namespace

TEST_CASE("A model of a user's own layers is saved and loaded, bit for bit", "[stack_file]") {
    const TemporaryDirectory directory;
    const auto model = random_model<Saved>(1);
    save(model, directory / "m.safetensors");
    const auto loaded = load<Saved>(directory / "m.safetensors");
    const auto tokens = random_tokens(20, 31, 1);
    auto a = model.new_state(), b = loaded.new_state();
    CHECK(same_bits(logits_in_pieces(model, a, tokens), logits_in_pieces(loaded, b, tokens)));

    save_state(model, a, directory / "m.state");
    auto c = load_state(loaded, directory / "m.state");
    CHECK(same_state(a, c));
}

TEST_CASE("The first module that differs is named", "[stack_file]") {
    const TemporaryDirectory directory;
    const auto path = directory / "m.safetensors";
    save(random_model<Saved>(1), path);
    CHECK(refusal<Model<Local<8>, Own>>(path) ==
          "hydra_stack: blocks.0.mixer: expected \"sliding_window_attention\", found "
          "\"decayed_attention\"");
    CHECK(refusal<Model<Own, Local<9>>>(path) ==
          "hydra_stack: blocks.1.mixer.window: expected 9, found 8");
    CHECK(refusal<Model<Own, Local<8>, Own>>(path) ==
          "hydra_stack: blocks: expected 3 layers, found 2");
    CHECK(refusal<LanguageModel<Vocabulary<31, untied>, Stack<Own, Local<8>>>>(path) ==
          "hydra_stack: tied: expected false, found true");
    CHECK_THROWS_WITH(read_config(Checkpoint(path)), Catch::Contains("(hydra_stack)"));
    CHECK(stack_to_json<Drafting<1e-5>>() != stack_to_json<Drafting<1e-2>>());

    auto state = random_model<Saved>(1).new_state();
    save_state(random_model<Saved>(1), state, directory / "m.state");
    const auto other = random_model<Model<Own, Local<9>>>(1);
    try {
        load_state(other, directory / "m.state");
        FAIL("loaded");
    } catch (const Error& error) {
        CHECK(error.detail().field == "config: blocks.1.mixer.window: expected 9, found 8");
    }
}

TEST_CASE("Files of configs and of stacks are told apart", "[stack_file]") {
    const TemporaryDirectory directory;
    const auto path = directory / "m.safetensors";
    save(random_model<HydraLM<small_hybrid>>(1), path);
    CHECK_THROWS_AS(load<Saved>(path), Error);
    save(random_model<Saved>(1), path);
    CHECK_THROWS_AS(load<HydraLM<small_hybrid>>(path), Error);
}
