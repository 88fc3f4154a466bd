"""Claims about what models learn: recall, questions far beyond the training length, drafts.

Models are trained and asked by the program `hydralm`; what a cell is, is the config, the stages and the
options it is given.
"""

import json
import math

from cell import Cell, Failed
from claim import Claim, Verdict, mean
import plot


def stage_list(stages, facts="facts"):
    names = ("length", facts, "queries", "batch", "steps")
    return [dict(zip(names, stage)) for stage in stages]


def trained(name, config, task, stages, seed, seconds, **options):
    """A cell that trains a checkpoint; killed, it goes on from its last one."""
    definition = {"trained": {"config": config, "task": task, "stages": stages, "seed": seed,
                              "options": options}}

    def run(work, cell):
        return train(work, cell, config, options, "--task", task, "--seed", seed,
                     "--stages", written(work, cell, ".stages.json", stages))
    return Cell(name, definition, run, seconds)


def written(work, cell, suffix, value):
    path = work.file(cell, suffix)
    path.write_text(json.dumps(value))
    return path


def train(work, cell, config, options, *arguments):
    out, directory = work.file(cell, ".safetensors"), work.file(cell, ".training")
    log = work.file(cell, ".losses.jsonl")
    given = [word for key, value in options.items() for word in ("--" + key.replace("_", "-"), value)]
    goes_on = ["--resume", directory] if any(directory.glob("*.train")) else []
    if not goes_on:
        log.unlink(missing_ok=True)
    result = work.call("hydralm", "train", "--config", written(work, cell, ".config.json", config),
                       "--out", out, "--eval-every", 0, "--log", log, *given, *arguments, *goes_on)
    return {"model": out.name, "seconds": result["seconds"], "loss": result["train_loss"],
            "steps": result["steps"], "losses": loss_curve(log)}


def loss_curve(log, points=40):
    """[[step, mean loss since the point before]], at most `points` of them. A step that a resumed run
    took again counts once."""
    at = {row["step"]: row["loss"] for row in map(json.loads, log.read_text().splitlines())}
    steps = sorted(at)
    every = math.ceil(len(steps) / points)
    runs = [steps[i:i + every] for i in range(0, len(steps), every)]
    return [[run[-1], mean(at[step] for step in run)] for run in runs]


def loss_plots(name, found):
    """The losses while training of found, {label: result of a training}; without those measured before
    losses were kept."""
    series = [(label, [(step, loss) for step, loss in result["losses"] if loss > 0])
              for label, result in found.items() if result.get("losses")]
    return ((f"{name}_losses.svg", plot.lines("Loss while training", "step", "nats per token", series,
                                              y_log=10)),) if series else ()


def asked(name, model, task, length, count, seconds, **options):
    """A cell that asks a trained model about sequences it never saw. best: the cell among needs that
    does best is asked."""
    definition = {"asked": {"task": task, "length": length, "count": count, "options": options}}

    def run(work, cell):
        file = work.directory / work.result(model)["model"]
        return ask(work, file, task, length, count, options)
    return Cell(name, definition, run, seconds, (model,))


def ask(work, file, task, length, count, options, threads=1):
    words = []
    for key, value in options.items():
        words += ["--" + key.replace("_", "-")] + ([] if value is True else [value])
    score = work.call("hydralm", "task", task, "--evaluate", "--model", file, "--lengths", length,
                      "--count", count, "--seed", 11, *words, threads=threads)
    (entry,) = score["lengths"]
    return {key: entry[key] for key in ("length", "accuracy", "by_quartile", "answers", "seconds",
                                        "resident_bytes_peak")}


# C2: recall of key-value pairs.

RECALL_MODELS = {"hybrid (D S)": ["deltanet", "swa"], "DeltaNet only": ["deltanet", "deltanet"],
                 "SWA only": ["swa", "swa"], "Transformer": ["full", "full"]}
RATES = (1e-3, 3e-3, 6e-3)
RECALL_ROWS = {"smoke": [(2, 64)],
               "paper": [(2, 64), (8, 64), (8, 512), (16, 512), (64, 512), (8, 8192), (64, 8192)]}
DIAGONAL = ((2, 64), (8, 512), (64, 8192))


def recall_config(layers, vocab):
    return {"vocab_size": vocab, "d_model": 64 if vocab == 64 else 128, "n_layers": len(layers),
            "n_heads": 1,
            "mlp_mult": 2.0, "swa_window": 16, "layer_types": layers}


def recall_stages(pairs):
    """8 dense pairs come first, then two, or twice as many from stage to stage; every pair is asked for.
    Where nothing follows, 8 pairs take long: with some seeds the loss stands still for 800 steps."""
    stages = [(32, 8, 8, 48, 2000 if pairs == 8 else 450)]
    if pairs < 8:
        stages.append((4 * pairs, pairs, pairs, 128, 1000))
    size = 8
    while size < pairs:
        size *= 2
        stages.append((4 * size, size, size, max(8, 384 // size), 700 if size == pairs else 150))
    return stage_list(stages, "pairs")


RATE_STAGES = stage_list([(32, 8, 8, 48, 700)], "pairs")
SMOKE_STAGES = stage_list([(8, 2, 2, 64, 1000)], "pairs")


def recall_cells(budget):
    """{(model, pairs, vocab, seed): cell}. Each model's rate is that of three that did best at 8 pairs."""
    smoke, cells = budget == "smoke", {}
    for model, layers in RECALL_MODELS.items():
        if smoke and model != "hybrid (D S)":
            continue
        tried = {}
        for rate in () if smoke else RATES:
            name = f"C2/rate of {model}/{rate:g}"
            made = trained(name, recall_config(layers, 512), "mqar", RATE_STAGES, 1, 60,
                           lr=rate)
            tried[rate] = asked(name + "/asked", made, "mqar", 32, 128, 2, facts=8)
        for pairs, vocab in RECALL_ROWS[budget]:
            seeds = (1, 2, 3) if (pairs, vocab) in DIAGONAL and not smoke else (1,)
            for seed in seeds:
                cells[model, pairs, vocab, seed] = recall_cell(model, layers, pairs, vocab, seed,
                                                               tried, smoke)
    return cells


def recall_cell(model, layers, pairs, vocab, seed, tried, smoke):
    config, stages = recall_config(layers, vocab), SMOKE_STAGES if smoke else recall_stages(pairs)
    count = max(64, 4096 // pairs)
    definition = {"recall": {"config": config, "stages": stages, "seed": seed, "count": count}}

    def run(work, cell):
        rate = max(tried, key=lambda r: work.result(tried[r])["accuracy"], default=3e-3)
        found = train(work, cell, config, {"lr": rate}, "--task", "mqar", "--seed", seed,
                      "--stages", written(work, cell, ".stages.json", stages))
        answered = ask(work, work.directory / found["model"], "mqar", 4 * pairs, count,
                       {"facts": pairs})
        return {**found, **answered, "rate": rate, "training_seconds": found["seconds"]}
    seconds = 15 if smoke else 100 + pairs * (1 + vocab / 2048)
    return Cell(f"C2/{model}/{pairs} pairs of {vocab}/seed {seed}", definition, run, seconds,
                tuple(tried.values()))


def judge_recall(budget, results):
    cells = recall_cells(budget)
    found = {key: results[cell.name] for key, cell in cells.items()}
    hybrid = "hybrid (D S)"
    must = [(2, 64)] if budget == "smoke" else [(2, 64), (8, 512)]
    judged = [r["accuracy"] for (m, p, v, _), r in found.items() if m == hybrid and (p, v) in must]
    models = [m for m in RECALL_MODELS if any(key[0] == m for key in found)]
    rows = [("pairs", "vocabulary", "seeds", *models)]
    for pairs, vocab in RECALL_ROWS[budget]:
        row = [pairs, vocab, max(key[3] for key in found if key[1:3] == (pairs, vocab))]
        for model in models:
            values = [r["accuracy"] for key, r in found.items() if key[:3] == (model, pairs, vocab)]
            row.append(f"{mean(values):.4f}" + (f" ({min(values):.4f} – {max(values):.4f})"
                                                if len(values) > 1 else ""))
        rows.append(tuple(row))
    series = []
    for model in models:
        points = [(p, mean(r["accuracy"] for key, r in found.items() if key[:3] == (model, p, v)))
                  for p, v in RECALL_ROWS[budget] if v == (64 if budget == "smoke" else 512)]
        series.append((model, points))
    losses = {f"{m}, {p} pairs": r for (m, p, v, seed), r in found.items()
              if seed == 1 and (p, v) == must[-1]}
    rates = ", ".join(f"{m}: {next(r['rate'] for key, r in found.items() if key[0] == m):g}"
                      for m in models)
    picture = plot.lines("MQAR: accuracy over pairs", "pairs", "accuracy", series, x_log=2,
                         y_limits=(0, 1))
    return Verdict(min(judged), min(judged) >= 0.999, (min(judged), max(judged)),
                   len({key[3] for key in found if key[1:3] in must}), tuple(rows),
                   (("c2_mqar.svg", picture), *loss_plots("c2", losses)), f"Learning rates: {rates}.")


# C8: questions about facts in texts far longer than any that was trained on.

QUESTION_STAGES = [(96, 6, 6, 48, 500), (256, 8, 8, 18, 300), (512, 12, 12, 10, 300),
                   (1024, 16, 16, 5, 200)]
# Many facts from the beginning: without retrieval a sparse text teaches nothing.
BASELINE_STAGES = [(96, 8, 8, 48, 600), (256, 16, 16, 18, 300), (512, 32, 32, 10, 300),
                   (1024, 32, 32, 5, 300)]
SHORT_STAGES = [(40, 3, 3, 96, 150), (96, 6, 6, 48, 250)]


def question_config(layers, **more):
    return {"vocab_size": 512, "d_model": 64, "n_layers": len(layers), "n_heads": 2,
            "mlp_mult": 2.0, "swa_window": 64, "layer_types": layers, "retrieval_chunk_size": 32,
            "retrieval_top_k": 4, **more}


D, S, R = "deltanet", "swa", "retrieval"
QUESTION_MODELS = {"without retrieval (D D D S D)": question_config([D, D, D, S, D]),
                   "with retrieval (D D D S R)": question_config([D, D, D, S, R]),
                   "with retrieval and MTP": question_config([D, D, D, S, R], mtp_depth=2)}
RETRIEVES = "with retrieval (D D D S R)"


def question_cells(budget):
    """{(model, seed, length, retrieval zeroed): cell}"""
    cells = {}
    if budget == "smoke":
        config = question_config([S, R])
        made = trained("C8/S R/seed 1", config, "retrieval_qa", stage_list(SHORT_STAGES), 1, 25)
        cells[RETRIEVES, 1, 256, False] = asked("C8/S R/seed 1/256", made, "retrieval_qa", 256, 32,
                                                2, facts=6, queries=6)
        return cells
    retrieval_first = stage_list(QUESTION_STAGES)
    retrieval_first[0]["skip_deltanet"] = True
    for model, config in QUESTION_MODELS.items():
        stages = (retrieval_first if "retrieval" in config["layer_types"]
                  else stage_list(BASELINE_STAGES))
        for seed in (1, 2, 3):
            name = f"C8/{model}/seed {seed}"
            made = trained(name, config, "retrieval_qa", stages, seed, 240)
            lengths = (16384, 131072, 1048576) if seed == 1 else (16384,)
            for length in lengths:
                count = 16 if length == 16384 else 4
                for zeroed in (False, True) if model == RETRIEVES and length == 16384 else (False,):
                    options = {"zero_retrieval": True} if zeroed else {}
                    if length > 16384 and "with retrieval" in model:
                        options["open_groups"] = 16
                    cells[model, seed, length, zeroed] = asked(
                        f"{name}/{length}" + ("/zeroed" if zeroed else ""), made, "retrieval_qa",
                        length, count, length * count / 40000, trailers=4, **options)
    return cells


def judge_questions(budget, results):
    found = {key: results[cell.name] for key, cell in question_cells(budget).items()}
    if budget == "smoke":
        (one,) = found.values()
        return Verdict(one["accuracy"], one["accuracy"] >= 0.9, seeds=1)
    far = [found[RETRIEVES, seed, 16384, False] for seed in (1, 2, 3)]
    worst = min(min(q for q in one["by_quartile"] if q is not None) for one in far)
    accuracy = [one["accuracy"] for one in far]
    zeroed = max(r["accuracy"] for key, r in found.items() if key[3])
    rows = [("model", "seed", "tokens", "answers", "overall", *(f"quarter {i}" for i in (1, 2, 3, 4)))]
    for (model, seed, length, zero), r in found.items():
        rows.append((model + (", retrieval zeroed" if zero else ""), seed, f"{length:,}", r["answers"],
                     f"{r['accuracy']:.3f}",
                     *("–" if q is None else f"{q:.3f}" for q in r["by_quartile"])))
    series = [(model, [(i + 1, mean(found[model, seed, 16384, False]["by_quartile"][i]
                                    for seed in (1, 2, 3))) for i in range(4)])
              for model in QUESTION_MODELS]
    pictures = [("c8_depth.svg", plot.lines(
        "Questions at 16,384 tokens: accuracy by depth of the fact", "quarter of the text",
        "accuracy", series, y_limits=(0, 1)))]
    series = [(model, [(n, found[model, 1, n, False]["accuracy"])
                       for n in (16384, 131072, 1048576)]) for model in QUESTION_MODELS]
    pictures.append(("c8_length.svg", plot.lines(
        "Questions: accuracy over length", "tokens", "accuracy", series, x_log=2, y_limits=(0, 1))))
    lengths = (16384, 131072, 1048576)
    pictures.append(("c8_depth_length.svg", plot.heat_map(
        "With retrieval: accuracy by depth and length", "tokens", "quarter of the text",
        [f"{n:,}" for n in lengths], [1, 2, 3, 4],
        [[found[RETRIEVES, 1, n, False]["by_quartile"][i] for n in lengths] for i in range(4)])))
    pictures += loss_plots("c8", {model: results[f"C8/{model}/seed 1"] for model in QUESTION_MODELS})
    passed = min(accuracy) >= 0.98 and worst >= 0.95 and zeroed < 0.1
    return Verdict(min(accuracy), passed, (min(accuracy), max(accuracy)), 3, tuple(rows),
                   tuple(pictures), f"Worst quarter of any seed: {worst:.3f}; retrieval zeroed: at "
                   f"most {zeroed:.3f}. Trained on at most 1,024 tokens. Beyond 16,384 "
                   "tokens the models with retrieval look into 16 groups of chunks.")


# C9: drafts of the model's own leave the text as it is.

def draft_config(smoke):
    return {"vocab_size": 256, "d_model": 64 if smoke else 256, "n_layers": 2 if smoke else 6,
            "n_heads": 2 if smoke else 4, "swa_window": 128, "swa_every": 2, "mtp_depth": 2,
            "mtp_loss_weight": 0.3}


def draft_cells(budget):
    smoke = budget == "smoke"
    config = draft_config(smoke)
    options = {"steps": 60 if smoke else 600, "batch": 8, "seq_len": 64 if smoke else 256,
               "lr": 2e-3, "seed": 1, "save_every": 0 if smoke else 100}
    texts = "/usr/share/common-licenses"

    def learn(work, cell):
        return train(work, cell, config, options, "--text", texts)
    model = Cell("C9/text model", {"config": config, "options": options, "texts": texts}, learn,
                 20 if smoke else 600)
    tokens, samples = (20000, 60) if smoke else (20000, 1000)

    def compare(work, cell):
        file = work.directory / work.result(model)["model"]
        return drafts(work, cell, file, tokens, samples)
    compared = Cell("C9/drafts", {"tokens": tokens, "samples": samples, "version": 3}, compare,
                    12 if smoke else 180, (model,), alone=True)
    return {"drafts": compared}


def drafts(work, cell, file, tokens, samples):
    """Greedy ids with and without drafts, their time, and the fourth token of many samples."""
    import collections
    import time
    out = work.file(cell, ".ids")

    def ids(count, *options):
        begin = time.monotonic()
        text = work.text("hydralm", "generate", "--model", file, "--prompt", "The license ",
                         "--tokens", count, "--print-ids", *options, threads=2)
        return text.split(), time.monotonic() - begin
    mtp = ("--draft", "mtp", "--draft-tokens", 2)
    plain, drafted = ids(tokens)[0], ids(tokens, *mtp)[0]
    ratios = []
    for _ in range(3):  # the time of starting is that of one token
        slow = ids(tokens)[1] - ids(1)[1]
        fast = ids(tokens, *mtp)[1] - ids(1, *mtp)[1]
        ratios.append(slow / fast)
    out.write_text(" ".join(drafted))
    seen = [collections.Counter(), collections.Counter()]
    for seed in range(samples):
        for count, options in zip(seen, ((), mtp)):
            own = 2 * seed + (options == mtp)  # two independent samples
            count[ids(4, "--temperature", 1, "--seed", own, *options)[0][3]] += 1
    return {"same": plain == drafted, "tokens": len(plain), "ratio": sorted(ratios)[1],
            "p": two_sample_p(*seen), "samples": samples}


def two_sample_p(a, b):
    """p of Pearson's test that two counts are of one distribution; rare values are pooled."""
    common = [key for key in a | b if a[key] + b[key] >= 10]
    pairs = [(a[key], b[key]) for key in common]
    rest = (sum(a.values()) - sum(x for x, _ in pairs), sum(b.values()) - sum(y for _, y in pairs))
    if sum(rest) > 0:
        pairs.append(rest)
    m, n = sum(a.values()), sum(b.values())
    statistic = 0.0
    for x, y in pairs:
        share = (x + y) / (m + n)
        statistic += (x - m * share) ** 2 / (m * share) + (y - n * share) ** 2 / (n * share)
    freedom = len(pairs) - 1
    if freedom < 1:
        raise Failed("too few samples for a test of two distributions")
    # Wilson and Hilferty: the cube root of chi-square over its freedom is close to normal.
    spread = 2 / (9 * freedom)
    z = ((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return 0.5 * math.erfc(z / math.sqrt(2))


def judge_drafts(budget, results):
    r = results["C9/drafts"]
    losses = loss_plots("c9", {"text": results["C9/text model"]})
    return Verdict(r["ratio"], r["same"] and r["p"] > 0.001, plots=losses, note=(
        f"{r['tokens']} greedy tokens are " + ("the same" if r["same"] else "**not** the same")
        + f" with and without drafts; two samples of {r['samples']} fourth tokens differ with "
        f"p = {r['p']:.3f}. The value is the time of plain decoding over that with two drafts."))


CLAIMS = (
    Claim("C2", "Lossless MQAR", "≥ 0.999 at 2 pairs (V 64) and at 8 pairs (V 512)", "accuracy",
          lambda budget: list(recall_cells(budget).values()), judge_recall,
          smoke="≥ 0.999 at 2 pairs (V 64)"),
    Claim("C8", "Questions at 16k and far beyond",
          "≥ 0.98 at 16,384, ≥ 0.95 in every quarter, and none without its retrieval layer",
          "accuracy", lambda budget: list(question_cells(budget).values()), judge_questions,
          smoke="≥ 0.9 of 6 facts in 256 tokens, trained on 96"),
    Claim("C9", "Exact self-speculation", "greedy text identical, samples of one distribution",
          "times plain decoding", lambda budget: list(draft_cells(budget).values()), judge_drafts),
)
