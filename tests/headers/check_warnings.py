#!/usr/bin/env python3
"""The public headers, included as ordinary headers, give a user no warning.

    check_warnings.py BUILD          each header alone and user.cpp, checked by g++ and clang
    check_warnings.py BUILD --all    and user.cpp compiled: -O0, -O2, -O3, with and without -march=native

BUILD is a build directory, which says where Eigen, xsimd and nlohmann-json are; those are system
headers here, as they are for a user. Compilers: the project's, and clang 19 where it is installed.
"""

import functools
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "support"))
import compiling

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Wsign-conversion", "-Werror"]
# g++'s own intrinsics of AVX-512 read a variable to leave it undefined, which it warns of.
OF_INTRINSICS = ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]
LEVELS = ["-O0", "-O2", "-O3"]


def as_user(base):
    """The compiler with the include paths of `base`, none of its other flags."""
    paths = [word for option, path in zip(base, base[1:]) if option == "-isystem"
             for word in (option, path)]
    return [base[0], "-std=c++20", "-pthread", "-I", str(ROOT / "include"), *paths, *WARNINGS]


def check(base, what, text, *flags):
    compiled, diagnostics = compiling.compile_text(base, text, *flags)
    where = f"{what} on {pathlib.Path(base[0]).name} {' '.join(flags)}"
    return None if compiled else f"{where}:\n{diagnostics[:4000]}"


bases = [as_user(base) for base in compiling.compilers(compiling.command(sys.argv[1]))]
user = (HERE / "user.cpp").read_text()
headers = [path.relative_to(ROOT / "include").as_posix()
           for path in sorted((ROOT / "include").rglob("*.hpp"))]
jobs = [functools.partial(check, base, what, text, "-fsyntax-only") for base in bases
        for what, text in [("user.cpp", user), *((h, f"#include <{h}>\n") for h in headers)]]
if "--all" in sys.argv[2:]:
    for base in bases:
        intrinsics = [] if "clang" in base[0] else OF_INTRINSICS
        for native in ([], ["-march=native", *intrinsics]):
            jobs += [functools.partial(check, base, "user.cpp", user, "-c", "-o", os.devnull, level,
                                       *native) for level in LEVELS]
compiling.run_all(jobs)
