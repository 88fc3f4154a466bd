#!/usr/bin/env python3
"""A page of Markdown: the small preset trained on the pods of perl-doc, against xz -9 and by optimiser.

Usage: text_report.py PROGRAM [--minutes M] [--optimizer O] [--curve-minutes M] [--batch B]
                      [--seq-len N]

Whole files are split, duplicates removed first: every tenth in the order of their digests is held
out. The model reads each held-out file from an empty state; its first byte counts 8 bits. xz -9
counts the size of training and held-out files together minus the size of the training files alone.
"""

import hashlib
import json
import lzma
import math
import pathlib
import platform
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import report
from report import answer, machine, table

PODS = "/usr/share/perl/5.*.*/pod/*.pod"
RATES = {"adamw": "3e-3", "muon": "2e-2"}


def corpus(directory, pattern=PODS):
    """Training and held-out files of those that the pattern names, copied below directory."""
    by_digest = {}
    for path in sorted(pathlib.Path("/").glob(pattern.lstrip("/"))):
        content = path.read_bytes()
        if content:
            by_digest.setdefault(hashlib.sha256(content).hexdigest(), (path.name, content))
    parts = {"training": [], "held-out": []}
    for i, digest in enumerate(sorted(by_digest)):
        name, content = by_digest[digest]
        part = "held-out" if i % 10 == 0 else "training"
        (directory / part).mkdir(exist_ok=True)
        (directory / part / name).write_bytes(content)
        parts[part].append(content)
    return parts


def xz_bits_per_byte(parts):
    def size(files):
        return len(lzma.compress(b"".join(files), preset=9))
    held_out = sum(map(len, parts["held-out"]))
    return 8 * (size(parts["training"] + parts["held-out"]) - size(parts["training"])) / held_out


def train(program, directory, out, steps, options, optimizer, seed, eval_every):
    log = directory / "log"
    log.unlink(missing_ok=True)
    said = report.train(program, directory / "training", out, {
        "steps": steps, "batch": options.batch, "seq-len": options.seq_len, "optimizer": optimizer,
        "lr": RATES[optimizer], "seed": seed, "eval-every": eval_every, "log": log})
    return said, [json.loads(line) for line in log.read_text().splitlines()]


def steps_in(program, directory, seconds, options, optimizer):
    """How many steps fit, by a trial of some."""
    trial = directory / "trial.safetensors"
    _, lines = train(program, directory, trial, 40, options, optimizer, 1, 0)
    each = (lines[-2]["seconds"] - lines[4]["seconds"]) / (len(lines) - 6)  # without evaluation
    return max(50, int(0.97 * seconds / each))


def model_bits_per_byte(program, model, directory):
    bits = size = 0
    for path in sorted((directory / "held-out").iterdir()):
        score = answer(program, "score", "--model", model, "--text", path)
        bits += 8 - score["log_likelihood"] / math.log(2)
        size += path.stat().st_size
    return bits / size


def curves(program, directory, options):
    """Held-out loss of both optimisers at parts of the wall time, over three seeds."""
    rows = []
    seconds = 60 * options.curve_minutes
    for optimizer in RATES:
        steps = steps_in(program, directory, seconds, options, optimizer)
        losses, last = [], []
        for seed in (1, 2, 3):
            _, lines = train(program, directory, directory / "curve.safetensors", steps, options,
                             optimizer, seed, max(1, steps // 20))
            points = [(line["seconds"], line["validation_loss"]) for line in lines
                      if line.get("validation_loss") is not None]
            losses.append([min((abs(s - part * seconds), loss) for s, loss in points)[1]
                           for part in (0.25, 0.5, 0.75)] + [points[-1][1]])
            last.append(points[-1][0])
        cells = [f"{sum(c) / 3:.3f} ({min(c):.3f} – {max(c):.3f})" for c in zip(*losses)]
        rows.append([optimizer, str(steps), f"{sum(last) / 3:.0f}", *cells])
    return rows


def main():
    options = report.arguments(
        ("--minutes", {"type": float, "default": 10}),
        ("--optimizer", {"choices": RATES, "default": "adamw"}),
        ("--curve-minutes", {"type": float, "default": 1}),
        ("--batch", {"type": int, "default": 16}),
        ("--seq-len", {"type": int, "default": 256}), text=False)
    program = options.program
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        parts = corpus(directory)
        if not parts["held-out"]:
            sys.exit(f"text_report: {PODS}: expected the pods of perl-doc, found none; "
                     "apt-get install perl-doc")
        xz = xz_bits_per_byte(parts)
        steps = steps_in(program, directory, 60 * options.minutes, options, options.optimizer)
        model = directory / "model.safetensors"
        said, _ = train(program, directory, model, steps, options, options.optimizer, 1,
                        max(1, steps // 20))
        bits = model_bits_per_byte(program, model, directory)
        info = answer(program, "info", "--json")
        rows = [["xz -9", "", "", f"{xz:.3f}"]]
        rows += [[f"HydraLM, {options.optimizer}", f"{said['steps']}",
                  f"{said['seconds']:.0f}", f"{bits:.3f}"]]
        sizes = {part: sum(map(len, files)) for part, files in parts.items()}
        print(f"""# Training on text

Measured by `./run reports` on {machine()}, {platform.machine()}: the small preset, {info['parameter_count']:,}
parameters, on the pods of Debian's perl-doc; {len(parts['training'])} files of {sizes['training']:,} bytes to train on,
{len(parts['held-out'])} files of {sizes['held-out']:,} bytes held out, whole files, no file twice. Batches of
{options.batch} × {options.seq_len} bytes.

## Against a compressor

Bits per byte of the held-out files. xz: the size of training and held-out files together minus that of the training
files. The model reads every held-out file from an empty state.

{table(["", "steps", "seconds of training", "bits per byte"], rows)}

## AdamW and the hybrid with Muon, at equal wall time

As many steps as {60 * options.curve_minutes:.0f} seconds hold, evaluations aside. Loss in nats per byte of a twentieth of the training files
that is held out from them, mean of three seeds and their range, at parts of the time; rates {RATES['adamw']} and {RATES['muon']}, each with warm-up and cosine to a tenth.

{table(["", "steps", "seconds with evaluations", "25 %", "50 %", "75 %", "end"], curves(program, directory, options))}""")


if __name__ == "__main__":
    main()
