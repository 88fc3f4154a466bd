"""What the scripts that write reports share: the machine, tables, the program and what it trains."""

import argparse
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys


def machine():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def table(head, rows):
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def arguments(*options, text=True):
    """Of the command line: PROGRAM, TEXT where the report reads one, and options as (name, words of
    add_argument); the program by its whole path."""
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=lambda path: pathlib.Path(path).resolve())
    if text:
        parser.add_argument("text", type=pathlib.Path)
    for name, words in options:
        parser.add_argument(name, **words)
    return parser.parse_args()


def said(program, *words, threads=None, launcher=()):
    """What the program prints. threads: None, as many as it takes by itself. launcher: the words of
    a command line before it."""
    environment = dict(os.environ)
    if threads is not None:
        environment["HYDRALM_NUM_THREADS"] = str(threads)
    done = subprocess.run([*map(str, launcher), program, *map(str, words)], text=True,
                          capture_output=True, env=environment)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        message = next((line for line in lines if line.startswith("hydralm")), "\n".join(lines[-5:]))
        name = f"{launcher[0]}, of " if launcher else ""
        sys.exit(f"{name}{program.name} {words[0]}: ended with {done.returncode}: {message}")
    return done.stdout


def answer(program, *words, **how):
    """The JSON object that the program prints last."""
    return json.loads(said(program, *words, **how).splitlines()[-1])


def train(program, text, out, options, **how):
    """Trains a model on text, or where that is None on the task that options name, to the file out
    alone: nothing to go on from is kept. options: {name without --: value}. What the program
    reports."""
    options = options if text is None else {"text": text, **options}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    trained = answer(program, "train", "--out", out, "--save-every", 0, *words, **how)
    shutil.rmtree(out.with_suffix(".training"))
    return trained
