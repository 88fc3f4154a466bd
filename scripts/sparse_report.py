#!/usr/bin/env python3
"""A page of Markdown: what attention to the whole past loses when it reads chunks of its choice.

Usage: sparse_report.py PROGRAM TEXT [--stream TOKENS]

A small model with `full` layers is trained on the first nine tenths of TEXT, on one thread, and reads
the rest by full and by sparse reading: text that it never saw, passages that it meets again far behind
them, and a stream with its pages in a file. Another is trained to recall pairs, and asked for them.
Beside them the same models with their `full` layers silent.
"""

import json
import math
import pathlib
import platform
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import report
from report import machine, table

CONFIG = {"vocab_size": 256, "d_model": 128, "n_layers": 4, "n_heads": 4, "n_kv_heads": 2,
          "swa_rope_base": 1e6, "layer_types": ["deltanet", "full", "deltanet", "full"]}
CHUNK, TRAINED = 64, 1024
# Recall of pairs, all of which stand at the beginning: it is learned on dense ones.
RECALL_CONFIG = {"vocab_size": 512, "d_model": 128, "n_layers": 2, "n_heads": 1, "mlp_mult": 2.0,
                 "swa_rope_base": 1e6, "layer_types": ["deltanet", "full"]}
RECALL_STAGES = [dict(zip(("length", "pairs", "queries", "batch", "steps"), stage))
                 for stage in ((32, 8, 8, 48, 450), (64, 16, 16, 24, 150), (128, 32, 32, 12, 150),
                               (256, 64, 64, 8, 300), (1024, 64, 64, 4, 200))]
SIZES = (1024, 4096, 16384, 65536)
DISTANCES = (1024, 4096, 16384)
PASSAGES, PASSAGE = 8, 128
READS = {"every chunk": (),
         "64 chunks and the last": ("--sparse-chunks", 64),
         "16 chunks and the last": ("--sparse-chunks", 16),
         "the same, of 4 groups of 64": ("--sparse-chunks", 16, "--open-groups", 4),
         "8 chunks and the last": ("--sparse-chunks", 8),
         "4 chunks and the last": ("--sparse-chunks", 4),
         "2 chunks and the last": ("--sparse-chunks", 2),
         "1 chunk and the last": ("--sparse-chunks", 1)}
SILENT = "nothing: `full` layers silent"


def answer(program, *words):
    return report.answer(program, *words, threads=1)


def silenced(model, config):
    """A copy of the model of this config whose `full` layers add nothing."""
    content = bytearray(model.read_bytes())
    begin = 8 + int.from_bytes(content[:8], "little")
    tensors = json.loads(content[8:begin])
    for layer, kind in enumerate(config["layer_types"]):
        if kind == "full":
            first, last = tensors[f"blocks.{layer}.mixer.o_proj.weight"]["data_offsets"]
            content[begin + first:begin + last] = bytes(last - first)
    copy = model.with_name("silent.safetensors")
    copy.write_bytes(content)
    return copy


def bits(program, model, path, reading):
    return -answer(program, "score", "--model", model, "--text", path,
                   *reading)["log_likelihood"] / math.log(2)


def readings(model, config):
    """(title, model, options) of every way to read."""
    return [*((title, model, reading) for title, reading in READS.items()),
            (SILENT, silenced(model, config), ())]


def recalled(program, directory):
    """A row for every way to read of a model trained to recall pairs: the part that it recalls."""
    config, stages = directory / "recall.json", directory / "stages.json"
    config.write_text(json.dumps(RECALL_CONFIG))
    stages.write_text(json.dumps(RECALL_STAGES))
    model = directory / "recall.safetensors"
    report.train(program, None, model, {"config": config, "task": "mqar", "stages": stages, "seed": 1,
                                        "lr": 2e-3, "eval-every": 0}, threads=1)
    length, pairs = RECALL_STAGES[-1]["length"], RECALL_STAGES[-1]["pairs"]
    rows = []
    for title, of, reading in readings(model, RECALL_CONFIG):
        score = answer(program, "task", "mqar", "--evaluate", "--model", of, "--lengths", length,
                       "--facts", pairs, "--count", 16, "--seed", 11, *reading)["lengths"][0]
        rows.append([title, f"{score['accuracy']:.3f} of {score['answers']:,}"])
    return rows


def met_again(program, model, directory, passages, before, reading):
    """Bits per byte of passages that follow themselves and what came between."""
    path = directory / "again.txt"
    path.write_bytes(passages + before)
    once = bits(program, model, path, reading)
    path.write_bytes(passages + before + passages)
    return (bits(program, model, path, reading) - once) / len(passages)


def main():
    options = report.arguments(("--stream", {"type": int, "default": 262_144}))
    program, text = options.program, options.text.read_bytes()
    least = 10 * (SIZES[-1] + 60_000)
    if len(text) < least:
        sys.exit(f"sparse_report: {options.text}: expected {least:,} bytes or more, found {len(text):,}")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        directory = pathlib.Path(name)
        seen, unseen = text[:len(text) * 9 // 10], text[len(text) * 9 // 10:]
        config, seen_file = directory / "config.json", directory / "seen.txt"
        config.write_text(json.dumps(CONFIG))
        seen_file.write_bytes(seen)
        model = directory / "model.safetensors"
        training = report.train(program, seen_file, model, {
            "config": config, "seed": 1, "steps": 700, "batch": 2, "seq-len": TRAINED,
            "eval-every": 0}, threads=1)
        models = readings(model, CONFIG)
        files = [directory / f"{size}.txt" for size in SIZES]
        for size, path in zip(SIZES, files):
            path.write_bytes(unseen[:size])
        passages = b"".join(unseen[70_000 + 6_000 * i:][:PASSAGE] for i in range(PASSAGES))
        read = [[title, *(f"{bits(program, m, path, reading) / (size - 1):.4f}"
                          for size, path in zip(SIZES, files))] for title, m, reading in models]
        again = [[title, *(f"{met_again(program, m, directory, passages, unseen[:n], reading):.3f}"
                           for n in DISTANCES)] for title, m, reading in models]
        path = directory / "passages.txt"
        path.write_bytes(passages)
        first = bits(program, model, path, ()) / (len(passages) - 1)
        pairs = recalled(program, directory)
        streamed = []
        for form in ("exact", "int8"):
            for title in ("16 chunks and the last", "the same, of 4 groups of 64"):
                r = answer(program, "stream", "--model", model, "--text", seen_file, "--repeat",
                           "--tokens", options.stream, "--bank", "mapped", "--bank-dir", "/var/tmp",
                           "--bank-format", form, *READS[title])
                info = answer(program, "info", "--model", model, "--json", "--bank-format", form,
                              *READS[title][:2])
                streamed.append([f"{form}, {title}", f"{r['tokens_per_second']:,.0f}",
                                 f"{info['state_bytes_per_token']:,.0f}",
                                 f"{info['memory_bytes_per_token']:,.0f}",
                                 f"{r['resident_bytes_peak'] / 2**20:,.0f}"])
        lengths = [f"{size:,}" for size in SIZES]
        print(f"""# Sparse reading of the whole past

Measured by `./run reports sparse-report` on {machine()}, {platform.machine()}, one thread. Gated DeltaNet and `full`, twice: d
{CONFIG['d_model']}, four heads of 32 in two groups, trained for {training['seconds']:.0f} seconds on {TRAINED:,} bytes of text at a time, every token read; then
[told to read less](published.md#a-text-of-any-length), in chunks of {CHUNK} bytes.

## Text

Bits per byte of text that it never saw, the first so many bytes of it; beyond {TRAINED:,} the model is past what it was trained on.

{table(["a head of a byte reads", *lengths], read)}

## Passages met again

{PASSAGES} passages of {PASSAGE} bytes, other text, and the passages again: their bits per byte the second time, by the bytes between. The first time they
take {first:.3f}.

{table(["a head of a byte reads", *(f"{n:,}" for n in DISTANCES)], again)}

## Pairs

Gated DeltaNet and `full`, once: d {RECALL_CONFIG['d_model']}, one head, trained to recall pairs of tokens, at last {RECALL_STAGES[-1]['pairs']} of them in {RECALL_STAGES[-1]['length']:,} tokens. They fill the first two
chunks, and each is asked for once behind them.

{table(["a head of a token reads", "recalled"], pairs)}

## A stream of {options.stream:,} bytes

Pages in a file of which 64 MiB stay resident.

{table(["format, a head of a byte reads", "bytes/s", "state, bytes a byte", "of these in memory", "resident at most, MiB"], streamed)}""")


if __name__ == "__main__":
    main()
