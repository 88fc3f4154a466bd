#!/usr/bin/env python3
"""What the layers cost a token, by formula and counted, as a page of Markdown.

Usage: complexity.py PROGRAM    benchmarks/complexity_report, compiled for x86-64-v3 without PIE.
Each row of it runs under callgrind (valgrind), which counts how often every instruction is executed
and which lines a small cache misses; objdump says which instructions compute. Nothing is timed, so
the load of the machine does not matter.
"""

import collections
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile

LINE = 64
# A cache smaller than any layer's weights, which a token goes through once: what it misses is read
# from farther away. The second is that of instructions.
CACHE = ["--D1=4096,4,64", "--I1=32768,8,64", "--LL=65536,16,64"]
OPERATION = re.compile(r"^v(fn?m(?:add|sub)\d*|add|sub|mul|div|sqrt|max|min)([ps])([sd])$")
INSTRUCTION = re.compile(r"^\s+([0-9a-f]+):\s+(\S+)\s*(.*)$")

PAGE = """\
# What a layer costs

A token's work and memory, for choosing a schedule: `D` a gated delta rule, `S` a sliding window, `R` retrieval, `F` attention to
the whole past. d `d_model`, H `n_heads`, D `head_dim`, I = H·D, G `n_kv_heads` (H unless given), W `swa_window`, C
`retrieval_chunk_size`, k `retrieval_top_k`, K `dn_short_conv_kernel`, h the MLP's width, V `vocab_size`; t tokens before this one.
A multiply-add is 2 FLOP. Retrieval's formulas are in [the mathematics](math.md), what its banks do in [retrieval](retrieval.md).

| | weights w | FLOP a token, beside 2w | numbers a stream carries | numbers of it that a decoded token reads |
|---|---|---|---|---|
| `deltanet` | d (5I + 2H) | 6 K I + 6 D I | 3 I (K − 1) + D I | all |
| `swa` | 4 d I | 4 I min(t, W) | 2 I W | 2 I min(t, W) |
| `retrieval` | 4 d I | 6 K I + 2 I s + 4 I (k + ½) C | 3 I (K − 1) + (2I + H) t + I t/C | I s + 2 I (k + ½) C |
| - flat, two levels of g groups | | s = t/C, t/(64 C) + 64 (g + ½) | | |
| - bounded, E exact and P means | | s = E + P; a mean is read as one token | 3 I (K − 1) + (2I + H) (C (E + 1) + 256) + 192 I (⌈(E + P)/64⌉ + 1) | |
| `full` | 2 d I + 2 d G D | 4 I t | 2 G D t | 2 G D t |
| MLP | 3 d h | | | |
| head | d V | | | |
| a module of `mtp_depth` | 2 d² + 3 d h, and the head again | | | |

A number is 4 bytes in float, 8 in double; in banks of bf16 or int8 keys and values are 2 or about 1.2. Decoding reads the weights, 4 bytes
each or 2 in bf16, once for all streams of a batch, and the state of each stream. Training is three times the FLOP of prefill. So time is linear in
the text, and a stream's memory constant, with `D` and `S` alone; a token costs 2 I/C FLOP more for every token before it in `R`, 4 I in `F`.

## Counted

d 128, H 4, D 32, W 128, C 32, k 4, K 4, h 384, V 256, in float: prefill of 256 tokens, and 16 decoded ones, behind t others.

FLOP are those of every instruction that adds, multiplies, divides or takes a maximum, as often as it is executed, in code for
AVX2. That is more than the formulas have by exponentials (16 FLOP each, one for a pair of attention), norms, masked pairs of a tile, and in the
prefill of the delta rule by its WY form. Bytes read are 64 for every line that a simulated cache of 64 KiB misses, bytes of state what
`state.size()` says, whole pages. The error is what is counted over the formula.

| layer | t | prefill, FLOP | counted | error | decoding, FLOP | counted | error | bytes read | counted | error | bytes of state | measured | error |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
"""


def flop_of(mnemonic, operands):
    """FLOP of one execution of a vector instruction; 0 of any other."""
    match = OPERATION.match(mnemonic)
    if not match:
        return 0
    name, packed, double = match.groups()
    width = 32 if "%ymm" in operands else 16
    lanes = width // (8 if double == "d" else 4) if packed == "p" else 1
    return lanes * (2 if name.startswith("f") else 1)


def flop_by_address(program):
    listing = subprocess.run(["objdump", "-d", "--no-show-raw-insn", program], check=True, text=True,
                             capture_output=True).stdout
    found = {}
    for line in listing.splitlines():
        if match := INSTRUCTION.match(line):
            if flop := flop_of(match[2], match[3]):
                found[int(match[1], 16)] = flop
    return found


def counted(program, row, flop):
    """(FLOP, bytes read) of a row's work."""
    with tempfile.TemporaryDirectory() as directory:
        out = pathlib.Path(directory, "callgrind")
        subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--dump-instr=yes",
                        "--dump-line=no", "--compress-strings=no", "--compress-pos=no",
                        "--cache-sim=yes", *CACHE, "--toggle-collect=measured_region", program,
                        str(row)], check=True, capture_output=True)
        lines = out.read_text().splitlines()
    events, total, missed, inclusive = [], 0, 0, False
    for line in lines:
        if line.startswith("events:"):
            events = line.split()[1:]
        elif line.startswith("calls="):
            inclusive = True  # the next line counts what was called, once more
        elif line.startswith("0x"):
            address, *costs = line.split()
            cost = collections.defaultdict(int, zip(events, map(int, costs)))
            if not inclusive:
                total += cost["Ir"] * flop.get(int(address, 16), 0)
                missed += cost["DLmr"]
            inclusive = False
    return total, missed * LINE


def error(formula, measured):
    return "" if formula == 0 else f"{100 * (measured / formula - 1):+.1f} %"


def cells(prefill, step):
    """The row of the page from two of the program, each with what was counted."""
    (name, before, tokens, _, flop, *_), (done, _) = prefill[0].split("\t"), prefill[1]
    flop, done = float(flop), done / int(tokens)
    (*_, steps, _, by_step, read, state, found), (stepped, missed) = step[0].split("\t"), step[1]
    read, state, found = float(read), float(state), float(found)
    by_step, stepped, missed = float(by_step), stepped / int(steps), missed / int(steps)
    row = [name, before, f"{flop:,.0f}", f"{done:,.0f}", error(flop, done), f"{by_step:,.0f}",
           f"{stepped:,.0f}", error(by_step, stepped), f"{read:,.0f}", f"{missed:,.0f}",
           error(read, missed), f"{state:,.0f}", f"{found:,.0f}", error(state, found)]
    return "| " + " | ".join(row) + " |"


def main(program):
    flop = flop_by_address(program)
    rows = subprocess.run([program], check=True, text=True, capture_output=True).stdout.splitlines()
    print(PAGE, end="", flush=True)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = pool.map(lambda index: counted(program, index, flop), range(len(rows)))
        for prefill, step in zip(*[zip(rows, counts)] * 2):  # two rows of a layer, one after the other
            print(cells(prefill, step), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
