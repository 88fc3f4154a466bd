"""Running the program `hydralm` in tests: what it prints, what it refuses, and its files."""

import array
import json
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent.parent / "scripts"))
import compiling
import errors_page

PROGRAM = pathlib.Path(sys.argv[1]).resolve()
GOLDEN = pathlib.Path(sys.argv[2]).resolve()
TEXT = "It is a truth universally acknowledged, that a library must be tested. " * 40


def message_pattern(row):
    """Of a line that has the message of this row, behind a file or the place that found it; what was
    found is not compared. None for a row that any line would match."""
    message = re.sub("found .*", "found …", row.removeprefix("FILE: "))
    if not re.sub("expected|found|[^A-Za-z]", "", message):
        return None
    pattern = re.escape(message)
    if one_of := re.fullmatch("(.*expected )(.* / .*)(, found …)", message):
        before, things, after = map(re.escape, one_of.groups())
        pattern = before + "(" + things.replace(re.escape(" / "), "|") + ")" + after
    return re.compile("hydralm: (.*: )?" + pattern.replace("…", ".*") + "; .*")


MESSAGES = [pattern
            for row in re.findall(r"^\| `(.*?)` \|",
                                  errors_page.page(errors_page.PAGE.read_text(), every=True), re.M)
            if (pattern := message_pattern(row))]
MESSAGES.append(re.compile(r"hydralm: .*: \w+: found .*; (n_heads )?must .*"))  # a config's rule
assert not any(row.fullmatch("hydralm: a: b: expected c, found d; e") for row in MESSAGES)
BOUNDS = {"float": 2e-4, "double": 1e-9}  # of golden vectors, relative to a tensor's largest value


def run(*arguments, **options):
    result = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, **options)
    assert result.returncode == 0, f"exit {result.returncode}: {result.stderr.decode()}"
    return result.stdout


def json_of(*arguments):
    return json.loads(run(*arguments).decode().strip().splitlines()[-1])


def refusal(*arguments, **options):
    """The one line the program refuses with, which is a message of the code."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    result = subprocess.run([PROGRAM, *map(str, arguments)], text=True, **streams | options)
    lines = result.stderr.splitlines()
    assert result.returncode > 0 and len(lines) == 1, f"{result.returncode}: {result.stderr}"
    assert any(row.fullmatch(lines[0]) for row in MESSAGES), f"no message of the code: {lines[0]}"
    return lines[0]


def initialised(directory, *options):
    model = directory / "model.safetensors"
    run("init", "--out", model, "--seed", 1, *options)
    return model


def tensors(path):
    """name -> (shape, values) of a safetensors file's F32, F64 and I64 tensors."""
    content = pathlib.Path(path).read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    result = {}
    for name, entry in json.loads(content[8:start]).items():
        if code := {"F32": "f", "F64": "d", "I64": "q"}.get(entry.get("dtype")):
            first, last = entry["data_offsets"]
            result[name] = entry["shape"], array.array(code, content[start + first:start + last])
    return result


def assert_near(found, expected, bound):
    """Two (shape, values): no value further off than bound times the largest that is expected."""
    assert list(found[0]) == list(expected[0]), f"shape {found[0]}, expected {expected[0]}"
    assert len(found[1]) == len(expected[1]), f"{len(found[1])} values, not {len(expected[1])}"
    allowed = bound * max(map(abs, expected[1]))
    for i, (f, e) in enumerate(zip(found[1], expected[1])):
        assert abs(f - e) <= allowed, f"{f} at {i} where {e} is expected, within {allowed}"


def run_checks(checks):
    """Runs functions of a directory of their own; prints complaints and counts."""
    def job(check):
        def complaint():
            with tempfile.TemporaryDirectory() as directory:
                try:
                    check(pathlib.Path(directory))
                except Exception as error:
                    return f"{check.__name__}: {type(error).__name__}: {error}"
        return complaint
    compiling.run_all([job(check) for check in checks])
