#!/usr/bin/env python3
"""Builds with ninja, says how far it is, and names the slowest steps when it ends.

Arguments: the build directory, then the suites whose tests are to be built, or `all`. A line every
ten seconds: steps done, of how many, seconds gone by, and what runs longest. What a step writes
(warnings, errors) passes through. Ends with 1 when a step failed, with 2 when there is no such
suite.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time

EVERY = 10  # seconds between two lines
SLOWEST = 10
STEP = re.compile(r"\[(\d+)/(\d+)\] ")
SAYS_NOTHING = re.compile(r"ninja: (no work to do|Entering directory)")
OUTPUT = re.compile(r"(?:^|\s)-o\s(\S+)")


def suites_of(test):
    """Without the project's name."""
    return {suite.rpartition(":")[2] for suite in test["suite"]}


def files_for(suites, tests, targets):
    """What the tests of these suites need, from what Meson knows of its tests and targets."""
    files = {target["id"]: target["filename"] for target in targets}
    return sorted({file for test in tests if suites_of(test) & suites
                   for identity in test["depends"] for file in files[identity]})


def step_name(output):
    """tests/test_io.p/io_dtype_test.cpp.o as tests/test_io/io_dtype_test.cpp."""
    return output.removesuffix(".o").replace(".p/", "/")


def log_of(directory):
    """ninja's log: output to (start, end), in milliseconds of its build."""
    file = directory / ".ninja_log"
    lines = file.read_text().splitlines() if file.exists() else []
    fields = (line.split("\t") for line in lines if not line.startswith("#"))
    return {f[3]: (int(f[0]), int(f[1])) for f in fields if len(f) > 3}


def slowest(before, after):
    """(seconds, step) of what was built between two logs, the slowest first."""
    built = {(end - start, output) for output, (start, end) in after.items()
             if before.get(output) != (start, end)}
    return [(ms / 1000, step_name(output)) for ms, output in sorted(built, reverse=True)]


class Running:
    """The steps that a ninja has begun and not ended, by what Linux knows of its children."""

    def __init__(self, ninja):
        self.ninja = ninja
        self.first_seen = {}

    def look(self):
        now = time.monotonic()
        self.first_seen = {output: self.first_seen.get(output, now)
                           for output in outputs_below(self.ninja)}

    def longest(self, count=3):
        """(seconds, step) of those that began first."""
        now = time.monotonic()
        seen = sorted((since, output) for output, since in self.first_seen.items())
        return [(now - since, step_name(output)) for since, output in seen[:count]]


def outputs_below(process):
    """What the processes that this one started write: the file behind -o."""
    try:
        children = pathlib.Path(f"/proc/{process}/task/{process}/children").read_text().split()
        commands = {child: pathlib.Path(f"/proc/{child}/cmdline").read_text() for child in children}
    except OSError:  # not a Linux, or ended meanwhile
        return set()
    found = set()
    for child, command in commands.items():
        output = OUTPUT.search(command.replace("\0", " "))
        found |= {output[1]} if output else outputs_below(child)
    return found


def progress(done, steps, seconds, running):
    names = ", ".join(f"{step.rpartition('/')[2]} {since:.0f} s" for since, step in running)
    return f"{done} of {steps} steps, {seconds:.0f} s" + (f"; running: {names}" if names else "")


def build(directory, targets):
    """Runs ninja; 0 if every step succeeded, otherwise 1."""
    ninja = os.environ.get("NINJA") or shutil.which("ninja") or shutil.which("ninja-build")
    before, begin = log_of(directory), time.monotonic()
    with subprocess.Popen([ninja, "-C", directory, *targets], text=True, errors="replace",
                          env={**os.environ, "NINJA_STATUS": "[%f/%t] "}, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as process:
        counts, running = ["0", "?"], Running(process.pid)
        ended = threading.Event()

        def report():
            last = begin
            while not ended.wait(0.5):
                running.look()
                if time.monotonic() - last >= EVERY:
                    last = time.monotonic()
                    print(progress(*counts, last - begin, running.longest()), flush=True)

        reporter = threading.Thread(target=report)
        reporter.start()
        for line in process.stdout:
            step = STEP.match(line)
            if step:
                counts[:] = step.groups()
            elif not SAYS_NOTHING.match(line):
                print(line, end="", flush=True)
        ended.set()
        reporter.join()
    steps = slowest(before, log_of(directory))
    if steps:
        print(f"{len(steps)} steps in {time.monotonic() - begin:.0f} s; the slowest:")
    for seconds, step in steps[:SLOWEST]:
        print(f"{seconds:8.1f} s  {step}")
    return 1 if process.returncode else 0


def main(directory, *suites):
    directory = pathlib.Path(directory)
    if build(directory, ["build.ninja"]):  # then Meson's tests and targets are of now
        return 1
    tests, targets = (json.loads((directory / "meson-info" / f"intro-{kind}.json").read_text())
                      for kind in ("tests", "targets"))
    known = set().union(*map(suites_of, tests))
    wanted = known if suites == ("all",) else set(suites)
    if wanted - known:
        print(f"hydralm: no floor {', '.join(sorted(wanted - known))}; there are all, "
              f"{', '.join(sorted(known))}")
        return 2
    files = [os.path.relpath(file, directory.resolve())
             for file in files_for(wanted, tests, targets)]
    return build(directory, files) if files else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
