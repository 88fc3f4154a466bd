#!/usr/bin/env python3
"""The programs of a build with -Dcpu=dispatch, through their launcher: what check_golden.py asks, of every
level that this machine has. Arguments: the launcher, and the golden vectors."""

import json
import os
import pathlib
import re
import subprocess
import sys

from check_launcher import levels_here

HERE = pathlib.Path(__file__).resolve().parent
# Begins the name of the vectors that a level's program has.
VECTORS = {"x86-64": "sse2", "x86-64-v3": "fma3", "x86-64-v4": "avx512"}


def asked(launcher, golden, level):
    """Passed and failed of a level's program."""
    environment = {**os.environ, "HYDRALM_CPU": level}
    info = subprocess.run([launcher, "info", "--json"], env=environment, text=True,
                          stdout=subprocess.PIPE)
    if info.returncode:
        print(f"{level}: info ended with {info.returncode}", flush=True)
        return 0, 1
    simd = json.loads(info.stdout)["simd"]
    size = launcher.with_name(f"{launcher.name}-{level}").stat().st_size
    checks = subprocess.run([sys.executable, HERE / "check_golden.py", launcher, golden],
                            env=environment, text=True, stdout=subprocess.PIPE)
    *complaints, counts = checks.stdout.splitlines() or [""]
    for complaint in complaints:
        print(complaint)
    counted = re.fullmatch(r"(\d+) passed, (\d+) failed", counts)
    print(f"{level}: {simd}, {size:,} bytes; check_golden.py: {counts}", flush=True)
    passed, failed = map(int, counted.groups()) if counted else (0, 1)
    if checks.returncode and not failed:
        print(f"{level}: check_golden.py ended with {checks.returncode}", flush=True)
        failed = 1
    right = simd.startswith(VECTORS[level])
    return passed + right, failed + (not right)


def main(launcher, golden):
    launcher = pathlib.Path(launcher).resolve()
    found = [asked(launcher, golden, level) for level in levels_here()]
    for level in sorted(VECTORS.keys() - levels_here()):
        print(f"{level}: not run, for this machine has not what it asks for")
    passed, failed = map(sum, zip(*found))
    print(f"{passed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
