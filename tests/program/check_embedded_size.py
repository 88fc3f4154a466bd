#!/usr/bin/env python3
"""The model inside a binary: it writes text, the binary is small, and so is what it needs of memory.
Prints the numbers. Argument: the example, built."""

import pathlib
import resource
import subprocess
import sys

PROGRAM = pathlib.Path(sys.argv[1]).resolve()
MOST_BYTES = 600_000  # of the file
MOST_WRITTEN = 192 * 1024  # static memory that is written: .data and .bss
MOST_STACK = 80 * 1024  # with what the system puts there, at a random place


def run(stack=None):
    """What it writes; None where that much stack is not enough."""
    def limit():
        if stack:
            resource.setrlimit(resource.RLIMIT_STACK, (stack, stack))
    result = subprocess.run([PROGRAM], capture_output=True, text=True, env={}, preexec_fn=limit)
    return result if result.returncode == 0 else None


def sections():
    """Bytes that are loaded, read-only and written, of each section's flags."""
    lines = subprocess.run(["size", "--format=berkeley", PROGRAM], capture_output=True, text=True,
                           check=True).stdout.splitlines()
    text, data, bss = map(int, lines[1].split()[:3])
    return text, data + bss


result = run()
assert result, "the example fails"
words = result.stdout.split()
letters = sum(character.isalpha() or character == " " for character in result.stdout)
assert len(result.stdout) > 400 and len(words) > 60, result.stdout
assert letters > 0.8 * len(result.stdout), result.stdout
assert run().stdout == result.stdout, "two runs differ"

size, (text, written) = PROGRAM.stat().st_size, sections()
stack = next((kib * 1024 for kib in range(8, 256, 4) if run(kib * 1024)), 0)
print(result.stdout + result.stderr)
print(f"{size} bytes of file; in memory {text} read only, {written} written; stack of {stack}")
assert size <= MOST_BYTES, f"{size} bytes of file, more than {MOST_BYTES}"
assert written <= MOST_WRITTEN, f"{written} bytes of static memory, more than {MOST_WRITTEN}"
assert 0 < stack <= MOST_STACK, f"{stack} bytes of stack, not at most {MOST_STACK}"
print("1 passed, 0 failed")
