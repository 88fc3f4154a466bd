"""Compiling single files as the project's own are compiled, many at a time, and counting."""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent / "include"
# As they are included; without those that need MPI, which are compiled where it is.
PUBLIC_HEADERS = [path.relative_to(ROOT).as_posix() for path in sorted(ROOT.rglob("*.hpp"))
                  if "#include <mpi.h>" not in path.read_text()]
KEPT = re.compile(r"-(D|W|std=|march=|pthread)")
PATH = re.compile(r"(-isystem|-I)(.+)")


def command(build_dir):
    """The compiler and the flags of tests/link/first.cpp that matter to the front end."""
    entries = json.loads((pathlib.Path(build_dir) / "compile_commands.json").read_text())
    entry = next(e for e in entries if e["file"].endswith("tests/link/first.cpp"))
    words = shlex.split(entry["command"])
    if pathlib.Path(words[0]).name in ("ccache", "sccache"):
        words = words[1:]
    flags = [word for word in words[1:] if KEPT.match(word)]
    for option, path in (match.groups() for match in map(PATH.fullmatch, words) if match):
        flags += [option, os.path.join(entry["directory"], path)]
    return [words[0], "-fsyntax-only", *flags]


def compilers(base):
    """`base`, and the same for clang 19 where that is installed and not the compiler already."""
    both = [base]
    clang = shutil.which("clang++-19")
    if clang and "clang" not in base[0]:
        both.append([clang, *base[1:]])
    return both


def compile_text(base, text, *flags):
    """(succeeded, diagnostics) of one translation unit given as text."""
    result = subprocess.run([*base, *flags, "-x", "c++", "-"], input=text, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return result.returncode == 0, result.stdout


def run_all(jobs):
    """Runs functions that return None or a complaint; prints the complaints and the counts."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        complaints = [c for c in pool.map(lambda job: job(), jobs) if c]
    for complaint in complaints:
        print(complaint)
    print(f"{len(jobs) - len(complaints)} passed, {len(complaints)} failed")
    sys.exit(1 if complaints else 0)
