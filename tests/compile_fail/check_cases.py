#!/usr/bin/env python3
"""Misuse does not compile, and the message says why. Argument: the build directory.

A case is a file *.cpp beside this script. It begins with one or more lines
    // expect: <part of the compiler's message>
and may go on with `// with: <flags>`. Compiled as it is, with these flags, it must fail and the
message must contain every part, on the project's compiler, and on clang 19 where that is installed.
With -c among the flags it is compiled to the end, not only checked. `// on: g++` names the only compiler.
Without them, with -DHYDRALM_CONTROL, which selects the mended form, the project's compiler takes it:
all of them in one unit, each in a namespace of its own, behind the headers of all.
"""

import functools
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
import compiling

MARK = "// expect:"
FLAGS = "// with:"
ONLY = "// on:"


def check(base, case):
    text = case.read_text()
    where = f"{case.name} on {pathlib.Path(base[0]).name}"
    expected = []
    for line in text.splitlines():
        if not line.startswith(MARK):
            break
        expected.append(line.removeprefix(MARK).strip())
    if not expected:
        return f"{case.name}: the first line is not `{MARK} <message>`"
    flags = [flag for line in text.splitlines() if line.startswith(FLAGS)
             for flag in line.removeprefix(FLAGS).split()]
    if "-c" in flags:
        base = [word for word in base if word != "-fsyntax-only"] + ["-o", os.devnull]
    compiled, diagnostics = compiling.compile_text(base, text, *flags)
    if compiled:
        return f"{where} compiles, and must not"
    for part in expected:
        if part not in diagnostics:
            return f"{where} does not say `{part}`, but:\n{diagnostics[:4000]}"
    return None


def check_controls(base, cases):
    headers = {line for case in cases for line in case.read_text().splitlines()
               if line.startswith("#include")}
    mended = [f'namespace {case.stem} {{\n#include "{case}"\n}}' for case in cases]
    compiled, diagnostics = compiling.compile_text(base, "\n".join([*sorted(headers), *mended, ""]),
                                                   "-DHYDRALM_CONTROL")
    if not compiled:
        return f"Cases mended with -DHYDRALM_CONTROL do not compile:\n{diagnostics[:4000]}"
    return None


def meant_for(base, case):
    only = [line.removeprefix(ONLY).strip() for line in case.read_text().splitlines()
            if line.startswith(ONLY)]
    return not only or pathlib.Path(base[0]).name.startswith(only[0])


bases = compiling.compilers(compiling.command(sys.argv[1]))
cases = sorted(HERE.glob("*.cpp"))
compiling.run_all([functools.partial(check, base, case) for case in cases for base in bases
                   if meant_for(base, case)] +
                  [functools.partial(check_controls, bases[0], cases)])
