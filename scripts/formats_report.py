#!/usr/bin/env python3
"""A page of Markdown: what fewer bits a weight do to a model trained on text.

Usage: formats_report.py PROGRAM TEXT [--steps N]

A small model is trained on TEXT but for its last 40,000 bytes, converted to each format, and read over
the first 4096 of those. Against the logits of float weights: the root mean square of the difference, of
that of the logits about their mean; the Kullback-Leibler divergence of the next byte; bits per byte.
"""

import json
import math
import pathlib
import struct
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import report
from report import answer, machine, said, table

FORMATS = ("f32", "bf16", "q8", "mixed", "q4")
BYTES, HELD_OUT = 4096, 40_000


def tensor(path, name):
    """The float32 rows of a safetensors file."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    entry = json.loads(content[8:8 + length])[name]
    begin, end = (8 + length + offset for offset in entry["data_offsets"])
    values = struct.unpack(f"<{(end - begin) // 4}f", content[begin:end])
    width = entry["shape"][1]
    return [values[i:i + width] for i in range(0, len(values), width)]


def log_probabilities(row):
    top = max(row)
    total = top + math.log(sum(math.exp(x - top) for x in row))
    return [x - total for x in row]


def measure(rows, exact, ids):
    """Relative logit error, divergence in nats, bits per byte."""
    squares = scale = divergence = nats = 0.0
    for n, (row, expected) in enumerate(zip(rows, exact)):
        mean = sum(expected) / len(expected)
        squares += sum((a - b) ** 2 for a, b in zip(row, expected))
        scale += sum((b - mean) ** 2 for b in expected)
        log_q, log_p = log_probabilities(row), log_probabilities(expected)
        divergence += sum(math.exp(p) * (p - q) for p, q in zip(log_p, log_q))
        if n + 1 < len(ids):
            nats -= log_q[ids[n + 1]]
    return (math.sqrt(squares / scale), divergence / len(rows),
            nats / (len(ids) - 1) / math.log(2))


def main():
    o = report.arguments(("--steps", {"type": int, "default": 700}))
    text = o.text.read_bytes()
    ids = text[-HELD_OUT:][:BYTES]
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        model, training = directory / "model.safetensors", directory / "training.txt"
        training.write_bytes(text[:-HELD_OUT])
        report.train(o.program, training, model,
                     {"steps": o.steps, "batch": 8, "seq-len": 128, "seed": 1})
        id_file, out = directory / "ids", directory / "logits"
        id_file.write_text(" ".join(map(str, ids)))
        print("# Fewer bits a weight, on a trained model\n")
        print("The small preset, trained on English for a few minutes, its matrices kept in each "
              f"format, read over {len(ids)} bytes\nof held-out text. `mixed`: MLPs in 4 bits, all "
              "other matrices, embedding and head too, in 8. Gates, convolutions,\nnorms and biases "
              "are float in every format, which weighs in a model as small as this. Logit error: RMS "
              "of the\ndifference to float, of that of the logits about their mean. Made by "
              "`scripts/formats_report.py`.\n")
        exact, lines = None, []
        for form in FORMATS:
            small = directory / f"{form}.safetensors"
            converted = answer(o.program, "convert", "--model", model, "--format", form, "--out",
                               small)
            said(o.program, "logits", "--model", small, "--ids", id_file, "--out", out)
            rows = tensor(out, "logits")
            exact = exact or rows
            error, divergence, bits = measure(rows, exact, ids)
            lines.append([form, f"{converted['bytes']:,}", f"{converted['bits_per_weight']:.2f}",
                          f"{error:.4f}", f"{divergence:.5f}", f"{bits:.4f}"])
        print(table(["format", "bytes of the file", "bits a weight", "logit error",
                     "KL divergence, nats", "bits per byte"], lines))
        print(f"\n{machine()}")


main()
