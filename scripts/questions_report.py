#!/usr/bin/env python3
"""A page of Markdown: models trained by `hydralm train --task retrieval_qa`, asked up to a million tokens on.

Usage: questions_report.py SOURCE BUILD [--seeds 1,2] [--lengths 16384,131072,1048576]

Builds the program for each model below BUILD, with the tree at SOURCE.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from compile_time import machine

MODELS = {"S R": ["swa", "retrieval"],
          "D D D S R": ["deltanet", "deltanet", "deltanet", "swa", "retrieval"]}
STAGES = [(96, 6, 6, 48, 500), (256, 8, 8, 18, 300), (512, 12, 12, 10, 300),
          (1024, 16, 16, 5, 200)]


def config(layers):
    return {"vocab_size": 512, "d_model": 64, "n_layers": len(layers), "n_heads": 2, "mlp_mult": 2.0,
            "swa_window": 64, "layer_types": layers, "retrieval_chunk_size": 32,
            "retrieval_top_k": 4}


def stages():
    names = ("length", "facts", "queries", "batch", "steps")
    listed = [dict(zip(names, stage)) for stage in STAGES]
    listed[0]["skip_deltanet"] = True
    return listed


def built(source, build, name, layers):
    directory = build / name.replace(" ", "").lower()
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "config.json"
    file.write_text(json.dumps(config(layers)))
    if not (directory / "build.ninja").exists():
        subprocess.run(["meson", "setup", directory, source, f"-Dmodel_config={file}",
                        "-Dtests=disabled", "-Dbenchmarks=disabled"],
                       check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["meson", "compile", "-C", directory, "hydralm"], check=True,
                   stdout=subprocess.DEVNULL)
    return directory / "hydralm"


def result(*command):
    out = subprocess.run([str(part) for part in command], check=True, text=True,
                         stdout=subprocess.PIPE).stdout
    return json.loads(out.splitlines()[-1])


def asked(program, model, length, answers, *options):
    """(accuracy, worst quartile, answers, tokens a second): 32 facts, 4 trailers a haystack."""
    score = result(program, "task", "retrieval_qa", "--evaluate", "--model", model, "--lengths",
                   length, "--count", answers // 32, "--trailers", 4, "--seed", 11, *options)
    (entry,) = score["lengths"]
    worst = min(share for share in entry["by_quartile"] if share is not None)
    return (entry["accuracy"], worst, entry["answers"], length * (answers // 32) / entry["seconds"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--lengths", default="16384,131072,1048576")
    options = parser.parse_args()
    lengths = [int(length) for length in options.lengths.split(",")]
    programs = {name: built(options.source.resolve(), options.build.resolve(), name, layers)
                for name, layers in MODELS.items()}
    print(f"""# Questions about texts up to a million tokens

Measured by `./run reports` on {machine()}. Models of d 64, 2 heads of 32, window 64, C = 32, k = 4, trained by
`hydralm train --task retrieval_qa` and the curriculum of [retrieval](retrieval.md) on at most 1,024 tokens, then asked
about haystacks they never saw: 32 facts anywhere in each, 4 × 8 queries behind it. Flat routing scores every
chunk, the others groups of 64 and the chunks of the best 16 or 4. "Worst quarter": accuracy on the facts of the quarter
of the text that does worst, flat. "R zeroed": the trained model with its retrieval layer left out.

| model | seed | training | tokens | answers | flat | worst quarter | 16 groups | 4 groups | R zeroed | tokens/s: flat | 16 | 4 |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|""", flush=True)
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        curriculum = directory / "stages.json"
        curriculum.write_text(json.dumps(stages()))
        for layers, program in programs.items():
            for seed in options.seeds.split(","):
                model = directory / f"{program.parent.name}-{seed}.safetensors"
                trained = result(program, "train", "--task", "retrieval_qa", "--stages", curriculum,
                                 "--out", model, "--seed", seed, "--eval-every", 0,
                                 "--save-every", 0)
                for length in lengths:
                    answers = 512 if length <= 16384 else 128
                    flat, sixteen, four = (
                        asked(program, model, length, answers, "--open-groups", groups)
                        for groups in (0, 16, 4))
                    zeroed = ""
                    if length == lengths[0]:
                        zeroed = asked(program, model, length, answers, "--zero-retrieval")[0]
                        zeroed = f"{zeroed:.3f}"
                    print(f"| {layers} | {seed} | {trained['seconds']:.0f} s | {length:,} | "
                          f"{flat[2]} | {flat[0]:.3f} | {flat[1]:.3f} | {sixteen[0]:.3f} | "
                          f"{four[0]:.3f} | {zeroed} | {flat[3]:,.0f} | {sixteen[3]:,.0f} | "
                          f"{four[3]:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
