// Configurations as JSON: both ways, every refusal, and where a checkpoint's configuration comes
// from.
#include "hydralm/io/config_json.hpp"

#include <iostream>

#include "hydralm/io/safetensors_writer.hpp"
#include "support/files.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

// Every field differs from its default.
const HydraConfig unusual{
    .vocab_size = 512,
    .pad_token_id = 3,
    .d_model = 96,
    .n_layers = 3,
    .n_heads = 4,
    .head_dim = 16,
    .n_kv_heads = 2,
    .mlp_mult = 0.1 + 0.2,
    .mlp_multiple_of = 8,
    .dn_short_conv_kernel = 3,
    .dn_use_gate = false,
    .dn_chunk_size = 16,
    .dn_norm_qk = false,
    .dn_negative_eigenvalues = true,
    .swa_window = 33,
    .swa_rope_base = 500000.5,
    .layer_types = {LayerType::retrieval, LayerType::full, LayerType::deltanet},
    .swa_every = 0,
    .retrieval_every = 2,
    .retrieval_chunk_size = 7,
    .retrieval_top_k = 1,
    .mtp_depth = 2,
    .mtp_loss_weight = 1.0 / 3.0,
    .rms_eps = 1e-6,
    .tie_embeddings = false,
    .initializer_range = 0.013,
    .max_position_embeddings = 4096};

HydraConfig parsed(const std::string& text) { return config_from_json(text, "c.json"); }

void check_refused(const std::string& text, std::vector<std::string> parts) {
    parts.push_back("hydralm: c.json: ");
    check_error([&] { parsed(text); }, parts);
}

void write_checkpoint(const std::filesystem::path& path, const Metadata& metadata) {
    const std::vector<float> one(1);
    SafetensorsWriter writer(path, {{"w", {1}}}, metadata);
    writer.write("w", std::span<const float>(one));
    writer.commit();
}

}  // namespace

TEST_CASE("the build takes the same texts as this reader, and shows the same of others", "[io]") {
    // The other half is tests/scripts/check_config_header.py.
    const auto texts =
        detail::Json::parse(read_text(HYDRALM_GOLDEN_DIR "/../support/json_texts.json"));
    for (const std::string part : {"taken", "refused"})
        for (const auto& entry : texts.at(part)) {
            std::string bytes;  // each character of the table is one
            std::string_view left = entry.get_ref<const std::string&>();
            for (; !left.empty(); left.remove_prefix(detail::utf8_length(left)))
                bytes += static_cast<char>(
                    detail::code_point(left.substr(0, detail::utf8_length(left))));
            INFO(entry);
            if (part == "taken") CHECK_NOTHROW(parsed(bytes));
            else CHECK_THROWS_AS(parsed(bytes), Error);
        }
    for (const auto& entry : texts.at("shown"))
        check_refused(entry[0].get<std::string>(), {entry[1].get<std::string>()});
}

TEST_CASE("every field travels through JSON", "[io]") {
    const HydraConfig defaults;
    for_each_config_field([&](const auto& field) {
        INFO(field.name);
        CHECK(unusual.*field.member != defaults.*field.member);
    });
    CHECK(parsed(config_to_json(unusual)) == unusual);
    CHECK(parsed(config_to_json(unusual, 2)) == unusual);
    CHECK(parsed(config_to_json(defaults)) == resolved(defaults));
    CHECK(config_to_json(defaults).starts_with(
        R"({"vocab_size":32000,"pad_token_id":0,"d_model":768,)"));
    CHECK(config_to_json(defaults, 1)
              .starts_with("{\n \"vocab_size\": 32000,\n \"pad_token_id\": 0,"));
    CHECK(config_to_json(defaults).find("\"head_dim\":64") != std::string::npos);
    CHECK(config_to_json(parsed(config_to_json(unusual))) == config_to_json(unusual));
}

// The table of docs/configuration.md, from config_fields.
std::string documented_fields() {
    std::string rows;
    const HydraConfig defaults;
    for_each_config_field([&](const auto& field) {
        rows += "| `" + std::string(field.name) + "` | " +
                detail::field_json(defaults.*field.member).dump() + " | " + field.meaning + " | " +
                field.rule.text + (field.also ? "<br>" : "") + field.also.text + " |\n";
    });
    return rows;
}

TEST_CASE("docs/configuration.md has the table of the fields", "[io]") {
    const std::string page = read_text(HYDRALM_GOLDEN_DIR "/../../docs/configuration.md");
    const std::string begin = "|---|---|---|---|\n";
    const std::size_t first = page.find(begin) + begin.size();
    const std::string found = page.substr(first, page.find("\n\n", first) + 1 - first);
    const std::string expected = documented_fields();
    if (found != expected) std::cout << "The table must be:\n" << expected;
    CHECK(found == expected);
}

TEST_CASE("missing fields take their defaults", "[io]") {
    CHECK(parsed("{}") == HydraConfig{});
    HydraConfig expected;
    expected.d_model = 128;
    expected.n_heads = 2;
    CHECK(parsed(R"({"n_heads": 2, "d_model": 128})") == expected);
    CHECK(parsed(R"({"n_heads": 2, "d_model": 128, "head_dim": null})") == expected);
    CHECK(parsed(R"({"n_heads": 2, "d_model": 128, "head_dim": 0, "layer_types": null})") ==
          expected);
    CHECK(parsed(R"({"n_heads": 2, "d_model": 128, "layer_types": [], "swa_rope_base": 10000})") ==
          expected);
    CHECK(config_differences(parsed(R"({"n_heads": 2, "d_model": 128, "head_dim": 64})"), expected)
              .empty());
    CHECK(config_differences(parsed(R"({"n_heads": 2, "d_model": 128, "n_kv_heads": 2})"), expected)
              .empty());
    CHECK_FALSE(
        config_differences(parsed(R"({"n_heads": 2, "d_model": 128, "n_kv_heads": 1})"), expected)
            .empty());
}

TEST_CASE("a configuration that is not one is refused, naming the field", "[io]") {
    check_refused("", {"expected JSON"});
    check_refused("{\"d_model\": 128,}", {"expected JSON"});
    check_refused("[]", {"expected a JSON object, found []"});
    check_refused(R"({"d_modell": 128})",
                  {"d_modell: expected only fields of HydraConfig, found an unknown one"});
    check_refused(R"({"d_model": 128, "d_model": 128})", {"each key once", "\"d_model\" twice"});
    check_refused(R"({"d_model": "128"})", {"d_model: expected a whole number, found \"128\""});
    check_refused(R"({"d_model": 128.0})", {"d_model: expected a whole number, found 128.0"});
    check_refused(R"({"d_model": true})", {"d_model: expected a whole number, found true"});
    check_refused(R"({"d_model": null})", {"d_model: expected a whole number, found null"});
    check_refused(R"({"d_model": 4294967424})",
                  {"d_model: expected a whole number of 32 bits, found 4294967424"});
    check_refused(R"({"d_model": -4294967168})", {"a whole number of 32 bits"});
    check_refused(R"({"d_model": 99999999999999999999})", {"d_model: expected a whole number"});
    check_refused(R"({"dn_use_gate": 1})", {"dn_use_gate: expected true or false, found 1"});
    check_refused(R"({"rms_eps": "1e-5"})", {"rms_eps: expected a number"});
    check_refused(R"({"layer_types": "swa"})", {"layer_types: expected a list", "found \"swa\""});
    check_refused(R"({"layer_types": ["swa", "mamba"]})",
                  {"layer_types: expected a list", "mamba"});
    check_refused(R"({"layer_types": ["swa", 1]})", {"layer_types: expected a list"});
    std::string many = R"({"layer_types": ["swa")";
    for (int i = 0; i < 256; ++i) many += R"(,"swa")";
    check_refused(many + "]}", {"layer_types: expected a list of at most 256"});
}

TEST_CASE("a configuration that breaks a rule is refused with the rule", "[io]") {
    check_refused(R"({"vocab_size": 0})", {"vocab_size: found 0; must be in [1, 2^24]"});
    check_refused(R"({"swa_window": 0})", {"swa_window: found 0; must be in"});
    check_refused(R"({"d_model": 100, "n_heads": 3})",
                  {"head_dim: found d_model 100 / n_heads 3; n_heads must divide d_model"});
    check_refused(R"({"head_dim": 7})", {"head_dim: found 7; must be a multiple of 4"});
    check_refused(R"({"n_layers": 3, "layer_types": ["swa"]})",
                  {"layer_types: found [\"swa\"]; must name n_layers layers"});
    check_refused(R"({"rms_eps": 0})", {"rms_eps: found 0.0; must be in [1e-37, 1e37]"});
    check_refused(R"({"mlp_mult": -1e400})", {"JSON"});
    check_refused(R"({"n_layers": 1000})", {"n_layers: found 1000"});
}

TEST_CASE("differences are listed by field", "[io]") {
    CHECK(config_differences(unusual, unusual).empty());
    HydraConfig other = unusual;
    other.d_model = 128;
    other.dn_use_gate = true;
    other.layer_types = {LayerType::swa, LayerType::swa, LayerType::swa};
    CHECK(
        config_differences(unusual, other) ==
        std::vector<std::string>{
            "d_model: expected 96, found 128", "dn_use_gate: expected false, found true",
            R"(layer_types: expected ["retrieval","full","deltanet"], found ["swa","swa","swa"])"});
    check_error(
        [&] { expect_config(unusual, other, "m"); },
        {"hydralm: m: config: d_model: expected 96, found 128; dn_use_gate: expected false"});

    HydraConfig rechunked = unusual;
    rechunked.dn_chunk_size = 32;
    CHECK(config_differences(unusual, rechunked).empty());

    // The same layers, by the schedule and by name.
    const HydraConfig scheduled{.n_layers = 4, .swa_every = 2};
    const HydraConfig named{
        .n_layers = 4,
        .layer_types = {LayerType::deltanet, LayerType::swa, LayerType::deltanet, LayerType::swa}};
    CHECK(config_differences(scheduled, named).empty());
    CHECK(config_differences(scheduled, HydraConfig{.n_layers = 4}).size() == 1);
}

TEST_CASE("a checkpoint's configuration is in it, or beside it", "[io]") {
    const TemporaryDirectory directory;
    const auto path = directory / "m.safetensors";
    write_checkpoint(path, {});
    check_error([&] { read_config(Checkpoint(path)); },
                {path.string(), "hydra_config", "found neither"});
    write_text(directory / "config.json", config_to_json(unusual, 2));
    CHECK(read_config(Checkpoint(path)) == unusual);
    write_checkpoint(path, {{"hydra_config", config_to_json(unusual)}});
    CHECK(read_config(Checkpoint(path)) == unusual);
    std::filesystem::remove(directory / "config.json");
    CHECK(read_config(Checkpoint(path)) == unusual);

    HydraConfig other = unusual;
    other.n_heads = 2;
    write_text(directory / "config.json", config_to_json(other));
    check_error([&] { read_config(Checkpoint(path)); },
                {"config.json: config: n_heads: expected 4, found 2",
                 "another model than " + path.string()});
    write_text(directory / "config.json", "{");
    check_error([&] { read_config(Checkpoint(path)); }, {"config.json: expected JSON"});
    std::filesystem::remove(directory / "config.json");
    write_checkpoint(path, {{"hydra_config", R"({"d_model": "x"})"}});
    check_error([&] { read_config(Checkpoint(path)); },
                {"m.safetensors, hydra_config: d_model: expected a whole number"});
}

TEST_CASE("the golden models' configurations are read", "[io][golden]") {
    const HydraConfig c = read_config(Checkpoint(HYDRALM_GOLDEN_DIR "/model/default_schedule_8l"));
    CHECK(c.vocab_size == 97);
    CHECK(c.head_dim == 16);
    CHECK(c.mlp_multiple_of == 16);
    CHECK(c.mlp_mult == 8.0 / 3.0);
    CHECK(c.layer_types.count_of(LayerType::swa) == 2);
    CHECK(c.retrieval_every == 0);
    CHECK(read_config(Checkpoint(HYDRALM_GOLDEN_DIR "/model/no_qk_norm_2l")).dn_norm_qk == false);
}
