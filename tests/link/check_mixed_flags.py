#!/usr/bin/env python3
"""Two units of one program that are compiled for different instruction sets, or one of them without
exceptions: each works by itself, and a hydralm type passed from one to the other is a link error. Argument: the build directory."""

import pathlib
import platform
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
import compiling

INCLUDE = "#include <hydralm/model/config.hpp>\n"
CALLED = INCLUDE + """
int layers(const hydralm::HydraConfig& config) { return config.n_layers; }
int own_layers() { return layers(hydralm::presets::deep); }
"""
OTHER = INCLUDE + """
int own_layers();
int main() { return hydralm::presets::deep.n_layers - own_layers(); }
"""
PASSING = INCLUDE + """
int layers(const hydralm::HydraConfig& config);
int main() { return layers(hydralm::presets::deep) - 20; }
"""
BASELINE, WIDER = ["-march=x86-64"], ["-march=x86-64", "-mavx2", "-mfma"]
WITHOUT_EXCEPTIONS = [*BASELINE, "-fno-exceptions"]


def linked(directory, compiler, unit, flags):
    objects = []
    for name, text, more in (("called", CALLED, BASELINE), ("calling", unit, flags)):
        objects.append(directory / f"{name}.o")
        subprocess.run([*compiler, *more, "-x", "c++", "-c", "-", "-o", objects[-1]], input=text,
                       text=True, check=True)
    program = directory / "program"
    result = subprocess.run([compiler[0], *objects, "-o", program], text=True, capture_output=True)
    return program if result.returncode == 0 else None, result.stderr


def check(unit, flags, expected):
    def job():
        with tempfile.TemporaryDirectory() as directory:
            program, errors = linked(pathlib.Path(directory), compiler, unit, flags)
            if expected:
                good = program is not None and subprocess.run([program]).returncode == 0
            else:
                good = program is None and "layers" in errors
            return None if good else f"{unit}\nwith {flags}: linked {program}\n{errors}"
    return job


compiler = [word for word in compiling.command(sys.argv[1])
            if word != "-fsyntax-only" and not word.startswith("-march=")]
if platform.machine() == "x86_64":
    compiling.run_all([check(PASSING, BASELINE, True), check(OTHER, WIDER, True),
                       check(PASSING, WIDER, False), check(OTHER, WITHOUT_EXCEPTIONS, True),
                       check(PASSING, WITHOUT_EXCEPTIONS, False)])
print("0 passed, 0 failed")
