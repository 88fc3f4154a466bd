#!/usr/bin/env python3
"""One line a public header, all of them: the unit that clang-tidy reads. Prints it."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent / "include"
for header in sorted(ROOT.rglob("*.hpp")):
    print(f"#include <{header.relative_to(ROOT).as_posix()}>")
