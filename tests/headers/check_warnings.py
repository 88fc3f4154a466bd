#!/usr/bin/env python3
"""The public headers, included as ordinary headers, give a user no warning.

    check_warnings.py BUILD          every header, and user.cpp, read by g++ and clang
    check_warnings.py BUILD --all    compiled, too: -O0, -O2, -O3, with and without -march=native

BUILD is a build directory, which says where Eigen, xsimd and nlohmann-json are; those are system
headers here, as they are for a user. Compilers: the project's, and clang 19 where it is installed.
"""

import functools
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "support"))
import compiling

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Wsign-conversion", "-Werror"]
LEVELS = ["-O0", "-O2", "-O3"]


def as_user(base):
    """The compiler with the include paths of `base`, none of its other flags."""
    paths = [word for option, path in zip(base, base[1:]) if option == "-isystem"
             for word in (option, path)]
    return [base[0], "-std=c++20", "-pthread", "-I", str(ROOT / "include"), *paths, *WARNINGS]


def of_intrinsics(compiler):
    """What hides the warnings of the compiler's own headers of AVX-512: g++ before 13 gives them, as
    the README says."""
    version = subprocess.run([compiler, "-dumpversion"], text=True, check=True,
                             stdout=subprocess.PIPE).stdout
    old = "clang" not in compiler and int(version.partition(".")[0]) < 13
    return ["-Wno-uninitialized", "-Wno-maybe-uninitialized"] if old else []


def check(base, what, *flags):
    compiled, diagnostics = compiling.compile_text(base, UNITS[what], *flags)
    where = f"{what} on {pathlib.Path(base[0]).name} {' '.join(flags)}"
    return None if compiled else f"{where}:\n{diagnostics[:4000]}"


UNITS = {
    "user.cpp": (HERE / "user.cpp").read_text(),
    "every header": subprocess.run([sys.executable, ROOT / "tests" / "link" / "every_header.py"], text=True,
                                   check=True, stdout=subprocess.PIPE).stdout,
}
bases = [as_user(base) for base in compiling.compilers(compiling.command(sys.argv[1]))]
jobs = [functools.partial(check, base, what, "-fsyntax-only") for base in bases for what in UNITS]
if "--all" in sys.argv[2:]:
    for base in bases:
        for native in ([], ["-march=native", *of_intrinsics(base[0])]):
            jobs += [functools.partial(check, base, "user.cpp", "-c", "-o", os.devnull, level, *native)
                     for level in LEVELS]
compiling.run_all(jobs)
