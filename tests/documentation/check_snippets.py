#!/usr/bin/env python3
"""Code and output in README.md and docs/ are those of compiled files.

    check_snippets.py                       every C++ block equals the part of the file named above it
    check_snippets.py --output SOURCE PROGRAM   the block marked as output of SOURCE is what PROGRAM prints

A block is marked by the line before it: <!-- from SOURCE -->, <!-- output of SOURCE -->, or, for
code that cannot stand in a compiled file, <!-- not compiled: WHY -->.
"""

import pathlib
import re
import subprocess
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BLOCK = re.compile(r"^(?P<mark>[^\n]*)\n```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)


def blocks():
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = page.read_text()
        for match in BLOCK.finditer("\n" + text):
            line = text.count("\n", 0, match.start("text") - 1)
            yield f"{page.relative_to(ROOT)}:{line}", match


def contains(source, snippet):
    """Whether the lines of snippet stand in source one after the other, at any one indentation."""
    wanted = snippet.rstrip("\n").split("\n")
    lines = source.split("\n")
    return any(textwrap.dedent("\n".join(lines[i:i + len(wanted)])) == "\n".join(wanted)
               for i in range(len(lines)))


def complaints_of_code():
    for place, match in blocks():
        if match["language"] != "cpp" or match["mark"].startswith("<!-- not compiled: "):
            continue
        source = re.fullmatch(r"<!-- from (\S+) -->", match["mark"])
        if not source:
            yield f"{place}: a C++ block without the line that names its source"
        elif not contains((ROOT / source[1]).read_text(), match["text"]):
            yield f"{place}: differs from {source[1]}"


def complaints_of_output(source, program):
    printed = subprocess.run([program], text=True, stdout=subprocess.PIPE, check=True).stdout
    shown = [(place, match["text"]) for place, match in blocks()
             if match["mark"] == f"<!-- output of {source} -->"]
    if not shown:
        yield f"no page shows the output of {source}"
    for place, text in shown:
        if text.split() != printed.split():
            yield f"{place}: expected\n{text}found\n{printed}"


if __name__ == "__main__":
    found = list(complaints_of_output(*sys.argv[2:4]) if len(sys.argv) > 1 else complaints_of_code())
    print("\n".join(found))
    sys.exit(1 if found else 0)
