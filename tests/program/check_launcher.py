#!/usr/bin/env python3
"""What a build with -Dcpu=dispatch starts: the widest level that this machine has, or the one asked for.

Usage: check_launcher.py LAUNCHER

The programs that it starts are scripts here, which say their name and what they were given.
"""

import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tempfile

# What the psABI asks of a level beyond the one before it, as Linux names it: pni is SSE3, abm LZCNT,
# xsave OSXSAVE. No program is made for v2, what it asks is among v3's.
FLAGS = {"x86-64-v3": {"cx16", "lahf_lm", "popcnt", "pni", "ssse3", "sse4_1", "sse4_2", "avx", "avx2",
                       "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"},
         "x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}}


def levels_here():
    """The widest first."""
    cpu = pathlib.Path("/proc/cpuinfo").read_text()
    flags = set(next(line for line in cpu.splitlines() if line.startswith("flags")).split())
    found, reached = ["x86-64"], True
    for level, asked in FLAGS.items():
        reached = reached and asked <= flags
        if reached:
            found.insert(0, level)
    return found


def check(condition, *found):
    if not condition:
        sys.exit(f"check_launcher: found {found}")


def main(launcher):
    os.environ.pop("HYDRALM_CPU", None)  # a developer's own
    here = levels_here()
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        program = directory / "hydralm"
        shutil.copy(launcher, program)
        for level in ("x86-64", "x86-64-v3", "x86-64-v4"):
            script = directory / f"hydralm-{level}"
            script.write_text(f'#!/bin/sh\necho {level} "$#" "$@"\nexit 7\n')
            script.chmod(script.stat().st_mode | stat.S_IXUSR)

        def start(*words, **environment):
            return subprocess.run([program, *words], text=True, capture_output=True,
                                  env={**os.environ, **environment})
        r = start("info", "--model", "two words", "")
        check((r.returncode, r.stdout, r.stderr) == (7, f"{here[0]} 4 info --model two words \n", ""), r)
        for level in here:
            r = start(HYDRALM_CPU=level)
            check((r.returncode, r.stdout) == (7, f"{level} 0\n"), level, r)
        r = subprocess.run(["hydralm"], executable=program, cwd="/", text=True, capture_output=True)
        check(r.stdout == f"{here[0]} 0\n", r)
        link = directory / "other" / "name"
        link.parent.mkdir()
        link.symlink_to(program)
        r = subprocess.run([link], text=True, capture_output=True)
        check(r.stdout == f"{here[0]} 0\n", r)

        for wrong in ("avx2", "", "x86-64-v9"):
            r = start(HYDRALM_CPU=wrong)
            check((r.returncode, r.stdout) == (2, ""), wrong, r)
            check(r.stderr == "hydralm: HYDRALM_CPU: expected what this machine has of "
                              f"{', '.join(here)}, found '{wrong}'\n", r)
        missing = directory / f"hydralm-{here[0]}"
        missing.unlink()
        r = start()
        check((r.returncode, r.stderr) == (2, f"hydralm: {missing}: No such file or directory\n"), r)


if __name__ == "__main__":
    main(*sys.argv[1:])
