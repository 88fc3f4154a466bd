#!/usr/bin/env python3
"""Without exceptions and run-time type information, on g++ and clang: every header compiles, and a
program does what without_exceptions.cpp says. Argument: the build directory."""

import functools
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
import compiling

WITHOUT = ["-fno-exceptions", "-fno-rtti"]


def headers(base):
    text = subprocess.run([sys.executable, HERE / "every_header.py"], text=True, check=True,
                          stdout=subprocess.PIPE).stdout
    compiled, diagnostics = compiling.compile_text(base, text, *WITHOUT, "-fsyntax-only")
    return None if compiled else f"every header on {base[0]}:\n{diagnostics}"


def run(*command, **options):
    result = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            **options)
    return None if result.returncode == 0 else f"{' '.join(map(str, command))}:\n{result.stdout}"


def program(base):
    with tempfile.TemporaryDirectory() as directory:
        thrown, handled = f"{directory}/thrown.o", f"{directory}/handled.o"
        return (run(*base, "-c", HERE / "with_exceptions.cpp", "-o", thrown)
                or run(*base, *WITHOUT, "-c", HERE / "without_exceptions.cpp", "-o", handled)
                or run(base[0], thrown, handled, "-pthread", "-lz", "-o", f"{directory}/program")
                or run(f"{directory}/program", cwd=directory))


base = [word for word in compiling.command(sys.argv[1]) if word != "-fsyntax-only"]
compiling.run_all([functools.partial(job, compiler) for compiler in compiling.compilers(base)
                   for job in (program, headers)])
