#!/usr/bin/env python3
"""`kernel`: the golden vectors through every form. Arguments as check_program.py."""

import json
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from program import BOUNDS, GOLDEN, assert_near, refusal, run, run_checks, tensors


def delta_rule(directory):
    cases, out = sorted((GOLDEN / "delta_rule").glob("*.safetensors")), directory / "out"
    assert len(cases) == 4
    forms = [("reference",), ("recurrent",), ("chunkwise",),
             *(("chunkwise", "--chunk", chunk) for chunk in (16, 32, 64))]
    for source in cases:
        expected = tensors(source)
        for scalar, bound in BOUNDS.items():
            for form in forms:
                run("kernel", "delta_rule", "--in", source, "--out", out, "--scalar", scalar,
                    "--form", *form)
                found = tensors(out)
                assert found.keys() == {"out", "final_state"}, found.keys()
                for name in found:
                    assert_near(found[name], expected[name], bound)


def delta_rule_reset(directory):
    """alpha = 0 at the second token: from there on, as without the first token and its state."""
    values = [((7 * i) % 11 - 5) / 9 for i in range(160)]
    rows = {"q": [0, 48], "k": [16, 64], "v": [48, 96]}

    def write(path, first):
        arrays = {name: ([1, 3 - first, 16], values[begin + 16 * first:end])
                  for name, (begin, end) in rows.items()}
        arrays["alpha"] = [1, 3 - first], [0.9, 0.0, 0.7][first:]
        arrays["beta"] = [1, 3 - first], [0.5, 1.0, 0.5][first:]
        if first == 0:
            arrays["initial_state"] = [1, 16, 16], [values[i % 160] for i in range(256)]
        header, data = {}, b""
        for name, (shape, numbers) in arrays.items():
            part = struct.pack(f"<{len(numbers)}f", *numbers)
            header[name] = {"dtype": "F32", "shape": shape,
                            "data_offsets": [len(data), len(data) + len(part)]}
            data += part
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data)

    whole, rest, out = directory / "whole", directory / "rest", directory / "out"
    write(whole, 0)
    write(rest, 1)
    for scalar, bound in BOUNDS.items():
        for form in ("reference", "recurrent", "chunkwise"):
            found = {}
            for source in (whole, rest):
                run("kernel", "delta_rule", "--in", source, "--out", out, "--scalar", scalar,
                    "--form", form)
                found[source] = tensors(out)
            assert_near(found[whole]["final_state"], found[rest]["final_state"], bound)


def retrieval(directory):
    for case in ("c16_k3", "c8_k2"):
        source, out = GOLDEN / "retrieval" / f"{case}.safetensors", directory / "out"
        expected = tensors(source)
        for form in ("reference", "prefill", "step"):
            for scalar, bound in BOUNDS.items():
                run("kernel", "retrieval", "--in", source, "--out", out, "--form", form,
                    "--scalar", scalar)
                found = tensors(out)
                assert found.keys() == {"y", "selected_chunks"}, found.keys()
                assert_near(found["y"], expected["y"], bound)
                assert found["selected_chunks"] == expected["selected_chunks"], (case, form)
    content, changed = source.read_bytes(), directory / "in"
    start = 8 + int.from_bytes(content[:8], "little")

    def with_shape(name, old, new):
        header = content[8:start].replace(f'"{name}":"{old}"'.encode(), f'"{name}":"{new}"'.encode())
        assert header != content[8:start]
        changed.write_bytes(struct.pack("<Q", len(header)) + header + content[start:])
    with_shape("chunk_size", 8, 9)  # no kernel's own
    found = {}
    for form in ("reference", "prefill", "step"):
        run("kernel", "retrieval", "--in", changed, "--out", out, "--form", form, "--scalar", "double")
        found[form] = tensors(out)
        assert_near(found[form]["y"], found["reference"]["y"], BOUNDS["double"])
        assert found[form]["selected_chunks"] == found["reference"]["selected_chunks"], form
    for new, part in ((129, "chunk_size: expected at most 128"), ("x", "a number in [1, ")):
        with_shape("chunk_size", 8, new)
        line = refusal("kernel", "retrieval", "--in", changed, "--out", out)
        assert part in line, line


run_checks([delta_rule, delta_rule_reset, retrieval])
