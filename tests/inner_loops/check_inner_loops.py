#!/usr/bin/env python3
"""An expression's inner loop does what the loop written by hand does: loads, stores, arithmetic.

Argument: the build directory, for the include path. loops.cpp is compiled by g++ and clang++-19
where they are installed, at -O2 and -O3 for x86-64-v3; both forms of every loop are found in what
objdump prints, and counted per batch. --table prints the counts as a table of Markdown.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
import compiling

# Each loop with what one batch of elements needs: stores, or loads where it stores nothing.
LOOPS = {"silu": 1, "decay": 1, "adamw": 3, "squares": 1, "norm": 1, "largest": 1, "terms": 1,
         "matrix": 1}

FUNCTION = re.compile(r"^[0-9a-f]+ <(\w+)>:$")
LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*?)(?:\s+#.*)?$")
JUMP = re.compile(r"^([0-9a-f]+)")
MEMORY = re.compile(r"-?(?:0x[0-9a-f]+)?\((%\w+)?[^()]*\)")


def functions(text):
    """name -> [(address, mnemonic, operands)]"""
    found, lines = {}, []
    for row in text.splitlines():
        if match := FUNCTION.match(row):
            lines = found.setdefault(match[1], [])
        elif match := LINE.match(row):
            lines.append((int(match[1], 16), match[2], match[3]))
    return found


def inner_loops(instructions):
    """The bodies of the loops that have no other in them."""
    loops = []
    for end, (_, mnemonic, operands) in enumerate(instructions):
        match = JUMP.match(operands)
        if mnemonic.startswith("j") and mnemonic != "jmp" and match:
            target = int(match[1], 16)
            starts = [i for i, (address, _, _) in enumerate(instructions[:end]) if address == target]
            loops += [(start, end) for start in starts]
    inner = [loop for loop in loops
             if not any(other != loop and loop[0] <= other[0] and other[1] <= loop[1]
                        for other in loops)]
    return [instructions[start:end] for start, end in inner]


def is_memory(operand, frame):
    """Whether it is an element in memory, not a constant or what found no register."""
    match = MEMORY.search(operand)
    return match is not None and match[1] not in frame


def count(body, frame):
    """(loads, stores, arithmetic) of vectors."""
    loads = stores = arithmetic = 0
    for _, mnemonic, operands in body:
        if "%ymm" not in operands:
            continue
        parts = re.split(r",(?![^(]*\))", operands)
        moves = mnemonic.startswith(("vmov", "vbroadcast", "vlddqu"))
        if moves and is_memory(parts[-1], frame):
            stores += 1
        elif any(is_memory(part, frame) for part in parts):
            loads += 1
        arithmetic += not moves
    return loads, stores, arithmetic


def per_batch(instructions, needed):
    """The counts of the loop that does most, for one batch."""
    aligned = any(m == "mov" and o == "%rsp,%rbp" for _, m, o in instructions)
    frame = ("%rip", "%rsp", "%rbp") if aligned else ("%rip", "%rsp")
    counts = max((count(body, frame) for body in inner_loops(instructions)), key=sum)
    batches = (counts[1] or counts[0]) / needed
    return tuple(c / batches for c in counts)


def compiled(compiler, level, includes, directory):
    out = pathlib.Path(directory) / "loops.o"
    subprocess.run([compiler, "-std=c++20", level, "-march=x86-64-v3", *includes, "-c",
                    str(HERE / "loops.cpp"), "-o", str(out)], check=True)
    listing = subprocess.run(["objdump", "-d", "--no-show-raw-insn", str(out)], check=True,
                             text=True, stdout=subprocess.PIPE).stdout
    return functions(listing)


def main(build, table):
    base = compiling.command(build)
    includes = [word for i, word in enumerate(base)
                if word in ("-I", "-isystem") or base[i - 1] in ("-I", "-isystem")]
    names = [name for name in ("g++", "clang++-19") if shutil.which(name)]
    passed = failed = 0
    if table:
        print("| loop | compiler | loads | stores | arithmetic | by hand |")
        print("|---|---|---|---|---|---|")
    for name in names:
        for level in ("-O2", "-O3"):
            with tempfile.TemporaryDirectory() as directory:
                found = compiled(name, level, includes, directory)
            for loop, needed in LOOPS.items():
                forms = [per_batch(found[f"{form}_{loop}"], needed)
                         for form in ("expression", "by_hand")]
                same = forms[0] == forms[1]
                passed += same
                failed += not same
                text = ["/".join(f"{c:g}" for c in form) for form in forms]
                if table:
                    cells = " | ".join(f"{c:g}" for c in forms[0])
                    print(f"| {loop} | {name} {level} | {cells} | {'the same' if same else text[1]} |")
                elif not same:
                    print(f"{loop}, {name} {level}: loads/stores/arithmetic of a batch {text[0]}, "
                          f"by hand {text[1]}")
    if not table or failed:
        print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], "--table" in sys.argv[2:]))
