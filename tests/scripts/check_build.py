#!/usr/bin/env python3
"""What scripts/build.py builds, and what it says, for a build of shell commands."""

import contextlib
import importlib.util
import io
import json
import pathlib
import re
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SCRIPT = HERE.parent.parent / "scripts" / "build.py"

spec = importlib.util.spec_from_file_location("build", SCRIPT)
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)
build.EVERY = 0.6

STEPS = """
seconds = 0
first = true
rule make
  command = sleep $seconds && echo A warning of $out && $first && touch $out  # -o $out
rule meson
  command = true
  generator = 1
build build.ninja: meson
build a.p/slow.cpp.o: make
  seconds = 2
build a: make a.p/slow.cpp.o
build b: make
build broken: make
  first = false
"""
TESTS = {"a": "low", "b": "high", "script": "high", "broken": "bad"}
TARGETS = ("a", "b", "broken")


def set_up(directory):
    (directory / "build.ninja").write_text(STEPS)
    known = {"tests": [{"suite": [f"hydralm:{suite}"], "depends": [test] if test in TARGETS else []}
                       for test, suite in TESTS.items()],
             "targets": [{"id": name, "filename": [str(directory / name)]} for name in TARGETS]}
    (directory / "meson-info").mkdir()
    for kind, entries in known.items():
        (directory / "meson-info" / f"intro-{kind}.json").write_text(json.dumps(entries))


def run(directory, *suites):
    """Status, what was built so far, and what was said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = build.main(directory, *suites)
    return status, {name for name in TARGETS if (directory / name).exists()}, said.getvalue()


def one_suite(directory):
    status, built, said = run(directory, "high")
    assert (status, built) == (0, {"b"}) and "A warning of b\n" in said, (status, built, said)
    status, _, said = run(directory, "high")
    assert (status, said) == (0, ""), (status, said)


def progress_and_slowest(directory):
    status, built, said = run(directory, "low", "high")
    assert (status, built) == (0, {"a", "b"}), (status, built, said)
    assert re.search(r"^\d of 3 steps, \d+ s; running: slow.cpp \d+ s$", said, re.M), said
    assert re.search(r"^3 steps in \d+ s; the slowest:\n +\d+\.\d s  a/slow.cpp\n", said, re.M), said


def a_failure(directory):
    status, built, said = run(directory, "all")
    assert status == 1 and "FAILED: " in said and "A warning of broken" in said, (status, said)


def no_such_suite(directory):
    status, built, said = run(directory, "high", "attic")
    assert (status, built, said) == (
        2, set(), "hydralm: no floor attic; there are all, bad, high, low\n"), (status, built, said)


def complaint_of(check):
    """One after the other: standard output is caught."""
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name).resolve()
        set_up(directory)
        try:
            check(directory)
        except AssertionError as error:
            return f"{check.__name__}: {error}"
    return None


CHECKS = (one_suite, progress_and_slowest, a_failure, no_such_suite)
complaints = [complaint for complaint in map(complaint_of, CHECKS) if complaint]
print(*complaints, sep="\n")
print(f"{len(CHECKS) - len(complaints)} passed, {len(complaints)} failed")
sys.exit(1 if complaints else 0)
