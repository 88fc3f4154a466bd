#!/usr/bin/env python3
"""The rules of the house, checked on every file. Prints what breaks them, then the counts.

Argument: the root of the tree, default the one this script is in.
"""

import pathlib
import re
import sys

RANKS = {
    "core": 0, "simd": 1, "weights": 2, "kernels": 3, "state": 4, "layers": 5, "model": 6, "io": 7,
    "memory": 7, "families": 8, "inference": 9, "training": 10, "baselines": 11, "evaluation": 12,
}
LEAN = ("core", "simd", "weights", "kernels", "state", "layers", "model")
HEAVY = ("iostream", "filesystem", "regex", "nlohmann/")
LONGEST = 600
MACROS = re.compile(r"HYDRALM_(VERSION|ABI|NAMESPACE)")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
DEFINE = re.compile(r"^\s*#\s*define\s+(\w+)", re.M)
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
NOT_CODE = re.compile(COMMENT.pattern + r'|"(?:[^"\\\n]|\\.)*"', re.S)
FIRST_COMMENT = re.compile(r'\A(?:#!.*\n)?\s*((?:(?://|#).*\n)+|/\*.*?\*/|""".*?""")', re.S)
MACHINE_PATH = re.compile(r"(?<![\w.})*-])/(?:root|work|home)(?=[/\s\"'`),;:]|$)", re.M)
LINK = re.compile(r"\]\(([^()\s]+)\)")
SNAKE_CASE = re.compile(r"[a-z0-9_]+\.(hpp|cpp|py|sh)")


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def files_under(root):
    """What is or could be tracked: everything but builds, downloads and git's own."""
    for path in sorted(root.iterdir()):
        if path.is_dir():
            downloaded = root.name == "subprojects" and path.name != "packagefiles"
            if not downloaded and not re.match(r"\.git$|build|__pycache__", path.name):
                yield from files_under(path)
        elif not path.is_symlink() and path.name != ".git":  # a file in a linked work tree
            yield path


class Tree:
    def __init__(self, root):
        self.root = root
        self.library = root / "include" / "hydralm"
        self.texts = {}
        for path in files_under(root):
            content = path.read_bytes()
            if b"\0" not in content[:65536]:
                self.texts[path] = content.decode("utf-8", "replace")
        self.headers = {path: text for path, text in self.texts.items()
                        if path.is_relative_to(self.library) and path.suffix == ".hpp"}

    def floor(self, header):
        parts = header.relative_to(self.library).parts
        return parts[0] if len(parts) > 1 else None

    def includes(self, header):
        """(line, name as written, library header it means or None)"""
        for match in INCLUDE.finditer(self.headers[header]):
            quote, name = match.groups()
            base = header.parent if quote == '"' else self.root / "include"
            target = pathlib.Path(*(base / name).parts)
            if quote == '"' and not target.exists():
                target = self.root / "include" / name
            target = target.resolve()
            inside = target if target.is_relative_to(self.library) else None
            yield line_of(self.headers[header], match.start()), name, inside


def floors_point_down(tree):
    """a file includes only from its own floor or from floors below"""
    for header in tree.headers:
        floor = tree.floor(header)
        if floor is None:
            continue
        if floor not in RANKS:
            yield header, 1, f"the floor {floor}/ is not in the house"
            continue
        for line, name, target in tree.includes(header):
            other = tree.floor(target) if target else floor
            if other != floor and RANKS.get(other, 99) >= RANKS[floor]:
                yield header, line, f"{floor}/ includes {name}"


def only_simd_names_xsimd(tree):
    """only simd/ names xsimd"""
    for header, text in tree.headers.items():
        code = COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)
        if tree.floor(header) != "simd" and (match := re.search(r"\bxsimd\b", code)):
            yield header, line_of(code, match.start()), "names xsimd"


def lean_floors_stay_lean(tree):
    """the floors up to model are free of iostream, filesystem, regex and JSON"""
    for header in tree.headers:
        for line, name, _ in tree.includes(header):
            if tree.floor(header) in LEAN and name.startswith(HEAVY):
                yield header, line, f"includes <{name}>"


def the_model_needs_no_json(tree):
    """hydralm.hpp reaches no header that needs nlohmann-json"""
    todo, seen = [tree.library / "hydralm.hpp"], set()
    while todo:
        header = todo.pop()
        if header in seen or header not in tree.headers:
            continue
        seen.add(header)
        for line, name, target in tree.includes(header):
            if name.startswith("nlohmann/"):
                yield header, line, f"includes <{name}> and is reached from hydralm.hpp"
            todo += [target] if target else []


def headers_are_guarded(tree):
    """every header has #pragma once"""
    for header, text in tree.headers.items():
        if not re.search(r"^#pragma once$", text, re.M):
            yield header, 1, "has no #pragma once"


def macros_are_version_and_abi(tree):
    """no macros but HYDRALM_VERSION*, HYDRALM_ABI* and HYDRALM_NAMESPACE"""
    for header, text in tree.headers.items():
        for match in DEFINE.finditer(text):
            if not MACROS.match(match[1]):
                yield header, line_of(text, match.start()), f"defines {match[1]}"


def exceptions_have_one_place(tree):
    """only core/error.hpp throws and catches: raise and attempt do so without exceptions too"""
    for header, text in tree.headers.items():
        code = NOT_CODE.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)
        match = re.search(r"\b(throw|try|catch)\b", code)
        if match and header != tree.library / "core" / "error.hpp":
            yield header, line_of(code, match.start()), f"says {match[1]}"


def examples_use_what_is_public(tree):
    """examples/ names nothing in a namespace detail, ours or another library's"""
    for path, text in tree.texts.items():
        if path.is_relative_to(tree.root / "examples") and path.suffix in (".hpp", ".cpp"):
            code = NOT_CODE.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)
            if match := re.search(r"\bdetail\s*::|::\s*detail\b", code):
                yield path, line_of(code, match.start()), "names detail"


def long_files_say_why(tree):
    """a file over 600 lines explains its length in its first comment"""
    for path, text in tree.texts.items():
        if path.suffix in (".hpp", ".cpp", ".py", ".sh", "") and text.count("\n") > LONGEST:
            comment = FIRST_COMMENT.match(text)
            if not comment or not re.search(r"\b(long|length|lines)\b", comment[1]):
                yield path, 1, f"has {text.count(chr(10))} lines and does not say why"


def no_machine_paths(tree):
    """no path of one machine's root, work or home directory"""
    for path, text in tree.texts.items():
        if match := MACHINE_PATH.search(text):
            yield path, line_of(text, match.start()), f"names {match[0]}"


def names_are_snake_case(tree):
    """source files are snake_case, and none is called utils"""
    for path in tree.texts:
        if path.suffix in (".hpp", ".cpp", ".py", ".sh"):
            if not SNAKE_CASE.fullmatch(path.name):
                yield path, 1, "is not snake_case"
            if re.search(r"(^|_)utils?\b", path.stem) or "utils" in path.parent.parts:
                yield path, 1, "says nothing of what it holds"


def versions_agree(tree):
    """meson.build and the version macros agree"""
    abi = tree.library / "core" / "abi.hpp"
    macros = re.findall(r"#define HYDRALM_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)",
                        tree.headers.get(abi, ""))
    meson = re.search(r"version: '([^']*)'", tree.texts.get(tree.root / "meson.build", ""))
    if meson and ".".join(macros) != meson[1]:
        yield abi, 1, f"says {'.'.join(macros)} where meson.build says {meson[1]}"


def links_lead_somewhere(tree):
    """a link of a page leads to a file that is there"""
    for path, text in tree.texts.items():
        if path.suffix != ".md":
            continue
        for match in LINK.finditer(text):
            target = match[1].partition("#")[0]
            if target and ":" not in target and not (path.parent / target).exists():
                yield path, line_of(text, match.start()), f"links to {target}"


RULES = (
    floors_point_down, only_simd_names_xsimd, lean_floors_stay_lean, the_model_needs_no_json,
    headers_are_guarded, macros_are_version_and_abi, exceptions_have_one_place,
    examples_use_what_is_public, long_files_say_why, no_machine_paths, names_are_snake_case,
    versions_agree, links_lead_somewhere,
)


def main(root):
    tree = Tree(root.resolve())
    broken = 0
    for rule in RULES:
        offences = list(rule(tree))
        broken += bool(offences)
        for path, line, what in offences:
            print(f"{path.relative_to(tree.root)}:{line}: {what} (rule: {rule.__doc__})")
    print(f"{len(RULES) - broken} passed, {broken} failed")
    return 1 if broken else 0


if __name__ == "__main__":
    default = pathlib.Path(__file__).resolve().parent.parent
    sys.exit(main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default))
