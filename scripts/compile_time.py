#!/usr/bin/env python3
"""What the headers cost a compiler, as a page of Markdown: one translation unit a row, at -O2.

Usage: compile_time.py [COMPILER...]    default: g++, and clang++-19 where installed. Exit status 1: a
model of 20 layers takes more than its bound.
"""

import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
FLAGS = ["-std=c++20", "-O2", "-march=native", "-pthread", "-DNDEBUG"]

BARE = "#include <hydralm/hydralm.hpp>\n"
MODEL = BARE + "#include <span>\n" + """
constexpr hydralm::HydraConfig config{{.vocab_size = 256, .d_model = 128, .n_layers = {layers},
                                      .n_heads = 4, .swa_window = 128}};
using Model = hydralm::HydraLM<config>;

void prefill(const Model& model, std::span<const hydralm::token_id> tokens, Model::State& state) {{
    model.prefill(tokens, state);
}}
void step(const Model& model, hydralm::token_id token, Model::State& state) {{
    model.step(token, state);
}}
"""
EVERYTHING = "".join(f"#include <{path.relative_to(ROOT / 'include')}>\n"
                     for path in sorted((ROOT / "include").rglob("*.hpp")))
BOUNDED = "prefill and step of 20 layers"
SECONDS, MEGABYTES = 30, 2048
UNITS = {"the bare include": BARE, "every header": EVERYTHING} | {
    f"prefill and step of {layers} layers": MODEL.format(layers=layers) for layers in (4, 20, 24)}

PAGE = """\
# Compile time

What one translation unit costs: wall time, peak memory of the compiler, size of the object.
Measured by `./run reports` with `{flags}` on {machine}.
The bound is {seconds} s and {megabytes} MB for 20 layers; beyond it this report fails.

| compiler | unit | seconds | peak MB | object KB |
|---|---|---:|---:|---:|
"""


def machine():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def includes():
    flags = subprocess.run(["pkg-config", "--cflags", "eigen3", "xsimd"], check=True, text=True,
                           capture_output=True).stdout
    return [f"-I{ROOT / 'include'}", *shlex.split(flags)]


def measured(compiler, text):
    """(seconds, peak MB, object KB)"""
    with tempfile.TemporaryDirectory() as directory:
        source, target = pathlib.Path(directory, "unit.cpp"), pathlib.Path(directory, "unit.o")
        source.write_text(text)
        start = time.monotonic()
        child = subprocess.Popen([compiler, *FLAGS, *includes(), "-c", source, "-o", target])
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            raise SystemExit(f"{compiler} does not compile:\n{text}")
        return time.monotonic() - start, usage.ru_maxrss / 1024, target.stat().st_size / 1024


def main(compilers):
    print(PAGE.format(flags=" ".join(FLAGS), machine=machine(), seconds=SECONDS,
                      megabytes=MEGABYTES), end="")
    beyond = False
    for compiler in compilers or filter(shutil.which, ("g++", "clang++-19")):
        version = subprocess.run([compiler, "-dumpfullversion", "-dumpversion"], check=True,
                                 text=True, capture_output=True).stdout.split()[0]
        for name, text in UNITS.items():
            seconds, memory, size = measured(compiler, text)
            print(f"| {compiler} {version} | {name} | {seconds:.1f} | {memory:.0f} | {size:.0f} |",
                  flush=True)
            beyond |= name == BOUNDED and (seconds > SECONDS or memory > MEGABYTES)
    return int(beyond)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
