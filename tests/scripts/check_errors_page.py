#!/usr/bin/env python3
"""docs/errors.md has rows of the code's messages only; and a message in any form is found and let go."""

import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support"), str(HERE.parent.parent / "scripts")]
import compiling
import errors_page

SOURCE = r'''
static_assert(D > 0,
              "hydralm: head_dim: must be "
              "positive; 64 is usual");
void direct(int n) {  // raise({.field = "in a comment"});
    raise({.file = path, .field = "x", .expected = "at most " + std::to_string(most),
           .found = n < 0 ? "a negative one" : std::to_string(n), .fix = changed});
}
[[noreturn]] void fail(std::string field, std::string expected, const char* fix) const {
    raise({.field = std::move(field), .expected = std::move(expected), .fix = fix});
}
void callers() {
    fail("a." + name, "one, two; \"three\"", cut_off);
    if (!good) fail(other, detail::text(shape) + " of bytes", "say so");
    const auto require = [](bool good, const char* field) {
        if (!good) throw Error({.field = field, .found = "none"});
    };
    require(f(1, 2), "b");
    other->require(1, "no message");
    std::fprintf(stderr, "hydralm: memory: expected %d; buy more\n", n);
    std::fprintf(stderr, "step %d\n", n);
}
static constexpr const char* changed = "it was changed: "
                                       "copy it again";
static constexpr const char* cut_off = "it was cut off";
'''
MESSAGES = [
    ("head_dim: must be positive", "64 is usual"),
    ("FILE: x: expected at most …, found a negative one / …", "it was changed: copy it again"),
    ('a.…: expected one, two; "three"', "it was cut off"),
    ("…: expected … of bytes", "say so"),
    ("b: found none", ""),
    ("memory: expected …", "buy more"),
]


def extraction():
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "source.hpp"
        path.write_text(SOURCE)
        found = errors_page.messages(path)
    if found != MESSAGES:
        return f"found {found}"


def page_is_of_the_code():
    if errors_page.main("--check") != 0:
        return "docs/errors.md is out of date"


def changes_are_seen():
    old = errors_page.PAGE.read_text()
    row = next(line for line in old.splitlines() if line.startswith("| `FILE: header: "))
    if errors_page.page(old) != old:
        return "an unchanged page changes"
    without = old.replace(row + "\n", "")
    if errors_page.page(without) != without:
        return "a message that explains itself gets a row"
    if row.split(" | ")[0] + " | ? | " not in errors_page.page(without, every=True):
        return "a message that the page lacks is not listed"
    if errors_page.page(old.replace(row, row + "\n" + row.replace("header", "footer"))) != old:
        return "a message that is no more stays"


compiling.run_all([extraction, page_is_of_the_code, changes_are_seen])
