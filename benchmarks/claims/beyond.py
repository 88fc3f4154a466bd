"""What lies beyond the nine claims: targets, reported whether they are reached or not."""

import json
import pathlib
import shutil

from cell import Cell, Failed
from claim import Claim, Verdict, mean
from learned import ask, asked, loss_plots, trained
import plot

D, S, R = "deltanet", "swa", "retrieval"

# E1: the length record, by the model of examples/qa, its past in a file of 8-bit keys and values.

QA = pathlib.Path(__file__).resolve().parent.parent.parent / "examples" / "qa"
RECORD_LENGTHS = [2**e for e in (20, 22, 24, 26)]
RECORD_FACTS, RECORD_QUERIES = 128, 8  # each fact is asked for once, of one text
RECORD_BANK = {"bank": "mapped", "bank_dir": "/var/tmp", "bank_format": "int8", "open_groups": 16}
RECORD_SECONDS, RECORD_BYTES = 20 * 60, 256 * 2**20


def record_cells(budget):
    """{tokens: cell}"""
    if budget == "smoke":
        return {}
    config, stages = (json.loads((QA / name).read_text()) for name in ("config.json", "stages.json"))
    made = trained("E1/model", config, "retrieval_qa", stages, 1, 200)
    options = {"facts": RECORD_FACTS, "queries": RECORD_QUERIES,
               "trailers": RECORD_FACTS // RECORD_QUERIES, **RECORD_BANK}
    cells = {}
    for length in RECORD_LENGTHS:
        definition = {"record": {"length": length, "options": options}}

        def run(work, cell, length=length):
            need, free = 160 * length, shutil.disk_usage(RECORD_BANK["bank_dir"]).free
            if free < need:
                raise Failed(f"{RECORD_BANK['bank_dir']}: expected {need:,} free bytes, found {free:,}")
            model = work.directory / work.result(made)["model"]
            return ask(work, model, "retrieval_qa", length, 1, options, threads=2)
        cells[length] = Cell(f"E1/{length}", definition, run, length / 50_000, (made,), alone=True,
                             threads=2)
    return cells


def judge_record(budget, results):
    found = {length: results[cell.name] for length, cell in record_cells(budget).items()}
    rows = [("tokens", "answers", "accuracy", "seconds", "tokens/s", "resident at most, MiB")]
    rows += [(f"{n:,}", r["answers"], f"{r['accuracy']:.3f}", f"{r['seconds']:.0f}",
              f"{n / r['seconds']:,.0f}", f"{r['resident_bytes_peak'] / 2**20:.0f}")
             for n, r in found.items()]
    last = found[RECORD_LENGTHS[-1]]
    picture = plot.lines("Recall and length", "tokens", "accuracy",
                         [("D D D S R", [(n, r["accuracy"]) for n, r in found.items()])], x_log=2,
                         y_limits=(0, 1))
    return Verdict(last["accuracy"], last["accuracy"] >= 0.95 and last["seconds"] <= RECORD_SECONDS
                   and last["resident_bytes_peak"] <= RECORD_BYTES, seeds=1, rows=tuple(rows),
                   plots=(("e1_record.svg", picture),), note=(
                       f"{RECORD_FACTS} facts in one text, each asked for once; trained on at most 1,024 tokens."))


# E2: state tracking. Negative eigenvalues, no convolution, and a decay that begins close to 1.

PARITY_STAGES = [(8, 64, 100), (16, 64, 150), (40, 32, 800)]
S3_STAGES = [(6, 64, 150), (12, 64, 250), (32, 32, 400), (128, 16, 600)]
S5_STAGES = [(4, 96, 300), (8, 64, 300), (16, 48, 300), (32, 24, 200), (128, 8, 100)]


def tracking_stages(stages):
    return [dict(zip(("length", "batch", "steps"), stage)) for stage in stages]


def tracking_config(layers, negative, vocab):
    return {"vocab_size": vocab, "d_model": 64, "n_layers": layers, "n_heads": 2, "mlp_mult": 2.0,
            "layer_types": [D] * layers, "dn_short_conv_kernel": 1,
            "dn_negative_eigenvalues": negative}


def tracking_cells(budget):
    """{(task, negative, seed, length): cell}"""
    if budget == "smoke":
        made = trained("E2/parity/smoke", tracking_config(1, True, 16), "parity",
                       tracking_stages([(8, 64, 100), (16, 64, 150)]), 1, 8, lr=3e-3, decay_bias=9,
                       gate_scale=4)
        return {("parity", True, 1, 32): asked("E2/parity/smoke/32", made, "parity", 32, 64, 1)}
    cells = {}
    for task, layers, stages, vocab, seeds, lengths in (
            ("parity", 1, PARITY_STAGES, 16, (1, 2, 3), (256, 512)),
            ("s3", 2, S3_STAGES, 16, (1, 2, 3), (128, 512)),
            ("s5", 4, S5_STAGES, 128, (1,), (8, 128))):
        for negative in (True, False) if task == "parity" else (True,):
            for seed in seeds:
                name = f"E2/{task}/{'negative' if negative else 'positive'}/seed {seed}"
                made = trained(name, tracking_config(layers, negative, vocab), task,
                               tracking_stages(stages), seed, 60, lr=3e-3, decay_bias=9,
                               gate_scale=4)
                for length in lengths:
                    cells[task, negative, seed, length] = asked(f"{name}/{length}", made, task,
                                                                length, 64, 2)
    return cells


def judge_tracking(budget, results):
    found = {key: results[cell.name]["accuracy"] for key, cell in tracking_cells(budget).items()}
    if budget == "smoke":
        (value,) = found.values()
        return Verdict(value, value >= 0.95, seeds=1)

    def those(task, negative, length):
        return [a for (t, n, _, at), a in found.items() if (t, n, at) == (task, negative, length)]
    parity, s3 = those("parity", True, 256), those("s3", True, 512)
    rows = [("group", "eigenvalues", "tokens", "seeds", "lowest", "mean", "highest")]
    for task, negative, length in sorted({(t, n, at) for t, n, _, at in found}):
        values = those(task, negative, length)
        rows.append((task, "−1 to 1" if negative else "0 to 1", length, len(values),
                     *(f"{x:.4f}" for x in (min(values), mean(values), max(values)))))
    losses = {f"{task}, seed 1": results[f"E2/{task}/negative/seed 1"]
              for task in ("parity", "s3", "s5")}
    return Verdict(min(s3), min(parity) >= 0.99995 and min(s3) >= 0.99,
                   (min(s3), max(s3)), 3, tuple(rows), loss_plots("e2", losses), note=(
                       f"The value is S3 at 512 tokens, trained on at most 128; parity at 256, trained on "
                       f"at most 40: {min(parity):.4f}. Accuracy over all positions of 64 sequences."))


# E3: nothing but facts, where every chunk looks like every other.

MULTIKEY_STAGES = [(40, 252, 4, 96, 300), (80, 6, 8, 48, 400), (160, 8, 16, 24, 300),
                   (320, 16, 24, 12, 300), (1024, 24, 48, 5, 400)]


def multikey_cells(budget):
    if budget == "smoke":
        return {}
    config = {"vocab_size": 512, "d_model": 64, "n_layers": 2, "n_heads": 1, "mlp_mult": 2.0,
              "swa_window": 64, "layer_types": [S, R], "retrieval_chunk_size": 8,
              "retrieval_top_k": 8}
    stages = [dict(zip(("length", "key_ids", "queries", "batch", "steps"), stage))
              for stage in MULTIKEY_STAGES]
    cells = {}
    for seed in (1, 2, 3):
        made = trained(f"E3/multikey/seed {seed}", config, "multikey", stages, seed, 250, lr=2e-3)
        for length in (1024, 4096, 16384, 131072) if seed == 1 else (16384,):
            cells[seed, length] = asked(f"E3/multikey/seed {seed}/{length}", made, "multikey", length,
                                        32 if length <= 16384 else 8, length / 1000)
    return cells


def judge_multikey(budget, results):
    found = {key: results[cell.name] for key, cell in multikey_cells(budget).items()}
    far = [r["accuracy"] for (_, length), r in found.items() if length == 16384]
    rows = [("seed", "tokens", "answers", "accuracy")]
    rows += [(seed, f"{length:,}", r["answers"], f"{r['accuracy']:.3f}")
             for (seed, length), r in found.items()]
    picture = plot.lines("multikey: accuracy over length", "tokens", "accuracy", [
        ("S R", [(length, r["accuracy"]) for (seed, length), r in found.items() if seed == 1])],
        x_log=2, y_limits=(0, 1))
    losses = {f"seed {seed}": results[f"E3/multikey/seed {seed}"] for seed in (1, 2, 3)}
    return Verdict(min(far), min(far) >= 0.95, (min(far), max(far)), len(far), tuple(rows),
                   (("e3_multikey.svg", picture), *loss_plots("e3", losses)), "Trained on at most 1,024 tokens.")


# E3v, E3t, E3w: several values of a key, chains of facts, the most frequent words.

def task_config(layers, taps):
    return {"vocab_size": 512, "d_model": 64, "n_layers": len(layers), "n_heads": 1, "mlp_mult": 2.0,
            "swa_window": 64, "layer_types": layers, "retrieval_chunk_size": 8, "retrieval_top_k": 8,
            "dn_short_conv_kernel": taps}


VALUE_STAGES = [dict(zip(("length", "facts", "values", "queries", "batch", "steps"), stage))
                for stage in ((40, 4, 1, 4, 96, 250), (64, 2, 4, 2, 64, 500), (128, 4, 4, 4, 32, 300),
                              (320, 8, 4, 8, 14, 300), (1024, 12, 4, 12, 5, 400))]
CHAIN_STAGES = [dict(zip(("length", "facts", "hops", "queries", "batch", "steps"), stage))
                for stage in ((40, 3, 1, 3, 96, 250), (40, 2, 2, 2, 96, 500), (64, 3, 2, 3, 64, 400),
                              (128, 4, 2, 4, 32, 300), (512, 8, 2, 8, 10, 300))]
WORD_STAGES = [dict(zip(("length", "batch", "steps"), stage))
               for stage in ((256, 24, 400), (512, 12, 300), (1024, 6, 200))]
DENSE, LINEAR = "Transformer", "DeltaNet only"
# task: its stages, taps, what is asked beside its length, {model: layers}, the first that is claimed.
HARDER = {
    "multivalue": (VALUE_STAGES, 8, {"facts": 8}, {"S R": [S, R], DENSE: ["full"] * 2, LINEAR: [D] * 2}),
    "tracking": (CHAIN_STAGES, 4, {"facts": 8, "queries": 8},
                 {"S R R": [S, R, R], DENSE: ["full"] * 3, LINEAR: [D] * 3}),
    "words": (WORD_STAGES, 4, {}, {"D S": [D, S], DENSE: ["full"] * 2, LINEAR: [D] * 2}),
}


def harder_cells(task, budget):
    """{(model, seed, length, hops): cell}; the claimed model on three seeds, those beside it on one."""
    stages, taps, asks, models = HARDER[task]
    smoke, cells = budget == "smoke", {}
    for model, layers in list(models.items())[:1 if smoke else None]:
        claimed = layers is next(iter(models.values()))
        for seed in (1, 2, 3) if claimed and not smoke else (1,):
            name = f"E3/{task}/{model}/seed {seed}"
            short = [{**stages[0], "steps": 20}] if smoke else stages
            made = trained(name, task_config(layers, taps), task, short, seed, 10 if smoke else 250,
                           lr=2e-3)
            lengths = (256,) if smoke else (1024, 16384)
            for length in lengths:
                for hops in (2, 4) if task == "tracking" and not smoke else (None,):
                    options = {**asks, **({"hops": hops} if hops else {})}
                    at = f"{name}/{length}" + (f"/{hops} hops" if hops else "")
                    cells[model, seed, length, hops] = asked(
                        at, made, task, length, 16, length / 500, **options)
    return cells


def judge_harder(task, threshold):
    def judge(budget, results):
        found = {key: results[cell.name] for key, cell in harder_cells(task, budget).items()}
        claimed = next(iter(HARDER[task][3]))
        furthest = max(length for _, _, length, _ in found)
        judged = [r["accuracy"] for (model, _, length, hops), r in found.items()
                  if model == claimed and length == furthest and hops in (None, 2)]
        rows = [("model", "seed", "tokens", *(["hops"] if task == "tracking" else []), "answers",
                 "accuracy")]
        rows += [(model, seed, f"{length:,}", *([hops or 2] if task == "tracking" else []),
                  r["answers"], f"{r['accuracy']:.3f}")
                 for (model, seed, length, hops), r in found.items()]
        least = min(judged)
        passed = None if threshold is None or budget == "smoke" else least >= threshold
        losses = {model: results[f"E3/{task}/{model}/seed 1"] for model, seed, _, _ in found if seed == 1}
        return Verdict(least, passed, (least, max(judged)), len(judged), tuple(rows),
                       loss_plots(f"e3_{task}", losses))
    return judge


def harder_claim(id, title, task, said, threshold):
    return Claim(id, title, said, "accuracy",
                 lambda budget: list(harder_cells(task, budget).values()), judge_harder(task, threshold),
                 smoke="reported after 20 steps", target=True)


CLAIMS = (
    Claim("E1", "The length record", "≥ 0.95 of 128 answers in 2^26 tokens, ≤ 20 minutes, ≤ 256 MiB resident",
          "accuracy", lambda budget: list(record_cells(budget).values()), judge_record, target=True),
    Claim("E2", "State tracking", "parity 1.00 at 256 and S3 ≥ 0.99 at 512, three seeds", "accuracy",
          lambda budget: list(tracking_cells(budget).values()), judge_tracking,
          smoke="parity ≥ 0.95 at 32 tokens, trained on 16", target=True),
    Claim("E3", "Multikey, the hardest needle", "≥ 0.95 at 16,384", "accuracy",
          lambda budget: list(multikey_cells(budget).values()), judge_multikey, target=True),
    harder_claim("E3t", "Chains of two facts", "tracking", "≥ 0.90 at 16,384", 0.90),
    harder_claim("E3v", "Several values of a key", "multivalue", "≥ 0.95 at 16,384", 0.95),
    harder_claim("E3w", "The three most frequent words", "words", "reported", None),
)
