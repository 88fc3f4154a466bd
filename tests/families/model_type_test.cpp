// A published model as a type, as `hydralm config` writes it: the bits of the model that is read at
// run time.
#include "hydralm/families/model_type.hpp"

#include "hydralm/families/open.hpp"
#include "qwen35_text_model.hpp"
#include "support/compare.hpp"
#include "support/files.hpp"
#include "support/runtime_blocks.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {
const std::string folder = HYDRALM_GOLDEN_DIR "/published/";

HybridShape shape_of(const std::string& name) {
    return families::shape_from_json(read_text(folder + name + "/config.json"), name);
}
}  // namespace

TEST_CASE("A published model as a type has the bits of the one read at run time", "[families]") {
    const auto any = open<float>(folder + "qwen35_text", weights::Float{}, NoKernels{});
    const auto model = load_published<Model>(folder + "qwen35_text");
    CHECK(Model::parameter_count == any.parameter_count);
    CHECK(Model::state_bytes == any.state_bytes);
    std::vector<token_id> text(300);
    for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<token_id>(i * 37 % 319);
    auto a = model.new_state();
    auto b = any.new_state();
    CHECK(same_bits(model.prefill(text, a), any.prefill(text, b)));
    for (const token_id token : {5, 300, 7})
        CHECK(same_bits(model.step(token, a), any.step(token, b)));
    CHECK(same_bits(a.bytes(), b.bytes()));
    CHECK(a.bank_bytes() == b.bank_bytes());

    check_error([] { load_published<Model>(folder + "qwen35_untied_odd"); },
                {"config.json: layers: ", "hydralm config FOLDER"});
    check_error([] { load_published<Model>(HYDRALM_GOLDEN_DIR "/model/hybrid_4l"); },
                {"expected the config.json of a published model"});
}

TEST_CASE("The type of a published model is what its config says", "[families]") {
    CHECK(model_type(shape_of("qwen35_text")) ==
          read_text(HYDRALM_GOLDEN_DIR "/../families/qwen35_text_model.hpp"));
    CHECK(stack_to_json<Model>() == stack_to_json(shape_of("qwen35_text")));

    HybridShape shape = shape_of("qwen35_text");
    const auto layers = shape.layers;
    for (int i = 0; i < 5; ++i)
        shape.layers.insert(shape.layers.end(), layers.begin(), layers.end());
    const std::string repeated = model_type(shape, "double", "Float");
    CHECK(repeated.find("hydralm::Repeat<6, model_layers::Layer0, model_layers::Layer0, "
                        "model_layers::Layer0, model_layers::Layer1>") != std::string::npos);
    CHECK(repeated.find("float") == std::string::npos);
    CHECK(model_type(shape_of("fla_kda_pure")).find(".decay_rank = 16, .gate_rank = 16}") !=
          std::string::npos);
    CHECK(model_type(shape_of("olmo_hybrid_nope")).find("Norm, hydralm::PostNormResidual>") !=
          std::string::npos);
    CHECK(stack_to_json(shape_of("olmo_hybrid_nope")).find("norm_behind") != std::string::npos);
}
