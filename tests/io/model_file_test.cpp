// Models in files, through load, save, save_state and load_state: what is converted, what is warned
// of, and what is refused with nothing lost.
#include "hydralm/io/model_file.hpp"

#include "support/files.hpp"
#include "support/small_model.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

using Model = HydraLM<small_remembering>;

std::vector<std::string> warnings_of(const std::filesystem::path& path) {
    std::vector<std::string> lines;
    load<Model>(path, [&](const std::string& line) { lines.push_back(line); });
    return lines;
}

// The model's weights in another dtype, or some of them in shards of their own.
template <class Keep>
void write_weights(const Model& model, const std::filesystem::path& path, DType dtype,
                   const Keep& keep) {
    std::vector<TensorSpec> specs;
    for (TensorSpec spec : detail::tensor_specs(model.parameters)) {
        spec.dtype = dtype;
        if (keep(spec.name)) specs.push_back(spec);
    }
    SafetensorsWriter writer(path, specs, {{"hydra_config", config_to_json(Model::config)}});
    model.get_parameters([&](const ParameterInfo& info, std::span<const float> values) {
        if (keep(info.name())) writer.write(info.name(), values);
    });
    writer.commit();
}

constexpr auto all = [](std::string_view) { return true; };

}  // namespace

TEST_CASE("weights that are not finite are loaded, and named once", "[io]") {
    const TemporaryDirectory directory;
    const auto path = directory / "m.safetensors";
    Model model = random_model<Model>(1);
    save(model, path);
    CHECK(warnings_of(path).empty());

    // Spoils the first value of tensors by their place in the file.
    const auto spoil = [&](std::vector<Index> places, float value) {
        std::vector<float> weights;
        model.get_parameters([&](const ParameterInfo&, std::span<const float> values) {
            weights.insert(weights.end(), values.begin(), values.end());
        });
        auto next = weights.begin();
        Index place = 0;
        model.set_parameters([&](const ParameterInfo&, std::span<float> values) {
            std::copy_n(next, values.size(), values.begin());
            next += static_cast<std::ptrdiff_t>(values.size());
            if (std::ranges::find(places, place++) != places.end()) values[0] = value;
        });
        save(model, path);
    };
    spoil({2}, std::numeric_limits<float>::quiet_NaN());
    const std::string third(Model::parameters[2].name());
    CHECK(warnings_of(path) ==
          std::vector<std::string>{"hydralm: " + path.string() + ": " + third +
                                   ": expected finite weights, found NaN or infinity in 1 tensor "
                                   "(" +
                                   third +
                                   "); take a checkpoint from before training diverged; F64 "
                                   "weights beyond the range of float need a model of double"});
    CHECK_NOTHROW(load<Model>(path));
    spoil({0, 1, 3, 4, 5}, -std::numeric_limits<float>::infinity());
    const auto lines = warnings_of(path);
    REQUIRE(lines.size() == 1);
    CHECK(lines[0].find("6 tensors (" + std::string(Model::parameters[0].name()) + ", ") !=
          std::string::npos);
}

TEST_CASE("an F64 weight beyond float's range is infinite in float, and named", "[io]") {
    using Double = HydraLM<small_remembering, double>;
    const TemporaryDirectory directory;
    const auto path = directory / "m.safetensors";
    for (const double value : {1e300, -1e39, 3.4028235e38, 1e-50}) {
        Double model;
        model.set_parameters([&](const ParameterInfo&, std::span<double> values) {
            std::ranges::fill(values, 0.5);
            values[0] = value;
        });
        save(model, path);
        INFO(value);
        CHECK(warnings_of(path).size() == (std::abs(value) > 3.5e38 ? 1U : 0U));
        std::vector<std::string> lines;
        load<Double>(path, [&](const std::string& line) { lines.push_back(line); });
        CHECK(lines.empty());
    }
}

TEST_CASE("a model is the same from one file, from shards, and rounded from BF16", "[io]") {
    const TemporaryDirectory directory;
    const Model model = random_model<Model>(1);
    const auto weights = [](const Model& m) {
        std::vector<float> values;
        m.get_parameters([&](const ParameterInfo&, std::span<const float> part) {
            values.insert(values.end(), part.begin(), part.end());
        });
        return values;
    };
    const auto embedding = [](std::string_view name) { return name == "embed.weight"; };
    write_weights(model, directory / "1", DType::f32, embedding);
    write_weights(model, directory / "2", DType::f64,
                  [&](std::string_view name) { return !embedding(name); });
    std::string map;
    for (const auto& info : Model::parameters)
        map += (map.empty() ? "\"" : ",\"") + std::string(info.name()) + "\":\"" +
               (embedding(info.name()) ? "1" : "2") + "\"";
    write_text(directory / "model.safetensors.index.json", "{\"weight_map\":{" + map + "}}");
    CHECK(same_bits(weights(load<Model>(directory.path())), weights(model)));

    std::filesystem::remove(directory / "2");
    check_error([&] { load<Model>(directory.path()); },
                {"index.json: 2: expected every shard beside the index, found no such file",
                 "copy or download the missing shard to " + (directory / "2").string()});

    write_weights(model, directory / "b", DType::bf16, all);
    auto expected = weights(model);
    for (float& x : expected) x = float_from_bf16(bf16_from(x));
    CHECK(same_bits(weights(load<Model>(directory / "b")), expected));
}

TEST_CASE("the checkpoint of another model is refused by what differs", "[io]") {
    const TemporaryDirectory directory;
    const auto path = directory / "m.safetensors";
    save(random_model<Model>(1), path);
    check_error([&] { load<HydraLM<small_hybrid>>(path); },
                {path.string(), "config: n_layers: expected 3, found 4",
                 "use a model type of the file's config"});
    write_weights(random_model<Model>(1), path, DType::f32,
                  [](std::string_view name) { return name != "embed.weight"; });
    check_error([&] { load<Model>(path); },
                {"embed.weight: expected every tensor of the configuration, found 1 tensor "
                 "(embed.weight) missing"});
    check_error([&] { load<Model>(directory / "none"); }, {"none: expected a readable file"});
    check_error([&] { save(random_model<Model>(1), directory.path()); },
                {"expected a file to write", "found a directory"});
    CHECK(directory.names() == std::vector<std::string>{"m.safetensors"});
}

TEST_CASE("a stream's state goes on from its file; another's and a cut one are refused", "[io]") {
    const TemporaryDirectory directory;
    const auto path = directory / "s.state";
    const Model model = random_model<Model>(1);
    auto state = model.new_state();
    model.prefill(random_tokens(100, Model::vocab_size(), 1), state);
    save_state(model, state, path);
    auto restored = load_state(model, path);
    CHECK(restored.position() == 100);
    CHECK(same_state(restored, state));
    const auto expected = model.step(7, state);
    CHECK(same_bits(model.step(7, restored), expected));

    check_error([&] { load_state(random_model<HydraLM<small_hybrid>>(1), path); },
                {path.string(), "config: ", "n_layers: expected 3, found 4",
                 "a state continues only in the model"});
    check_error([&] { load_state(random_model<HydraLM<small_remembering, double>>(1), path); },
                {"scalar: expected \"double\", found \"float\""});
    check_error([&] { load_state(model, directory / "none"); }, {"none: expected a readable file"});

    // Sound to the byte, but of other sizes: values or banks that are cut, a bank of more or fewer
    // tokens.
    const std::string whole = read_text(path);
    const StateFile file(path, detail::fingerprint(model, state));
    const auto refused = [&](std::int64_t position, std::size_t values, std::size_t banks,
                             const char* part = "use a state made by this model's new_state()") {
        const std::array sections{
            state_section("position", std::span<const std::int64_t>(&position, 1)),
            StateSection{"values", file.section("values").first(values)},
            StateSection{"banks", file.section("banks").first(banks)}};
        save_state(directory / "cut", detail::fingerprint(model, state), sections);
        INFO("position " << position << ", values " << values << ", banks " << banks);
        check_error([&] { load_state(model, directory / "cut"); }, {part});
    };
    const std::size_t values = file.section("values").size(), banks = file.section("banks").size();
    refused(100, values - 4, banks);
    refused(100, 0, banks);
    refused(100, values, banks - 4);
    refused(100, values, 0);
    refused(91, values, banks);  // a page of the bank holds 13 tokens
    refused(105, values, banks);
    refused(-1, values, banks, "position: expected a number of tokens up to 2^48, found -1");
    refused(std::int64_t{1} << 40, values, banks);

    write_text(path, whole.substr(0, whole.size() / 2));
    check_error([&] { load_state(model, path); }, {"cut off or changed"});
}

TEST_CASE("a state at rest in int16 goes on from a smaller file, and from none of the other format",
          "[io]") {
    const TemporaryDirectory directory;
    const auto path = directory / "s.state", exact_path = directory / "exact.state";
    const BankPolicy resting{.state = StateFormat::int16};
    const Model model = random_model<Model>(1);
    const auto tokens = random_tokens(100, Model::vocab_size(), 1);
    auto state = model.new_state(256, resting), exact = model.new_state();
    model.prefill(tokens, state);
    model.prefill(tokens, exact);
    save_state(model, state, path);
    save_state(model, exact, exact_path);
    CHECK(std::filesystem::file_size(path) < std::filesystem::file_size(exact_path));
    auto restored = load_state(model, path, resting);
    CHECK(same_state(restored, state));
    const auto expected = model.step(7, state);
    CHECK(same_bits(model.step(7, restored), expected));
    check_error([&] { load_state(model, path); },
                {path.string(), "state: expected nothing, found \"int16\"",
                 "give load_state the BankPolicy"});
    check_error([&] { load_state(model, exact_path, resting); },
                {"state: expected \"int16\", found nothing", "give load_state the BankPolicy"});
}

TEST_CASE("a model of another dn_chunk_size reads the same checkpoints and states", "[io]") {
    constexpr HydraConfig config = [] {
        HydraConfig c = small_remembering;
        c.dn_chunk_size = 32;
        return c;
    }();
    using Rechunked = HydraLM<config>;
    STATIC_REQUIRE(std::is_same_v<Rechunked::Structure, Model::Structure>);
    const TemporaryDirectory directory;
    const auto path = directory / "m.safetensors";
    const auto tokens = random_tokens(100, config.vocab_size, 1);

    // from writes a checkpoint and a state; a To reads both, and goes on with the same bits.
    const auto check = [&]<class To>(const auto& from, std::type_identity<To>) {
        save(from, path);
        const To to = load<To>(path);
        auto state = from.new_state();
        from.prefill(tokens, state);
        save_state(from, state, directory / "s.state");
        auto restored = load_state(to, directory / "s.state");
        CHECK(same_bits(to.step(7, restored), from.step(7, state)));
    };
    check(random_model<Model>(1), std::type_identity<Rechunked>());
    check(random_model<Rechunked>(2), std::type_identity<Model>());
}
