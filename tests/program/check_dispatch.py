#!/usr/bin/env python3
"""The programs of a build with -Dcpu=dispatch, through their launcher: what check_golden.py asks, of every
level that this machine has. Arguments: the launcher, and the golden vectors."""

import json
import os
import pathlib
import subprocess
import sys

from check_launcher import levels_here

HERE = pathlib.Path(__file__).resolve().parent
# Begins the name of the vectors that a level's program has.
VECTORS = {"x86-64": "sse2", "x86-64-v3": "fma3", "x86-64-v4": "avx512"}


def asked(launcher, golden, level):
    """Passed and failed of a level's program."""
    environment = {**os.environ, "HYDRALM_CPU": level}
    info = subprocess.run([launcher, "info", "--json"], env=environment, check=True, text=True,
                          stdout=subprocess.PIPE)
    simd = json.loads(info.stdout)["simd"]
    size = launcher.with_name(f"{launcher.name}-{level}").stat().st_size
    checks = subprocess.run([sys.executable, HERE / "check_golden.py", launcher, golden],
                            env=environment, text=True, stdout=subprocess.PIPE)
    *complaints, counts = checks.stdout.splitlines() or ["0 passed, 1 failed"]
    for complaint in complaints:
        print(complaint)
    print(f"{level}: {simd}, {size:,} bytes; check_golden.py: {counts}", flush=True)
    passed, failed = (int(word.split()[0]) for word in counts.split(", "))
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
