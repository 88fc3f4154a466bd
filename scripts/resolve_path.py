#!/usr/bin/env python3
"""Absolute path of a file the user named relative to where meson was called.

Usage: resolve_path.py PATH MEMORY

Meson runs its commands in the source directory, and runs again from the build directory when it
regenerates. So the directory is that of the calling process, and what was found is remembered in
the file MEMORY for the time when meson is called from elsewhere.
"""

import os
import pathlib
import sys


def candidates(path, memory):
    try:
        yield pathlib.Path(os.readlink(f"/proc/{os.getppid()}/cwd")) / path
    except OSError:
        yield pathlib.Path(os.environ.get("PWD", ".")) / path
    if memory.exists():
        remembered_path, remembered_file = memory.read_text().splitlines()
        if remembered_path == path:
            yield pathlib.Path(remembered_file)


def main(path, memory):
    tried = []
    for candidate in candidates(path, memory):
        if candidate.is_file():
            memory.write_text(f"{path}\n{candidate.resolve()}\n")
            print(candidate.resolve())
            return 0
        tried.append(str(candidate))
    print(f"model_config: expected a JSON file, found none at {' nor at '.join(tried)}; "
          "give a path relative to where meson is called, or an absolute one", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], pathlib.Path(sys.argv[2])))
