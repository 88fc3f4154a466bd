#!/usr/bin/env python3
"""Writes include/hydralm/io/tokenizer/unicode_tables.hpp, the Unicode data that tokenizers need.

    unicode_tables.py          writes the header
    unicode_tables.py --check  says whether it is as it would be written

Needs the package unicodedataplus 16.0.0 (Unicode 16 with the age of every character). The library
whose reading of tokenizer.json is the meaning of that file classes characters by Unicode 16 and
composes by Unicode 9; both are kept, for the ids depend on them. Decompositions and combining classes
never change once they are given, so those of Unicode 9 are today's, of the characters it had.
"""

import pathlib
import sys

import unicodedataplus as unicode

HEADER = (pathlib.Path(__file__).resolve().parent.parent
          / "include" / "hydralm" / "io" / "tokenizer" / "unicode_tables.hpp")
CLASSES, COMPOSITION = "16.0.0", (9, 0)
# PropList.txt; the same since Unicode 6.3, and no module has it.
WHITE_SPACE = [0x20, 0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000,
               *range(0x09, 0x0E), *range(0x2000, 0x200B)]


def had_in_composition(code):
    age = unicode.age(chr(code))
    return age != "Unassigned" and tuple(map(int, age.split("."))) <= COMPOSITION


def runs(codes):
    """Ascending code points as [gap behind the run before, length], flat."""
    numbers, end = [], 0
    start = None
    for code in [*sorted(codes), None]:
        if start is not None and code != last + 1:
            numbers += [start - end, last + 1 - start]
            end, start = last + 1, None
        if start is None:
            start = code
        last = code
    return numbers


def combining_runs(classes):
    """{code: class} as [gap, length, class], flat."""
    numbers, end = [], 0
    codes = sorted(classes)
    while codes:
        n = 1
        while n < len(codes) and codes[n] == codes[0] + n and classes[codes[n]] == classes[codes[0]]:
            n += 1
        numbers += [codes[0] - end, n, classes[codes[0]]]
        end, codes = codes[0] + n, codes[n:]
    return numbers


def steps(mapping):
    """{code: parts} as [step from the code before, parts...], flat."""
    numbers, last = [], 0
    for code, parts in sorted(mapping.items()):
        numbers += [code - last, *parts]
        last = code
    return numbers


def array(name, comment, numbers):
    lines, line = [], "   "
    for number in numbers:
        word = f" {number},"
        if len(line) + len(word) > 100:
            lines.append(line)
            line = "   "
        line += word
    lines.append(line)
    kind = "std::uint16_t" if max(numbers) < 65536 else "std::uint32_t"
    body = "\n".join(lines)
    return f"// {comment}\ninline constexpr {kind} {name}[] = {{\n{body}\n}};\n"


def header():
    if unicode.unidata_version != CLASSES:
        sys.exit(f"unicodedataplus: expected {CLASSES}, found {unicode.unidata_version}")
    everything = range(0x110000)
    categories = {kind: [c for c in everything if unicode.category(chr(c))[0] == kind]
                  for kind in "LMN"}
    old = [c for c in everything if had_in_composition(c)]
    combining = {c: unicode.combining(chr(c)) for c in old if unicode.combining(chr(c))}
    composites, singles = {}, {}
    for c in old:
        words = unicode.decomposition(chr(c)).split()
        if not words or words[0].startswith("<"):
            continue
        parts = [int(word, 16) for word in words]
        composed = unicode.normalize("NFC", chr(c)) == chr(c)
        (composites if composed else singles)[c] = parts if composed else [*parts, 0][:2]
    version = ".".join(map(str, COMPOSITION))
    return "\n".join([
        "// Unicode data, written by scripts/unicode_tables.py: change the script, not this file.",
        "//",
        f"// Classes of characters: Unicode {CLASSES}. Composition: Unicode {version}. Derived from the",
        "// Unicode Character Database, copyright Unicode, Inc. (unicode.org/license.txt).",
        "#pragma once",
        "",
        "#include <cstdint>",
        "",
        '#include "hydralm/core/abi.hpp"',
        "",
        "namespace HYDRALM_NAMESPACE::detail {",
        "",
        f'inline constexpr const char* unicode_of_classes = "{CLASSES}";',
        f'inline constexpr const char* unicode_of_composition = "{version}";',
        "",
        "// clang-format off",
        "",
        array("letter_runs", "General category L: gap behind the run before, length.",
              runs(categories["L"])),
        array("mark_runs", "General category M, alike.", runs(categories["M"])),
        array("number_runs", "General category N, alike.", runs(categories["N"])),
        array("space_runs", "White_Space, alike.", runs(WHITE_SPACE)),
        array("combining_runs", "Combining classes above 0: gap, length, class.",
              combining_runs(combining)),
        array("composites", "Primary composites: step from the one before, first, second part.",
              steps(composites)),
        array("never_composed",
              "Characters that decompose and are not composed again, alike; 0: no second part.",
              steps(singles)),
        "// clang-format on",
        "",
        "}  // namespace HYDRALM_NAMESPACE::detail",
        ""])


def main():
    text = header()
    if sys.argv[1:] == ["--check"]:
        if HEADER.read_text() != text:
            sys.exit(f"{HEADER.name}: not as this script writes it")
    else:
        HEADER.write_text(text)


if __name__ == "__main__":
    main()
