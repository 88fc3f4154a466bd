#!/usr/bin/env python3
"""Every public header compiles alone, and twice in one unit. Argument: the build directory."""

import functools
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
import compiling


def check(base, header):
    line = f"#include <{header}>\n"
    compiled, diagnostics = compiling.compile_text(base, line * 2, "-Werror")
    return None if compiled else f"{header} does not compile alone:\n{diagnostics}"


base = compiling.command(sys.argv[1])
compiling.run_all([functools.partial(check, base, header) for header in compiling.PUBLIC_HEADERS])
