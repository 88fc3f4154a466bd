"""What lies beyond the nine claims, on real text: no decay along a stream, memory of what was read."""

import json
import math
import pathlib
import sys

from cell import Cell, Failed
from claim import Claim, Verdict, mean
from learned import loss_plots, train
import plot

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent.parent / "scripts"))
import text_report

D, S, R = "deltanet", "swa", "retrieval"
LICENCES = "/usr/share/common-licenses/*"
MODELS = {"D D D S": [D, D, D, S], "D D D S R": [D, D, D, S, R], "D D D S D": [D, D, D, S, D]}


def smoke(budget):
    return budget == "smoke"


def texts(budget):
    """A cell that splits text into files to train on and files held out, as docs/text-report.md does."""
    pattern = LICENCES if smoke(budget) else text_report.PODS

    def run(work, cell):
        directory = work.file(cell, "")
        directory.mkdir(exist_ok=True)
        parts = text_report.corpus(directory, pattern)
        if not parts["training"] or not parts["held-out"]:
            raise Failed(f"no text at {pattern}; on Debian install perl-doc")
        return {"directory": directory.name,
                "xz": text_report.xz_bits_per_byte(parts),
                **{part: sum(map(len, files)) for part, files in parts.items()}}
    return Cell("text/files", {"texts": pattern}, run, 1 if smoke(budget) else 15)


def files_of(work, cell, part):
    directory = work.directory / work.result(cell)["directory"] / part
    return [str(path) for path in sorted(directory.iterdir())]


def text_model(budget, layers):
    """A cell: a model of d 128 trained on texts of at most 1,024 bytes."""
    files = texts(budget)
    config = {"vocab_size": 256, "d_model": 128, "n_layers": len(MODELS[layers]), "n_heads": 4,
              "swa_window": 128, "layer_types": MODELS[layers], "retrieval_chunk_size": 32,
              "retrieval_top_k": 4}
    options = ({"steps": 40, "batch": 4, "seq_len": 128} if smoke(budget) else
               {"steps": 2400, "batch": 4, "seq_len": 1024, "save_every": 200})
    options |= {"lr": 3e-3, "seed": 1}

    def run(work, cell):
        directory = work.directory / work.result(files)["directory"]
        return train(work, cell, config, options, "--text", directory / "training")
    return Cell(f"text/{layers}", {"config": config, "options": options}, run,
                10 if smoke(budget) else 1200, (files,))


def measured(name, program, asked, model, files, context, seconds):
    """A cell of claims_measure: asked, and the model's file and the held-out files; context: whether
    the files it was trained on are read first."""
    def run(work, cell):
        words = {**asked, "model": str(work.directory / work.result(model)["model"]),
                 "files": files_of(work, files, "held-out")}
        if program == "after_reading":
            words["context"] = files_of(work, files, "training") if context else []
        return work.call("measure", program, json.dumps(words))
    return Cell(name, {program: asked, "context": context}, run, seconds, (model, files))


# E4: what is far behind does no harm.

def marks(budget):
    return [2**e for e in (range(10, 15) if smoke(budget) else range(10, 21))]


def position_cells(budget):
    """{(layers, turn): cell}: streams of the same files, each begun elsewhere."""
    cells, turns = {}, 2 if smoke(budget) else 8
    for layers in ("D D D S",) if smoke(budget) else ("D D D S", "D D D S R"):
        for turn in range(turns):
            asked = {"begin": turn / turns, "marks": marks(budget)}
            if R in MODELS[layers]:
                asked["bank"] = "mapped"
            cells[layers, turn] = measured(f"E4/{layers}/turn {turn}", "positions", asked,
                                           text_model(budget, layers), texts(budget), False,
                                           marks(budget)[-1] / 30000)
    return cells


def error(values):
    """Of their mean."""
    m = mean(values)
    return math.sqrt(sum((x - m) ** 2 for x in values) / (len(values) - 1) / len(values))


def rise(stretches):
    """The most by which a stretch is above the best before it, beyond two errors of the difference;
    below 0 where none is. stretches: the bits per byte of every turn, by position."""
    worst = -math.inf
    for later in range(1, len(stretches)):
        for before in range(later):
            apart = mean(stretches[later]) - mean(stretches[before])
            slack = 2 * math.hypot(error(stretches[later]), error(stretches[before]))
            worst = max(worst, apart - slack)
    return worst


def judge_positions(budget, results):
    cells = position_cells(budget)
    names = sorted({layers for layers, _ in cells})
    rows, series, worst = [("bytes of the stream", *names)], [], -math.inf
    found = {}
    for layers in names:
        turns = [results[cell.name]["bits"] for (which, _), cell in cells.items() if which == layers]
        found[layers] = list(zip(*turns))
        worst = max(worst, rise(found[layers]))
        series.append((layers, [(mark, mean(v), mean(v) - error(v), mean(v) + error(v))
                                for mark, v in zip(marks(budget), found[layers])]))
    begin = 0
    for i, mark in enumerate(marks(budget)):
        rows.append((f"{begin:,} to {mark:,}", *(f"{mean(found[n][i]):.3f} ± {error(found[n][i]):.3f}"
                                                 for n in names)))
        begin = mark
    picture = plot.lines("Held-out text along one stream", "bytes read", "bits per byte", series,
                         x_log=2)
    trained = 128 if smoke(budget) else 1024
    losses = {layers: results[f"text/{layers}"] for layers in names}
    plots = (("e4_positions.svg", picture), *loss_plots("e4", losses))
    return Verdict(worst, worst <= 0, rows=tuple(rows), plots=plots, note=(
        "The value is the most by which a stretch lies above an earlier one, two standard errors of the "
        f"difference taken off: not above 0 when nothing rises. Trained on {trained:,} bytes at a time; "
        f"{len(turns)} streams of the same files, each begun elsewhere."))


# E5: what was read is remembered.

READINGS = {"D D D S R, training files read": ("D D D S R", True),
            "D D D S R, nothing read": ("D D D S R", False),
            "D D D S D, training files read": ("D D D S D", True),
            "D D D S D, nothing read": ("D D D S D", False)}


def reading_cells(budget):
    cells = {}
    for name, (layers, context) in READINGS.items():
        asked = {"bank": "mapped"} if R in MODELS[layers] else {}
        seconds = (1 if smoke(budget) else 60) * (4 if context else 1)
        cells[name] = measured(f"E5/{name}", "after_reading", asked, text_model(budget, layers),
                               texts(budget), context, seconds)
    return cells


def judge_reading(budget, results):
    found = {name: results[cell.name] for name, cell in reading_cells(budget).items()}
    bits = {name: r["bits_per_byte"] for name, r in found.items()}
    xz = results[texts(budget).name]["xz"]
    rows = [("model", "bytes read before", "bits per byte of held-out files", "state, bytes",
             "resident, bytes")]
    rows += [(name, f"{r['context_bytes']:,}", f"{r['bits_per_byte']:.3f}", f"{r['state_bytes']:,}",
              f"{r['resident_bytes']:,}") for name, r in found.items()]
    rows.append(("xz -9, training files before", "–", f"{xz:.3f}", "–", "–"))
    reads = bits["D D D S R, training files read"]
    others = [value for name, value in bits.items() if name != "D D D S R, training files read"]
    return Verdict(reads, reads < min(others) and reads < xz, rows=tuple(rows), note=(
        f"Below every other row but xz: {'yes' if reads < min(others) else 'no'}; below xz: "
        f"{'yes' if reads < xz else 'no'}. Each held-out file is read from a copy of the state."))


CLAIMS = (
    Claim("E4", "Text does not decay", "bits per byte never rise from 2^10 to 2^20, within their error",
          "bits of rise", lambda budget: list(position_cells(budget).values()), judge_positions,
          smoke="the same from 2^10 to 2^14", target=True),
    Claim("E5", "Memory of real text",
          "fewer bits per byte behind the training files than from nothing, than without R, than xz -9",
          "bits per byte", lambda budget: list(reading_cells(budget).values()), judge_reading,
          target=True),
)
