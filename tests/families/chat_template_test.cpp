// Which templates for dialogues are ChatML.
#include "hydralm/families/chat_template.hpp"

#include "support/files.hpp"
#include "support/gguf_writer.hpp"

using namespace hydralm;
using namespace hydralm::test;

TEST_CASE("A template that is not ChatML is refused by its file", "[families]") {
    const TemporaryDirectory directory;
    const auto expect = [&] { expect_chat_ml(directory.path()); };
    const auto write = [&](const char* name, const char* text) {
        write_text(directory / name, text);
    };
    CHECK_NOTHROW(expect());
    write("tokenizer_config.json", R"({"chat_template":null})");
    CHECK_NOTHROW(expect());
    write("tokenizer_config.json", R"({"chat_template":"<|im_start|>"})");
    CHECK_NOTHROW(expect());
    CHECK_NOTHROW(expect_chat_ml(directory / "model.safetensors"));
    for (const char* const other :
         {R"("[INST]")", R"([{"name":"default","template":"<|user|>"}])"}) {
        write("tokenizer_config.json", (std::string(R"({"chat_template":)") + other + "}").c_str());
        check_error(expect, {"tokenizer_config.json: chat_template: expected ChatML"});
    }
    write("chat_template.jinja", "{{ '<|im_start|>' }}");
    CHECK_NOTHROW(expect());
    write("chat_template.jinja", "{{ bos_token }}");
    check_error(expect, {"chat_template.jinja: chat_template: expected ChatML"});

    // A GGUF file has its own, whatever lies beside it.
    const auto gguf = directory / "model.gguf";
    const auto of_file = [&] { expect_chat_ml(gguf); };
    write_text(gguf, GgufWriter().file());
    CHECK_NOTHROW(of_file());
    write_text(gguf, GgufWriter().text("tokenizer.chat_template", "<|im_start|>").file());
    CHECK_NOTHROW(of_file());
    write_text(gguf, GgufWriter().text("tokenizer.chat_template", "[INST]").file());
    check_error(of_file, {"model.gguf: chat_template: expected ChatML"});
}
