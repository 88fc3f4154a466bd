// Where a published model ends its texts.
#include "hydralm/families/stop_ids.hpp"

#include "support/files.hpp"
#include "support/gguf_writer.hpp"

using namespace hydralm;
using namespace hydralm::test;

TEST_CASE("Stop ids are those of generation_config.json, else of config.json", "[families]") {
    const TemporaryDirectory directory;
    const auto ids = [&] { return stop_ids(directory.path(), 248320); };
    const auto write = [&](const char* name, const char* text) {
        write_text(directory / name, text);
    };
    CHECK(ids().empty());
    write("config.json", R"({"text_config":{"eos_token_id":5},"eos_token_id":null})");
    CHECK(ids() == std::vector<token_id>{5});
    write("config.json", R"({"eos_token_id":7})");
    CHECK(stop_ids(directory / "model.safetensors", 8) == std::vector<token_id>{7});
    write("generation_config.json", R"({"eos_token_id":null})");
    CHECK(ids() == std::vector<token_id>{7});
    write("generation_config.json", R"({"eos_token_id":[248046,248044]})");
    CHECK(ids() == std::vector<token_id>{248046, 248044});
    for (const char* const bad : {"-1", "1.5", "\"x\"", "[1,null]", "4294967296", "248320"}) {
        write("generation_config.json", (std::string(R"({"eos_token_id":)") + bad + "}").c_str());
        check_error(ids,
                    {"generation_config.json: eos_token_id: expected an id or a list of ids in [0, "
                     "248320), found "});
    }
    CHECK(stop_ids(HYDRALM_GOLDEN_DIR "/published/qwen35_text", 320) ==
          std::vector<token_id>{309, 307});
}

TEST_CASE("Stop ids of a GGUF file are those of its metadata", "[families][gguf]") {
    const TemporaryDirectory directory;
    const auto of = [&](const GgufWriter& writer) {
        write_text(directory / "model.gguf", writer.file());
        return stop_ids(directory / "model.gguf", 320);
    };
    const std::string eos = "tokenizer.ggml.eos_token_id";
    CHECK(of(GgufWriter()).empty());
    CHECK(of(GgufWriter().u32(eos, 5).u32("tokenizer.ggml.eot_token_id", 319)) ==
          std::vector<token_id>{5, 319});
    CHECK(of(GgufWriter().i32s(eos, {7, 9})) == std::vector<token_id>{7, 9});
    for (const GgufWriter& bad : {GgufWriter().u32(eos, 320), GgufWriter().text(eos, "x"),
                                  GgufWriter().i32s(eos, {7, 320}), GgufWriter().texts(eos, {"7"}),
                                  GgufWriter().number(eos, GgufType::i32, std::int32_t{-1})})
        check_error([&] { of(bad); }, {"model.gguf: " + eos + ": expected an id"});
}
