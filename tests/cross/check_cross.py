#!/usr/bin/env python3
"""The model inside a binary, for other processors: built by cross compilers, run by qemu-user. It
must begin the text that it writes here (roundings differ, and a byte that is drawn otherwise changes
the rest), end it in words, and be as small. And the tests of the kernels that most of the time goes
into, and of what promises the same bits everywhere, for aarch64. Arguments: the program hydralm, and
the example for this machine, built."""

import functools
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "support"))
import compiling

HYDRALM, NATIVE = (pathlib.Path(path).resolve() for path in sys.argv[1:3])
EXAMPLE = ROOT / "examples" / "embedded"
MOST_BYTES = 600_000
ALIKE = 20  # bytes of the text
# The machine, of which the flags are; how qemu is told to be without what a leaf asks for.
TARGETS = (
    ("aarch64-linux-gnu", [], "qemu-aarch64", []),
    ("aarch64-linux-gnu", [], "qemu-aarch64", ["-cpu", "cortex-a53"]),
    ("arm-linux-gnueabihf", ["-mfpu=neon-vfpv4"], "qemu-arm", []),
)
# Of tests/, and what the output must name.
TESTS = (
    ("kernels/matmul_test", "passed"),
    ("kernels/bf16_matmul_test", "passed"),
    ("kernels/quantised_matmul_test", "neon-dotprod runs"),
    ("kernels/quantised_block_test", "passed"),
    ("kernels/delta_rule_test", "passed"),
    ("kernels/window_attention_test", "passed"),
    ("kernels/short_conv_test", "passed"),
    ("kernels/rms_norm_test", "passed"),
    ("simd/batch_test", "passed"),
    ("simd/words_test", "passed"),
)
FLAGS = ["-std=c++20", "-Os", "-DNDEBUG", "-fno-exceptions", "-fno-rtti", "-ffunction-sections",
         "-fdata-sections", "-Wall", "-Wextra", "-pthread", "-s", "-Wl,--gc-sections"]


def includes(directory):
    """Eigen, xsimd and Catch2 alone, without the headers of this machine beside them."""
    for package, header in ("xsimd", "xsimd/xsimd.hpp"), ("catch2", "catch2/catch.hpp"):
        if folder := folder_of(package, header):
            (directory / package).symlink_to(folder / package)
    return ["-I", ROOT / "include", "-isystem", folder_of("eigen3", "Eigen/Core"), "-isystem", directory]


def folder_of(package, header):
    found = subprocess.run(["pkg-config", "--cflags-only-I", package], capture_output=True, text=True)
    folders = [*(word.removeprefix("-I") for word in found.stdout.split()), "/usr/include",
               "/usr/include/eigen3"]
    return next((pathlib.Path(folder) for folder in folders
                 if (pathlib.Path(folder) / header).exists()), None)


def written_by(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def missing(where, *tools):
    return next((f"{where}: there is no {tool}" for tool in tools if not shutil.which(tool)), None)


def check(target, flags, qemu, machine):
    where = " ".join([target, *machine])
    if complaint := missing(where, f"{target}-g++", qemu):
        return complaint
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        written_by(HYDRALM, "embed", "--model", EXAMPLE / "english.safetensors", "--vector-bytes", "16",
                   "--out", directory / "english.hpp")
        program = directory / "embedded"
        said = subprocess.run([f"{target}-g++", *FLAGS, *flags, *includes(directory), "-I", directory,
                               EXAMPLE / "embedded.cpp", "-o", program], capture_output=True, text=True)
        if said.returncode or said.stderr:
            return f"{where}:\n{said.stderr[:4000]}"
        text = written_by(qemu, *machine, "-L", f"/usr/{target}", program)
        size = program.stat().st_size
        print(f"{where}: {size} bytes of file; {text[:60]!r}…")
        if text[:ALIKE] != written_by(NATIVE)[:ALIKE] or len(text.split()) < 60:
            return f"{where} writes another text than this machine:\n{text}"
        return f"{where}: {size} bytes, more than {MOST_BYTES}" if size > MOST_BYTES else None


def check_test(test, named):
    if complaint := missing(f"aarch64, {test}", "aarch64-linux-gnu-g++", "qemu-aarch64"):
        return complaint
    tests = ROOT / "tests"
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        program = directory / "program"
        said = subprocess.run(["aarch64-linux-gnu-g++", "-std=c++20", "-O1", "-Wall", "-pthread",
                               f'-DHYDRALM_GOLDEN_DIR="{tests / "golden"}"',
                               *includes(directory), "-isystem", directory, "-I", tests,
                               tests / "support" / "main.cpp", tests / f"{test}.cpp",
                               "-o", program], capture_output=True, text=True)
        if said.returncode or said.stderr:
            return f"aarch64, {test}:\n{said.stderr[:4000]}"
        run = subprocess.run(["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", program],
                             capture_output=True, text=True)
        print(f"aarch64, {test}: {(run.stdout.strip().splitlines() or ['nothing said'])[-1]}")
        if run.returncode or named not in run.stdout:
            return f"aarch64, {test} ended with {run.returncode}:\n{run.stdout[-4000:]}"
    return None


jobs = [functools.partial(check, *target) for target in TARGETS]
if folder_of("catch2", "catch2/catch.hpp"):
    jobs += [functools.partial(check_test, *test) for test in TESTS]
else:
    print("The tests are not run: there is no Catch2 2, which needs no library of another machine")
compiling.run_all(jobs)
