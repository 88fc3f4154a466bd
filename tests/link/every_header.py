#!/usr/bin/env python3
"""One line a public header, all of them: the unit that clang-tidy reads. Prints it."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import compiling

for header in compiling.PUBLIC_HEADERS:
    print(f"#include <{header}>")
