#!/usr/bin/env python3
"""The machinery of the claims, on claims made up here: what fails is said, what is finished is kept."""

import contextlib
import io
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

HERE = pathlib.Path(__file__).resolve()
sys.path.insert(0, str(HERE.parent.parent.parent / "benchmarks" / "claims"))
import cell
import claim
import claims
import learned
import measured
import page
import plot
import real_text


def made_up(value, threshold=1.0, definition=0, wait=0.0, log=None):
    def run(work, one):
        if log:
            with open(log, "a") as file:
                print(one.name, file=file)
        time.sleep(wait)
        if value is None:
            raise cell.Failed("the program ended with 1: no such thing")
        return {"value": value}
    return lambda name: cell.Cell(name, definition, run, 1.0)


def a_claim(id, *cells, needs=1.0):
    made = [cell(f"{id}/{i}") for i, cell in enumerate(cells)]
    picture = plot.lines("a < b & c", "x", "y", [("one", [(1, 2), (4, 3)]),
                                                 ("two", [(1, 1, 0.5, 1.5), (2, 2, 1, 3)])], x_log=2)

    def judge(budget, results):
        values = [results[one.name]["value"] for one in made]
        return claim.Verdict(min(values), min(values) >= needs, (min(values), max(values)), len(values),
                             (("seed", "value"), *enumerate(values)), ((f"{id}.svg", picture),))
    return claim.Claim(id, "made up", f">= {needs}", "units", lambda budget: made, judge)


def run(directory, all_claims, *words):
    out = directory / "out"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = claims.main(all_claims, [str(directory / "build"), str(out), *words])
    assert (status == 0) == printed.getvalue().endswith(" passed, 0 failed\n"), printed.getvalue()
    return status, {entry["id"]: entry for entry in json.loads((out / "results.json").read_text())}


def failing(directory):
    """A planted failure is printed as failed, and the exit status says so."""
    good, bad = a_claim("C1", made_up(2.0), made_up(3.0)), a_claim("C2", made_up(0.5))
    broken = a_claim("C3", made_up(None))
    status, results = run(directory, [good], "smoke")
    assert status == 0 and results["C1"]["passed"] is True, results
    assert results["C1"]["value"] == 2.0 and results["C1"]["spread"] == [2.0, 3.0], results
    keys = {"id", "passed", "value", "threshold", "unit", "seeds", "spread", "budget", "machine",
            "commit", "command"}
    assert set(results["C1"]) == keys | {"title", "date", "target"}, results["C1"]
    assert results["C1"]["command"] == "./run claims smoke C1"
    assert re.match(r"\d+ cores", results["C1"]["machine"]), results["C1"]
    status, results = run(directory, [good, bad, broken], "smoke")
    assert status == 1
    assert [results[name]["passed"] for name in ("C1", "C2", "C3")] == [True, False, False]
    text = (directory / "out" / "RESULTS.md").read_text()
    assert text.count("**failed**") == 3 and "ended with 1: no such thing" in text, text  # C2 twice
    # Only what was asked for counts; the rest stays as it was.
    before = text
    status, results = run(directory, [good, bad], "smoke", "C1")
    assert status == 0 and list(results) == ["C1", "C2", "C3"], results
    text = (directory / "out" / "RESULTS.md").read_text()
    assert text == before and "C2.svg" in text, text
    assert (directory / "out" / "index.html").read_text().count("<svg") == 2


def threads_of_cells(directory):
    """Where all cells of a claim have the same number of threads, the page says it."""
    def on(threads):
        return lambda name: cell.Cell(name, 0, lambda work, one: {"value": 1.0}, 1.0, threads=threads)
    run(directory, [a_claim("C1", on(1), on(1)), a_claim("C2", on(2)), a_claim("C3", on(1), on(2)),
                    a_claim("C4", on(1), on(None))], "smoke")
    text = (directory / "out" / "RESULTS.md").read_text()
    found = re.findall(r"\. On (.*?)\d+ cores", text)
    assert found == ["one thread of ", "2 threads of ", "", ""], found
    one_thread = page.machine(measured.forward_cells("smoke").values(), "a machine")
    assert one_thread == "one thread of a machine", one_thread


def kept(directory):
    """A finished cell is not run again, unless asked or defined otherwise."""
    log = directory / "log"
    for definition, words, expected in ((0, (), 1), (0, (), 1), (0, ("--again",), 2), (1, (), 3)):
        run(directory, [a_claim("C1", made_up(1.0, definition=definition, log=log))], "smoke", *words)
        assert len(log.read_text().splitlines()) == expected, (definition, words)
    below = cell.Cell("below", 0, None, 1)
    other = cell.Cell("below", 1, None, 1)
    above = [cell.Cell("above", 0, None, 1, (needed,)) for needed in (below, other)]
    assert above[0].key() != above[1].key()


def needs_that_fail(directory):
    below = made_up(None)("below")
    ran = []
    above = cell.Cell("above", 0, lambda work, one: ran.append(one) or {}, 1, (below,))
    said = []
    failures = cell.run_cells([above], cell.Work(directory / "w", {}, {}), said.append)
    assert set(failures) == {"below", "above"} and not ran, failures
    assert failures["above"] == "needs below", failures
    assert "2 of 2 cells" in said[-1], said


SLOW = """
import sys
sys.path[:0] = {paths!r}
import check_claims, claims
quick = check_claims.made_up(1.0, log={log!r})
slow = check_claims.made_up(1.0, wait=float(sys.argv[1]), log={log!r})
sys.exit(claims.main([check_claims.a_claim("C1", quick, slow)], [{build!r}, {out!r}, "smoke"]))
"""


def killed(directory, how):
    """Killed in the middle, the next run does what is left, and only that."""
    log = directory / "log"
    program = directory / "slow.py"
    program.write_text(SLOW.format(paths=sys.path[:1] + [str(HERE.parent)], log=str(log),
                                   build=str(directory / "build"), out=str(directory / "out")))
    child = subprocess.Popen([sys.executable, program, "60"], stderr=subprocess.PIPE, text=True)
    finished = directory / "build" / "claims" / "smoke" / "C1-0.json"
    while not finished.exists() or log.read_text().count("C1/1") < 1:
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.02)
    os.kill(child.pid, how)
    if how == signal.SIGKILL:
        assert child.wait(10) == -signal.SIGKILL
        child.stderr.close()
    else:  # a sleep here is no program that could be stopped
        child.kill()
        child.communicate()
    assert not (directory / "out").exists()
    assert subprocess.run([sys.executable, program, "0"], capture_output=True).returncode == 0
    assert sorted(log.read_text().split()) == ["C1/0", "C1/1", "C1/1"]


def stopped_programs(directory):
    """A stopped run stops the programs of its cells."""
    work = cell.Work(directory / "w", {"sleep": "/bin/sleep"}, {})
    import threading
    threading.Timer(0.3, work.stop).start()
    begin = time.monotonic()
    try:
        work.text("sleep", 60)
        raise AssertionError("sleep slept")
    except cell.Failed as failure:
        assert "ended with -15" in str(failure), failure
    assert time.monotonic() - begin < 30


def pictures(directory):
    """Plots are XML with both palettes; numbers of an axis stay inside it."""
    heat = plot.heat_map("depth", "length", "depth", ["1k", "2k"], ["0", "1"], [[1, 0.5], [None, 0]])
    flat = plot.lines("flat", "x", "y", [("one", [(1, 5), (2, 5)])])
    tiny = plot.lines("tiny", "x", "y", [("one", [(1024, 1e-6), (2**20, 3e-3)])], x_log=2, y_log=10)
    quarters = plot.lines("depth", "quarter", "y", [("a name of some length, to be read",
                                                     [(1, 0.8), (2, 0.9), (3, 0.9), (4, 1.0)])])
    for text in (heat, flat, tiny, quarters):
        root = xml.etree.ElementTree.fromstring(text)
        width = float(root.get("width"))
        assert root.tag.endswith("svg") and "prefers-color-scheme: dark" in text
        for element in root.iter():
            for key in ("x", "cx"):
                assert -1 <= float(element.get(key, 0)) <= width, element.attrib
            for key in ("y", "cy"):
                assert -1 <= float(element.get(key, 0)) <= plot.HEIGHT, element.attrib
    assert ">2^20<" in tiny and ">1.5<" not in quarters
    begin, end = (next(float(e.get("x")) for e in xml.etree.ElementTree.fromstring(quarters).iter()
                       if e.text == name) for name in ("a name of some length, to be read", "1"))
    assert begin > end and begin + 5 * len("a name of some length, to be read") < float(
        xml.etree.ElementTree.fromstring(quarters).get("width"))
    status, _ = run(directory, [a_claim("C1", made_up(1.0))], "smoke")
    parsed = (directory / "out" / "index.html").read_text()
    assert parsed.count("<svg") == 1 and "a &lt; b &amp; c" in parsed and status == 0


def arithmetic(directory):
    assert abs(claim.slope([(2**e, 3.0 * 2**(1.5 * e)) for e in range(5)]) - 1.5) < 1e-12
    from collections import Counter
    same = learned.two_sample_p(Counter(a=500, b=500), Counter(a=510, b=490))
    other = learned.two_sample_p(Counter(a=500, b=500), Counter(a=700, b=300))
    assert 0.5 < same < 0.8 and other < 1e-9, (same, other)  # chi-square: 0.655; 8e-20
    assert measured.state_bytes(measured.TRANSFORMER, 1000) == 4 * 20 * 2 * 1000 * 128
    falls, rises = [(2.0, 2.1, 2.2), (1.9, 2.0, 2.1)], [(2.0, 2.1, 2.2), (3.0, 3.1, 3.2)]
    error = 0.1 / 3**0.5
    assert abs(real_text.error(falls[0]) - error) < 1e-12
    assert abs(real_text.rise(falls) - (-0.1 - 2 * 2**0.5 * error)) < 1e-12
    assert abs(real_text.rise([*rises, falls[1]]) - (1.0 - 2 * 2**0.5 * error)) < 1e-12
    assert [page.state(passed, True) for passed in (True, False, None)] == ["passed", "not reached",
                                                                           "reported"]
    assert page.number(1234567) == "1,234,567" and page.number(0.98765) == "0.9877"


def losses(directory):
    """A curve of at most as many points as asked for; a step taken again by a resumed run counts as the
    second time, and a model trained before curves were kept has no plot."""
    log = directory / "losses.jsonl"
    rows = [(1, 8.0), (2, 6.0), (3, 9.0), (3, 4.0), (4, 2.0), (5, 1.0)]
    log.write_text("".join(json.dumps({"step": step, "loss": loss}) + "\n" for step, loss in rows))
    assert learned.loss_curve(log) == [[1, 8.0], [2, 6.0], [3, 4.0], [4, 2.0], [5, 1.0]]
    assert learned.loss_curve(log, points=3) == [[2, 7.0], [4, 3.0], [5, 1.0]]
    ((name, picture),) = learned.loss_plots("c8", {"kept": {"losses": [[1, 8.0], [2, 0.5]]}, "not": {}})
    assert name == "c8_losses.svg" and ">kept<" in picture and ">not<" not in picture
    assert learned.loss_plots("c8", {"not": {}}) == ()


def definitions(directory):
    """Names of cells are their own, definitions are JSON, in every budget."""
    for budget in ("smoke", "paper"):
        cells = cell.in_order([c for one in claims.CLAIMS for c in one.cells(budget)])
        slugs = [one.slug() for one in cells]
        assert len(set(slugs)) == len(slugs)
        for one in cells:
            json.dumps(one.definition)
        keys = {one.name: one.key() for one in cells}
        again = cell.in_order([c for one in claims.CLAIMS for c in one.cells(budget)])
        assert keys == {one.name: one.key() for one in again}


def main():
    passed = failed = 0
    checks = [failing, threads_of_cells, kept, needs_that_fail, stopped_programs, pictures, arithmetic,
              losses, definitions,
              ("killed", lambda directory: killed(directory, signal.SIGKILL)),
              ("terminated", lambda directory: killed(directory, signal.SIGTERM))]
    for check in checks:
        name, check = check if isinstance(check, tuple) else (check.__name__, check)
        with tempfile.TemporaryDirectory() as directory:
            try:
                check(pathlib.Path(directory))
                passed += 1
            except Exception as error:
                failed += 1
                print(f"{name}: {type(error).__name__}: {error}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
