// open: any checkpoint as one type; its states are those of the specialised model.
#include "hydralm/families/open.hpp"

#include "support/files.hpp"
#include "support/runtime_blocks.hpp"
#include "support/small_model.hpp"
#include "support/temporary_directory.hpp"

using namespace hydralm;
using namespace hydralm::test;

TEST_CASE("A checkpoint is opened, whatever its config, and saved again bit for bit", "[open]") {
    const TemporaryDirectory directory;
    const auto check = [&](const auto& model) {
        using Model = std::decay_t<decltype(model)>;
        save(model, directory / "m.safetensors");
        const auto opened =
            open<typename Model::Scalar>(directory / "m.safetensors", SmallKernels{});
        CHECK(opened.config == Model::config);
        save(opened, directory / "again.safetensors");
        CHECK(read_text(directory / "again.safetensors") == read_text(directory / "m.safetensors"));
    };
    check(random_model<HydraLM<small_hybrid, float>>(1));
    check(random_model<HydraLM<small_remembering, double>>(2));
}

TEST_CASE("A stream goes on from a specialised model in a run-time one, and back", "[open]") {
    const TemporaryDirectory directory;
    using Model = HydraLM<small_remembering, float>;
    const auto model = random_model<Model>(3);
    save(model, directory / "m.safetensors");
    const auto opened = open(directory / "m.safetensors", SmallKernels{});
    const auto tokens = random_tokens(40, 53, 3);
    auto a = model.new_state();
    model.prefill(tokens, a);
    save_state(model, a, directory / "m.state");
    auto b = load_state(opened, directory / "m.state");
    CHECK(same_state(a, b));
    opened.prefill(tokens, b);
    save_state(opened, b, directory / "m.state");
    model.prefill(tokens, a);
    CHECK(same_state(a, load_state(model, directory / "m.state")));
}

TEMPLATE_TEST_CASE("A checkpoint is opened in fewer bits, those of the specialised model", "[open]",
                   weights::BF16, weights::Mixed) {
    using Small = HydraLM<small_remembering, float, TestType>;
    const TemporaryDirectory directory;
    const auto file = directory / "m.safetensors", small = directory / "small.safetensors",
               again = directory / "again.safetensors";
    save(random_model<HydraLM<small_remembering, float>>(4), file);
    const auto model = load<Small>(file);
    const auto opened = open(file, TestType{}, SmallKernels{});
    CHECK(opened.weight_bytes == Small::weight_bytes);
    const auto tokens = random_tokens(40, 53, 4);
    const auto logits = [&](const auto& any) {
        auto state = any.new_state();
        std::vector<float> all(40 * 53);
        any.logits(tokens, state, {all.data(), 40, 53});
        const auto next = any.step(tokens[0], state);
        all.insert(all.end(), next.begin(), next.end());
        return all;
    };
    CHECK(same_bits(logits(opened), logits(model)));

    // It is saved so, by either, and opened as the file has it, unless another is asked for.
    save(model, small);
    save(opened, again);
    CHECK(read_text(again) == read_text(small));
    const Checkpoint checkpoint(small);
    for (const ParameterInfo& info : opened.parameters)
        CHECK((checkpoint.tensor(info.name()).dtype() != DType::f32) == info.law.any_format);
    const auto same = open(small, SmallKernels{});
    CHECK(same.weight_bytes == Small::weight_bytes);
    CHECK(same_bits(logits(same), logits(model)));
    save(same, again);
    CHECK(read_text(again) == read_text(small));
    const auto wide = open(small, weights::Float{}, SmallKernels{});
    CHECK(wide.weight_bytes > Small::weight_bytes);
    save(load<Small>(small), again);
    CHECK(read_text(again) == read_text(small));
    CHECK(open<double>(small, SmallKernels{}).parameters[0].format == weights::Format::scalar);
}

TEST_CASE("A model of double keeps its matrices in double", "[open]") {
    const FormatChoice none = [](const ParameterInfo&) { return weights::Format::q8; };
    check_error([&] { RuntimeModel<double>(small_remembering, SmallKernels{}, none); },
                {"embed.weight: expected weights of double, the model's scalar, found q8"});
}

TEST_CASE("What cannot be opened is refused by file and field", "[open]") {
    const TemporaryDirectory directory;
    {  // a config of terabytes, before memory for them is taken
        HydraConfig config = small_hybrid;
        config.vocab_size = 1 << 24;
        config.mlp_mult = 1e5;
        const std::array<float, 1> one{1.0F};
        SafetensorsWriter writer(directory / "large.safetensors",
                                 {{"embed.weight", {1, 1}, DType::f32}},
                                 {{"hydra_config", config_to_json(config)}});
        writer.write("embed.weight", std::span<const float>(one));
        writer.commit();
        check_error([&] { open(directory / "large.safetensors", SmallKernels{}); },
                    {"large.safetensors"});
    }
    check_error([&] { open(directory / "none.safetensors", SmallKernels{}); },
                {"none.safetensors"});
    save(random_model<HydraLM<small_hybrid, float>>(1), directory / "m.safetensors");
    check_error([&] { open(directory / "m.safetensors", NoKernels{}); },
                {"m.safetensors: head_dim: expected at most 0, found 12"});
}
