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

# Of a processor's flags, some that a level has and the one before it has not.
FLAGS = {"x86-64-v4": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512cd"},
         "x86-64-v3": {"avx2", "fma", "bmi2", "f16c", "movbe"}}


def levels_here():
    """The widest first."""
    cpu = pathlib.Path("/proc/cpuinfo").read_text()
    flags = set(next(line for line in cpu.splitlines() if line.startswith("flags")).split())
    found, reached = ["x86-64"], True
    for level in ("x86-64-v3", "x86-64-v4"):
        reached = reached and FLAGS[level] <= flags
        if reached:
            found.insert(0, level)
    return found


def check(condition, *found):
    if not condition:
        sys.exit(f"check_launcher: found {found}")


def main(launcher):
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
            clean = {key: value for key, value in os.environ.items() if key != "HYDRALM_CPU"}
            return subprocess.run([program, *words], text=True, capture_output=True,
                                  env={**clean, **environment})
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
