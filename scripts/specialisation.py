#!/usr/bin/env python3
"""A model whose shape is a type against the same model read at run time, as a page of Markdown.

Usage: specialisation.py BUILD    a directory for the programs it compiles from
benchmarks/specialisation.cpp. The two programs of a width run in turn, on one thread, counted in
processor time; what is compared is the ratio within a pair, so that load and clock cancel.
"""

import concurrent.futures
import os
import pathlib
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from compile_time import ROOT, includes
from report import machine

FLAGS = ["-std=c++20", "-O3", "-march=native", "-pthread", "-DNDEBUG", "-s"]
WIDTHS = (64, 128, 256, 512)
WORK = ("prefill", "decode", "training")
PAIRS = 9
PAYS = 1.03

PAGE = """\
# Specialised or not

`HydraLM<config>` knows its shape when it is compiled; `RuntimeModel` reads it from a file, and is what `hydralm::open` and the
program give. Both compute the same bits with the same kernels, compiled for the head dimension. What a known width adds:

D D D S, heads of 32 (d 64 and 128) or 64, window 128, V 256, float, one thread: prefill of 512 tokens, one decoded token, a step
of AdamW over 4 × 128. Microseconds of processor time a token. The ratio is the run-time model's time over the specialised one's, the
median of {pairs} pairs that ran in turn, in brackets its quartiles; bold, and said to pay, where even the lower one is above {pays}.

| d | prefill, specialised | run time | ratio | decode, specialised | run time | ratio | training, specialised | run time | ratio |
|---:|---:|---:|---|---:|---:|---|---:|---:|---|
"""

COMPILED = """
## What it costs to build

`{flags}`, {compiler}: processor time of the compiler, its peak memory, the stripped program. Each holds prefill,
decoding and training of the four layers; the last one of every width above.

| program | compile, s | compiler, MB | program, KB |
|---|---:|---:|---:|
"""


def privileged():
    """Real-time priority where the system grants it: nobody else's work in between."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    except OSError:
        pass


def build(directory, width):
    """(program, processor seconds, peak MB, KB)"""
    program = directory / f"specialisation_{width or 'any'}"
    macro = [f"-DWIDTH={width}"] if width else []
    child = subprocess.Popen(["g++", *FLAGS, *macro, "-w", *includes(),
                              ROOT / "benchmarks/specialisation.cpp", "-o", program, "-lz"])
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"specialisation.cpp does not compile for {width}")
    return (program, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024,
            program.stat().st_size / 1024)


def measured(program, width):
    """Microseconds a token, by WORK."""
    run = subprocess.run([program, str(width)], check=True, text=True, capture_output=True,
                         preexec_fn=privileged)
    return [1e6 * float(number) for number in run.stdout.split()]


def compared(special, general, width):
    """The cells of a row, and by WORK whether it pays."""
    pairs = []
    for i in range(PAIRS):
        order = (special, general) if i % 2 == 0 else (general, special)
        times = {program: measured(program, width) for program in order}
        pairs.append((times[special], times[general]))
    cells, pays = [], []
    for work in range(len(WORK)):
        ours = [pair[0][work] for pair in pairs]
        theirs = [pair[1][work] for pair in pairs]
        low, ratio, high = statistics.quantiles([b / a for a, b in zip(ours, theirs)], n=4)
        pays.append(low > PAYS)
        text = f"{ratio:.2f} ({low:.2f} – {high:.2f})"
        cells += [f"{statistics.median(ours):.4g}", f"{statistics.median(theirs):.4g}",
                  f"**{text}**" if pays[-1] else text]
    return cells, pays


def verdict(pays):
    """pays: width -> by WORK whether specialising it pays. As lines of text."""
    lines = []
    for work, name in enumerate(WORK):
        does = [str(width) for width in WIDTHS if pays[width][work]]
        does_not = [str(width) for width in WIDTHS if not pays[width][work]]
        lines.append(f"- {name}: " + "; ".join(
            ([f"pays at d {', '.join(does)}"] if does else []) +
            ([f"does not pay at d {', '.join(does_not)}"] if does_not else [])) + ".")
    return "\n".join(lines)


def main(directory):
    directory.mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        general, *built = pool.map(lambda width: build(directory, width), (0, *WIDTHS))
    special = dict(zip(WIDTHS, built))
    print(PAGE.format(pairs=PAIRS, pays=PAYS), end="", flush=True)
    pays = {}
    for width in WIDTHS:
        cells, pays[width] = compared(special[width][0], general[0], width)
        print(f"| {width} | " + " | ".join(cells) + " |", flush=True)
    print(f"\n{verdict(pays)}")
    compiler = subprocess.run(["g++", "-dumpfullversion"], check=True, text=True,
                              capture_output=True).stdout.strip()
    print(COMPILED.format(flags=" ".join(FLAGS), compiler=f"g++ {compiler} on {machine()}"), end="")
    for name, (_, seconds, memory, size) in [
            *((f"d {width}, specialised", special[width]) for width in WIDTHS),
            ("any width, at run time", general)]:
        print(f"| {name} | {seconds:.0f} | {memory:.0f} | {size:.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
