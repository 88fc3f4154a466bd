#!/usr/bin/env python3
"""docs/errors.md: the messages of the library and the program that need more than they say.

    errors_page.py          brings the page's rows up to date with the code: messages, mends, places
    errors_page.py --check  says which rows are of no message of the code any more
    errors_page.py --all    prints every message of the code, with ? where the page has no cause

A message is a raise({.field = ..., .expected = ...}) or an Error of such parts, where it stands or
through the function that makes it of its arguments; a static_assert; or a line the program prints.
What is known only at run time is shown as an ellipsis. A row is written in the page by hand, where a
cause helps, and kept while its message is in the code.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "errors.md"
SOURCES = [*sorted((ROOT / "include" / "hydralm").rglob("*.hpp")),
           *sorted((ROOT / "examples" / "cli").glob("*.[ch]pp"))]
ANY = "…"

LITERAL = r'"(?:[^"\\\n]|\\.)*"'
TOKEN = re.compile(rf"//[^\n]*|{LITERAL}|'(?:[^'\\\n]|\\.)'|::|.", re.S)
ERROR = re.compile(r"\b(?:raise|Error)\(\s*(?=\{)")
MAKER = re.compile(r"(?:\bvoid (\w+)|\bauto (\w+) = \[[^\]]*\])\s*(?=\()")
CONSTANT = re.compile(rf"static constexpr const char\* (\w+) =\s*((?:{LITERAL}\s*)+);")
ASSERTION = re.compile(rf'\bstatic_assert\([^;]*?((?:{LITERAL}\s*)+)\);')
PRINTED = re.compile(rf'(?:fprintf\(\s*stderr,|say_error\()\s*((?:{LITERAL}\s*)+)')
ROW = re.compile(r"^\| (`.*`) \| (.*) \| (.*) \|$", re.M)


def tokens(text):
    return [match[0] for match in TOKEN.finditer(text)]


def is_text(token):
    return token.startswith('"')


def joined(literals):
    return "".join(part[1:-1] for part in re.findall(LITERAL, literals)).replace('\\"', '"').replace(
        "\\n", "")


def bracketed(text, start):
    """The inside of the brackets that open at start, and where they end."""
    depth, place = 0, start
    for token in tokens(text[start:]):
        depth += (token in "([{") - (token in ")]}")
        place += len(token)
        if depth == 0:
            return text[start + 1:place - 1], place
    raise ValueError(f"no end of {text[start:start + 60]}")


def split(text, separator):
    """text cut at separators outside brackets and literals."""
    depth, parts = 0, [""]
    for token in tokens(text):
        depth += (token in "([{") - (token in ")]}")
        if token == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += token
    return [part.strip() for part in parts if part.strip()]


def substituted(expression, values):
    """expression with its identifiers replaced, outside literals."""
    pieces = re.split(rf"({LITERAL})", expression)
    return "".join(piece if is_text(piece) else
                   re.sub(r"\b\w+\b", lambda word: values.get(word[0], word[0]), piece)
                   for piece in pieces)


def shown(expression, constants):
    """The text an expression makes, with ANY for what only a run knows."""
    expression = expression.strip()
    while True:
        wrapped = re.match(r"(?:std::string|std::move)?(?=\()", expression)
        if not wrapped or bracketed(expression, wrapped.end())[1] != len(expression):
            break
        expression = bracketed(expression, wrapped.end())[0].strip()
    if len(choice := split(expression, "?")) == 2:
        ends = [shown(end, constants) for end in split(choice[1], ":")]
        first, *others = [end for end in ends if end]
        return " / ".join(dict.fromkeys([first, *map(str.strip, others)]))
    if len(terms := split(expression, "+")) > 1:
        return re.sub(f"{ANY}+", ANY, "".join(shown(term, constants) for term in terms))
    if re.fullmatch(rf"(?:{LITERAL}\s*)+", expression):
        return joined(expression)
    return constants.get(expression, ANY)


def made(text, place, fields):
    """(place, fields) of an Error: as they stand, or for each call of the function around it whose
    parameters they are."""
    for maker in reversed([m for m in MAKER.finditer(text) if m.end() < place]):
        parameters, end = bracketed(text, maker.end())
        body = text.find("{", end)
        if body < 0 or not body < place < bracketed(text, body)[1]:
            continue
        names = [re.findall(r"\w+", parameter.split("=")[0])[-1] for parameter in split(parameters, ",")]
        used = {word for value in fields.values() for word in re.findall(r"\w+", value)}
        if not any(value.removeprefix("std::move(").rstrip(")") in names for value in fields.values()):
            continue
        name = maker[1] or maker[2]
        for call in re.finditer(rf"(?<!void )(?<!auto )(?<![.>])\b{name}(?=\()", text):
            values = dict(zip(names, split(bracketed(text, call.end())[0], ",")))
            yield call.start(), {field: substituted(value, values)
                                 for field, value in fields.items()}
        return
    yield place, fields


def messages(path):
    """(message, mend) of a source, in its order."""
    text = "".join("" if token.startswith("//") else token for token in tokens(path.read_text()))
    constants = {name: joined(literals) for name, literals in CONSTANT.findall(text)}
    found = []
    for error in ERROR.finditer(text):
        inside = bracketed(text, error.end())[0]
        fields = dict(re.match(r"\.(\w+)\s*=\s*(.*)", part, re.S).groups()
                      for part in split(inside, ","))
        for place, parts in made(text, error.start(), fields):
            parts = {field: shown(value, constants) for field, value in parts.items()}
            words = ["FILE"] if parts.get("file") else []
            words += [parts["field"]] if parts.get("field") else []
            expected, what = parts.get("expected"), parts.get("found")
            words += [", ".join([f"expected {expected}"] * bool(expected) +
                                [f"found {what}"] * bool(what))] if expected or what else []
            found.append((place, ": ".join(words), parts.get("fix", "")))
    for pattern in (ASSERTION, PRINTED):
        for match in pattern.finditer(text):
            line = re.sub(r"%\w+", ANY, joined(match[1]))
            if line.startswith(("hydralm: ", "warning: ")):
                message, _, mend = line.removeprefix("hydralm: ").partition("; ")
                found.append((match.start(), message, mend))
    return [(message, mend) for _, message, mend in sorted(found)]


def page(old, every=False):
    """The page, with the causes that the old one gives; every: with a row for every message."""
    head = old[:old.find("\n## ") + 1] if "\n## " in old else old
    causes = {(message, mend): cause for message, cause, mend in ROW.findall(old)}
    known, lines = set(), [head.rstrip("\n")]
    for path in SOURCES:
        rows = []
        for key in ((f"`{message}`", mend) for message, mend in messages(path)):
            if key not in known:
                known.add(key)
                if every or causes.get(key, "?") != "?":
                    rows.append(f"| {key[0]} | {causes.get(key, '?')} | {key[1]} |")
        if rows:
            name = path.relative_to(ROOT).as_posix().removeprefix("include/hydralm/")
            lines += ["", f"## {name}", "", "| message | cause | mend |", "|---|---|---|", *rows]
    return "\n".join(lines) + "\n"


def main(mode):
    old = PAGE.read_text()
    new = page(old)
    if mode == "--all":
        print(page(old, every=True), end="")
    elif mode != "--check":
        PAGE.write_text(new)
    elif new != old:
        for row in sorted(set(new.splitlines()) ^ set(old.splitlines())):
            print(f"docs/errors.md: {'should have' if row in new.splitlines() else 'has still'}: {row}")
        print("docs/errors.md: run scripts/errors_page.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2] or [""]))
