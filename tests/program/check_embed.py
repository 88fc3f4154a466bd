#!/usr/bin/env python3
"""Models as headers: the logits are those of the checkpoint, bit for bit, without the heap; compilers
have nothing to say of them. Arguments as check_program.py."""

import json
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import compiling
from program import GOLDEN, PROGRAM, initialised, json_of, refusal, run, run_checks, tensors

CONFIG = {"vocab_size": 256, "d_model": 64, "n_layers": 2, "n_heads": 2, "mlp_mult": 2.0,
          "swa_window": 8, "swa_every": 2}
# Every kind of layer, modules to draft with, a head of its own.
WHOLE = {"vocab_size": 256, "d_model": 32, "n_layers": 4, "n_heads": 2, "n_kv_heads": 1, "mlp_mult": 1.5,
         "layer_types": ["full", "retrieval", "deltanet", "swa"], "retrieval_top_k": 3, "mtp_depth": 2,
         "rms_eps": 1e-6, "tie_embeddings": False}
POLICIES = {"f32": "Float", "bf16": "BF16", "q8": "Q8", "q4": "Q4", "mixed": "Mixed"}
IDS = [72, 121, 100, 114, 97, 0, 255, 10, 72, 121, 100, 32]
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Wsign-conversion", "-Werror"]
# g++ 12 warns of its own intrinsics for AVX-512, as the README says.
QUIET = ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]

UNIT = """\
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
%s
void* operator new(std::size_t) { std::abort(); }
void* operator new(std::size_t, std::align_val_t) { std::abort(); }
void operator delete(void*) noexcept {}
void operator delete(void*, std::size_t) noexcept {}
void operator delete(void*, std::align_val_t) noexcept {}
void operator delete(void*, std::size_t, std::align_val_t) noexcept {}

template <class Model>
void print(const Model& model) {
    constexpr auto form = hydralm::Form::recurrent;
    alignas(hydralm::alignment) static std::byte state[Model::state_bytes],
        scratch[Model::workspace_bytes(1, 1, form)];
    static float logits[Model::vocab_size()];
    std::memset(state, 0, sizeof state);
    hydralm::Stream stream{state, 0};
    for (const hydralm::token_id id : {%s}) {
        hydralm::Arena arena{std::span(scratch)};
        const auto hidden = model.forward(&id, {&stream, 1}, 1, form, arena);
        model.head(hidden, {logits, 1, Model::vocab_size()});
        ++stream.position;
        std::fwrite(logits, sizeof(float), Model::vocab_size(), stdout);
    }
}

%s
int main() {
    hydralm::set_num_threads(1);
%s}
"""


def cpp_value(value):
    if isinstance(value, list):
        return "hydralm::LayerTypes{" + ", ".join(f"hydralm::LayerType::{name}" for name in value) + "}"
    return json.dumps(value)


def optimisation():
    """As the program rounds: which operations of plain code g++ fuses depends on it."""
    options = json.loads((PROGRAM.parent / "meson-info" / "intro-buildoptions.json").read_text())
    level = next(option["value"] for option in options if option["name"] == "optimization")
    return "-O" + {"plain": "0"}.get(level, level)


def model_of(directory):
    config = directory / "config.json"
    config.write_text(json.dumps(CONFIG))
    return initialised(directory, "--config", config, "--scheme", "fan_in")


def same_logits(directory):
    """Of every format, from a header; of one from an object of the assembler's too. A config with
    everything is what it was."""
    model, ids, out = model_of(directory), directory / "ids", directory / "out"
    ids.write_text(" ".join(map(str, IDS)))
    expected, headers = b"", {**POLICIES, "assembled": "Q4"}
    for name, policy in headers.items():
        form = "q4" if name == "assembled" else name
        said = json_of("embed", "--model", model, "--format", form, "--out", directory / f"{name}.hpp",
                       *(["--assembler"] if name == "assembled" else []))
        assert said["weights"] == policy and said["weight_bytes"] % 64 == 0, said
        run("logits", "--model", model, "--ids", ids, "--out", out, "--form", "step",
            "--weights", form.replace("f32", "float"))
        expected += tensors(out)["logits"][1].tobytes()
    assert (directory / "assembled.bin").stat().st_size == said["weight_bytes"]
    config = directory / "config.json"
    config.write_text(json.dumps(WHOLE))
    run("init", "--config", config, "--out", model)
    run("embed", "--model", model, "--out", directory / "whole.hpp")
    asserted = "".join(f"static_assert(whole::config.{name} == {cpp_value(value)});\n"
                       for name, value in WHOLE.items())
    unit, program = directory / "unit.cpp", directory / "program"
    unit.write_text(UNIT % ("\n".join(f'#include "{name}.hpp"' for name in [*headers, "whole"]),
                            ", ".join(map(str, IDS)), asserted + "const whole::Model whole_model{whole::embedded};",
                            "".join(f"    print({name}::Model{{{name}::embedded}});\n" for name in headers)))
    base = [word for word in compiling.command(PROGRAM.parent) if not word.startswith("-W")]
    for compiler in compiling.compilers([*base, *WARNINGS]):
        quiet = [] if "clang" in compiler[0] else QUIET
        said = subprocess.run([*compiler, *quiet, unit], capture_output=True, text=True)
        assert said.returncode == 0, said.stderr[:4000]
    compiler = [word for word in base if word != "-fsyntax-only"]
    said = subprocess.run([*compiler, optimisation(), "-fno-exceptions", "-fno-rtti", unit,
                           directory / "assembled.S", f"-Wa,-I,{directory}", "-o", program],
                          capture_output=True, text=True)
    assert said.returncode == 0, said.stderr[:4000]
    found = subprocess.run([program], capture_output=True, check=True).stdout
    assert len(found) == len(expected) == len(headers) * len(IDS) * 256 * 4, len(found)
    size = len(IDS) * 256 * 4
    for i, name in enumerate(headers):
        part = slice(i * size, (i + 1) * size)
        assert found[part] == expected[part], f"{name}: other logits than the checkpoint's"


def as_the_file(directory):
    """Without --format matrices stay as they are; for other targets other bytes."""
    model, small = model_of(directory), directory / "small.safetensors"
    header = directory / "model.hpp"
    for form, policy in POLICIES.items():
        run("convert", "--model", model, "--format", form, "--out", small)
        said = json_of("embed", "--model", small, "--out", header)
        assert said["weights"] == policy, said
        text = header.read_text()
        run("embed", "--model", model, "--format", form, "--out", header)
        assert header.read_text() == text, form
    assert "namespace model {" in text and "config{\n    .vocab_size = 256,\n    .d_model = 64," in text
    texts = set()
    for width in 16, 32, 64:
        said = json_of("embed", "--model", model, "--out", header, "--vector-bytes", width)
        assert said["vector_bytes"] == width, said
        texts.add(header.read_text())
    assert len(texts) == 3


def bound_to_header(directory):
    """An object of other weights does not link; weights of another size do not assemble."""
    header, source, main = directory / "m.hpp", directory / "m.S", directory / "main.cpp"
    compiler = compiling.command(PROGRAM.parent)[0]

    def compiled(*arguments):
        said = subprocess.run([compiler, *arguments], capture_output=True, text=True)
        return "" if said.returncode == 0 else said.stderr or "failed"

    def assembled(name):
        return compiled("-c", source, f"-Wa,-I,{directory}", "-o", directory / name)
    config = directory / "config.json"
    config.write_text(json.dumps(CONFIG))
    model, symbols = directory / "model.safetensors", []
    for seed in 1, 2:
        run("init", "--out", model, "--seed", seed, "--config", config)
        run("embed", "--model", model, "--out", header, "--assembler")
        assert not assembled(f"{seed}.o")
        symbols += re.findall(r"const Weights (\w+);", header.read_text())
    assert len(set(symbols)) == 2, symbols
    main.write_text(f'extern "C" const char {symbols[1]};\nint main() {{ return {symbols[1]}; }}\n')
    assert not compiled(main, directory / "2.o", "-o", directory / "program")
    assert symbols[1] in compiled(main, directory / "1.o", "-o", directory / "program")
    image = directory / "m.bin"
    whole = image.read_bytes()
    for other in whole[:-64], whole + bytes(64):
        image.write_bytes(other)
        said = assembled("3.o")
        assert f"hydralm: m.bin: must be of {len(whole)} bytes; run hydralm embed again" in said, said


def refusals(directory):
    model = model_of(directory)
    header = directory / "model.hpp"
    folder = directory / "folder.hpp"
    folder.mkdir()

    def refused(*options, out=header):
        return refusal("embed", "--model", model, "--out", out, *options)
    assert "--format" in refused("--format", "q5")
    assert "--vector-bytes" in refused("--vector-bytes", 48)
    assert "a directory" in refused(out=folder)
    for name, fault in {"model": "no header", "other.safetensors": "no header", ".hpp": "no header",
                        "my-model.hpp": "no identifier", "2.hpp": "no identifier",
                        "class.hpp": "a keyword of C++", "xor_eq.hpp": "a keyword of C++",
                        "hydralm.hpp": "the library's namespace", "std.hpp": "reserved in C++",
                        "main.hpp": "reserved in C++", "_X.hpp": "reserved in C++",
                        "a__b.hpp": "reserved in C++"}.items():
        line = refused(out=directory / name)
        assert f"--out: expected NAME.hpp, where NAME becomes a namespace of the program, found {name}, " \
            f"{fault};" in line, line
    line = refused(out=directory / "none" / "model.hpp")
    assert "expected a directory that can be written" in line, line
    published = GOLDEN / "published" / "qwen35_text"
    line = refusal("embed", "--model", published, "--out", header)
    assert "expected a model with a config of this library, found a published one" in line, line
    kept = directory / "header.bin"
    kept.write_bytes(model.read_bytes())
    line = refusal("embed", "--model", kept, "--out", directory / "header.hpp", "--assembler")
    assert "--assembler: expected a file that is not used otherwise" in line, line
    assert kept.read_bytes() == model.read_bytes()
    assert not header.exists()


def too_large(directory):
    """For a header; the assembler takes it."""
    config, model, header = directory / "config.json", directory / "model.safetensors", directory / "m.hpp"
    config.write_text(json.dumps({"vocab_size": 256, "d_model": 512, "n_layers": 2, "n_heads": 8}))
    run("init", "--config", config, "--out", model)
    line = refusal("embed", "--model", model, "--out", header)
    assert "expected at most 16777216 bytes of weights in a header" in line, line
    assert not header.exists()
    run("embed", "--model", model, "--out", header, "--assembler")
    assert "extern" in header.read_text() and (directory / "m.bin").stat().st_size > 16777216


run_checks([same_logits, as_the_file, bound_to_header, refusals, too_large])
