#!/usr/bin/env python3
"""The test cases behind a run of `meson test`, as one line: N passed, N failed.

Argument: the build directory. Catch2 programs and scripts print their own counts; a program that
ends badly without admitting a failure counts as one.
"""

import json
import pathlib
import re
import sys

COUNTS = (
    re.compile(r"^(?P<passed>\d+) passed, (?P<failed>\d+) failed$", re.M),
    re.compile(r"^All tests passed \(.* in (?P<passed>\d+) test cases?\)", re.M),
    re.compile(r"^test cases: *\d+(?: \| *(?:(?P<passed>\d+) passed|(?P<failed>\d+) failed"
               r"|\d+ (?:skipped|failed as expected)))+", re.M),
)


def counts(test):
    passed = failed = 0
    for pattern in COUNTS:
        for match in pattern.finditer(test.get("stdout", "")):
            passed += int(match["passed"] or 0)
            failed += int(match.groupdict().get("failed") or 0)
    if test["result"] not in ("OK", "EXPECTEDFAIL"):
        failed = max(failed, 1)
    elif passed == failed == 0:
        passed = 1
    return passed, failed


def main(build_dir):
    log = pathlib.Path(build_dir) / "meson-logs" / "testlog.json"
    results = [(test["name"], *counts(test))
               for test in map(json.loads, log.read_text().splitlines())]
    for name, passed, failed in results:
        print(f"{passed:6} passed {failed:4} failed  {name}")
    passed, failed = (sum(column) for column in list(zip(*results))[1:] or [(), ()])
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
