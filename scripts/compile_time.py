#!/usr/bin/env python3
"""What the headers cost a compiler, as a page of Markdown: one translation unit a row, at -O2.

Usage: compile_time.py [COMPILER...]    default: g++, and clang++-19 where installed. Exit status 1: one
takes more than its bound.
"""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
import compiling
from report import machine

FLAGS = ["-std=c++20", "-O2", "-march=native", "-pthread", "-DNDEBUG"]

BARE = "#include <hydralm/hydralm.hpp>\n"
MODEL = BARE + "#include <span>\n" + """
constexpr hydralm::HydraConfig config = {config};
using Model = hydralm::HydraLM<config>;

void prefill(const Model& model, std::span<const hydralm::token_id> tokens, Model::State& state) {{
    model.prefill(tokens, state);
}}
void step(const Model& model, hydralm::token_id token, Model::State& state) {{
    model.step(token, state);
}}
"""
OPEN = """
#include <hydralm/families/open.hpp>

hydralm::RuntimeModel<float> read(const char* path) {{
    return hydralm::open<float>(path, {kernels});
}}
"""
TRAINER = """
#include <hydralm/training.hpp>

constexpr hydralm::HydraConfig config{.vocab_size = 256, .d_model = 128, .n_layers = 4, .n_heads = 4,
                                      .swa_window = 128};
using Model = hydralm::HydraLM<config>;

void train(Model& model, hydralm::BatchSource& source) {
    hydralm::Trainer<Model> trainer(model, {});
    trainer.step(source);
}
"""
PROGRAM = ROOT / "examples" / "cli"
EVERYTHING = "".join(f"#include <{header}>\n" for header in compiling.PUBLIC_HEADERS)
DEEP = "[] {{ auto c = hydralm::presets::deep; c.n_layers = {layers}; return c; }}()"
UNITS = {"the bare include": BARE, "every header": EVERYTHING} | {
    f"prefill and step of {layers} layers of two mixers": MODEL.format(
        config=DEEP.format(layers=layers)) for layers in (4, 20, 24)} | {
    "prefill and step of 20 layers of three mixers": MODEL.format(config="hydralm::presets::hybrid")}
UNITS |= {
    "open: one width of heads, one chunk":
        OPEN.format(kernels="hydralm::Kernels<hydralm::Sizes<32>, hydralm::Sizes<32>>{}"),
    "open: the usual four and four": OPEN.format(kernels="hydralm::CommonKernels{}"),
    "Trainer of 4 layers": TRAINER,
    "the program: layers of float, heads of 64 and 128":
        (PROGRAM / "runtime_kernels_wide_float.cpp").read_text()}
SECONDS = {"the bare include": 4, "open: one width of heads, one chunk": 60} | {
    name: 15 for name in UNITS if "20 layers" in name}
MEGABYTES = 2048

PAGE = """\
# Compile time

What one translation unit costs: processor time, peak memory of the compiler, size of the object.
Measured by `./run reports` with `{flags}` on {machine}.
Bounds, beyond which this report fails: 4 s for the bare include; 15 s and {megabytes} MB for 20 layers; 60 s for
`open` with kernels of one width of heads and one chunk.

| compiler | unit | seconds | peak MB | object KB |
|---|---|---:|---:|---:|
"""


def includes():
    flags = subprocess.run(["pkg-config", "--cflags", "eigen3", "xsimd"], check=True, text=True,
                           capture_output=True).stdout
    return [f"-I{ROOT / 'include'}", f"-I{PROGRAM}", *shlex.split(flags)]


def measured(compiler, text):
    """(seconds, peak MB, object KB)"""
    with tempfile.TemporaryDirectory() as directory:
        source, target = pathlib.Path(directory, "unit.cpp"), pathlib.Path(directory, "unit.o")
        source.write_text(text)
        child = subprocess.Popen([compiler, *FLAGS, *includes(), "-c", source, "-o", target])
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            raise SystemExit(f"{compiler} does not compile:\n{text}")
        return (usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024,
                target.stat().st_size / 1024)


def main(compilers):
    print(PAGE.format(flags=" ".join(FLAGS), machine=machine(),
                      megabytes=MEGABYTES), end="")
    beyond = False
    for compiler in compilers or filter(shutil.which, ("g++", "clang++-19")):
        version = subprocess.run([compiler, "-dumpfullversion", "-dumpversion"], check=True,
                                 text=True, capture_output=True).stdout.split()[0]
        for name, text in UNITS.items():
            seconds, memory, size = measured(compiler, text)
            print(f"| {compiler} {version} | {name} | {seconds:.1f} | {memory:.0f} | {size:.0f} |",
                  flush=True)
            beyond |= name in SECONDS and (seconds > SECONDS[name] or memory > MEGABYTES)
    return int(beyond)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
