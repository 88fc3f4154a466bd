#!/usr/bin/env python3
"""A program of a unit for every x86-64 and, behind it, one for AVX-512: of the functions that both
have, those of the standard library and others, none holds an instruction that the first was not
compiled for, nor does what the second runs when the program starts. Linked the other way about, some
do. Argument: the build directory."""

import pathlib
import platform
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
import compiling

FLAGS = {"baseline": ["-march=x86-64"], "wide": ["-march=x86-64-v4"]}
MAIN = """
bool baseline(const char* file);
bool wide(const char* file);
int main(int count, char** words) { return (count > 2 ? wide : baseline)(words[1]) ? 0 : 1; }
"""
FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
AT_START = re.compile(r"_GLOBAL__sub_I|static_initialization|global_var_init")
AVX = re.compile(r"\tv[a-z]|%[yz]mm|%k[0-7]")


def run(*command, **options):
    return subprocess.run(command, text=True, check=True, stdout=subprocess.PIPE, **options).stdout


def shared_names(file):
    """The functions and data of an object of which the linker keeps one."""
    fields = (line.split() for line in run("nm", file).splitlines())
    return {words[-1] for words in fields if words[-2] in "WVu"}


def functions_of_avx(file):
    found, name = set(), None
    for line in run("objdump", "-d", "--no-show-raw-insn", file).splitlines():
        if function := FUNCTION.match(line):
            name = function[1]
        elif AVX.search(line):
            found.add(name)
    return found


def check():
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory)
        (folder / "main.cpp").write_text(MAIN)
        run(*compiler, *FLAGS["baseline"], "-c", folder / "main.cpp", "-o", folder / "main.o")
        for name, flags in FLAGS.items():
            run(*compiler, *flags, f"-DNAME={name}", "-c", HERE / "instruction_sets.cpp",
                "-o", folder / f"{name}.o")
        both = shared_names(folder / "baseline.o") & shared_names(folder / "wide.o")
        wrong = {}
        for order in (["baseline", "wide"], ["wide", "baseline"]):
            program = folder / "_then_".join(order)
            run(compiler[0], folder / "main.o", *(folder / f"{name}.o" for name in order), "-pthread",
                "-lz", "-o", program)
            found = functions_of_avx(program)
            wrong[order[0]] = both & found | set(filter(AT_START.search, found))
        run(folder / "baseline_then_wide", folder / "model.safetensors")
        if wrong["baseline"]:
            return "AVX in functions of the baseline unit:\n" + "\n".join(sorted(wrong["baseline"]))
        return None if wrong["wide"] else "no function of the wide unit is shared: this test sees none"


compiler = [word for word in compiling.command(sys.argv[1])
            if word != "-fsyntax-only" and not word.startswith("-march=")]
if platform.machine() == "x86_64":
    compiling.run_all([check])
print("0 passed, 0 failed")
