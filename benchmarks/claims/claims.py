#!/usr/bin/env python3
"""Measures the claims, and writes RESULTS.md, results.json, plots and index.html.

Usage: claims.py BUILD OUT [smoke|paper] [CLAIM...] [--again]

BUILD has the programs hydralm and claims_measure. What is finished is kept in BUILD/claims and not run
again, unless its definition changed or --again is given. Exit status: 0 when every claim passed.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import time

import beyond
import cell
import learned
import measured
import page
import real_text

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CLAIMS = sorted((*measured.CLAIMS, *learned.CLAIMS, *beyond.CLAIMS, *real_text.CLAIMS),
                key=lambda claim: claim.id)


def git(*arguments):
    done = subprocess.run(["git", "-C", ROOT, *arguments], text=True, capture_output=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def machine():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{os.cpu_count()} cores of {line.split(':', 1)[1].strip()}"
    return f"{os.cpu_count()} cores"


def circumstances():
    changed = "+" if git("status", "--porcelain", "--", "include", "examples", "benchmarks") else ""
    return {"commit": (git("rev-parse", "--short", "HEAD") or "unknown") + changed,
            "machine": machine()}


def oldest(records):
    return min(records, key=lambda record: record["date"])


def outcomes_of(claims, budget, work, failures):
    """(claim, verdict, record of its oldest cell), and (claim, message) of those not measured."""
    outcomes, lost = [], []
    for claim in claims:
        cells = cell.in_order(claim.cells(budget))
        broken = [one.name for one in cells if one.name in failures]
        if broken:
            lost.append((claim, f"{broken[0]}: {failures[broken[0]]}"))
            continue
        records = {one.name: work.stored(one) for one in cells}
        results = {name: record["result"] for name, record in records.items()}
        outcomes.append((claim, claim.judge(budget, results), oldest(records.values())))
    return outcomes, lost


def main(claims=CLAIMS, arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("words", nargs="*", metavar="smoke|paper|CLAIM")
    parser.add_argument("--again", action="store_true", help="run finished cells too")
    options = parser.parse_args(arguments)
    budget = "smoke"
    if options.words and options.words[0] in ("smoke", "paper"):
        budget = options.words.pop(0)
    known = {claim.id: claim for claim in claims}
    for word in options.words:
        if word not in known:
            parser.error(f"no claim {word}; there are {', '.join(known)}")
    chosen = [known[word] for word in options.words] or list(claims)
    chosen = [claim for claim in chosen if claim.cells(budget)]  # some are too long for smoke
    programs = {"hydralm": options.build / "hydralm",
                "measure": options.build / "benchmarks" / "claims" / "claims_measure"}
    work = cell.Work(options.build / "claims" / budget, programs, circumstances())
    cell.stop_on_signals()
    begin = time.monotonic()

    def say(line):
        print(line, file=sys.stderr, flush=True)
    try:
        failures = cell.run_cells([one for claim in chosen for one in claim.cells(budget)], work,
                                  say, options.again)
    except KeyboardInterrupt:
        say("stopped; what is finished is kept, and the same command goes on")
        return 130
    outcomes, lost = outcomes_of(chosen, budget, work, failures)
    page.write(options.out, outcomes, lost, budget,
               [claim for claim in claims if claim.cells(budget)])
    failed = [c.id for c, verdict, _ in outcomes if not verdict.passed and not c.target]
    failed += [claim.id for claim, _ in lost]
    for claim, verdict, _ in outcomes:
        say(f"{claim.id} {claim.title}: {page.state(verdict.passed, claim.target)}, "
            f"{page.number(verdict.value)} {claim.unit} ({page.threshold(claim, budget)})")
    for claim, message in lost:
        say(f"{claim.id} {claim.title}: not measured: {message}")
    say(f"{(time.monotonic() - begin) / 60:.1f} minutes; {options.out / 'RESULTS.md'}")
    print(f"{len(chosen) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
