#!/usr/bin/env python3
"""Each house rule names an offender, and passes a tree without one."""

import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SCRIPT = HERE.parent.parent / "scripts" / "house_rules.py"
sys.path.insert(0, str(HERE.parent / "support"))
import compiling

ABI = "#pragma once\n" + "".join(f"#define HYDRALM_VERSION_{part} {number}\n" for part, number
                                 in (("MAJOR", 1), ("MINOR", 2), ("PATCH", 3)))
SOUND = {
    "meson.build": "project('x', version: '1.2.3')\n",
    "include/hydralm/core/abi.hpp": ABI,
    "include/hydralm/simd/batch.hpp": "#pragma once\n#include <xsimd/xsimd.hpp>\n"
                                      "#include <hydralm/core/abi.hpp>\n",
    "include/hydralm/core/error.hpp": "#pragma once\ninline void f() { throw 1; }\n",
    "include/hydralm/io/json.hpp": "#pragma once\n#include <nlohmann/json.hpp>\n"
                                   'auto text = "try again";  // or catch it\n',
    "include/hydralm/layers/linear.hpp": "#pragma once\n// as xsimd does\n"
                                         '#include "../simd/batch.hpp"\n',
    "include/hydralm/hydralm.hpp": "#pragma once\n#include <hydralm/layers/linear.hpp>\n",
    "examples/one.cpp": "// not hydralm::detail\nauto detail = error.detail();\n",
}
CORE = "include/hydralm/core/thing.hpp"
OFFENCES = {
    "an upward include": {CORE: "#pragma once\n#include <hydralm/simd/batch.hpp>\n"},
    "an upward include by a relative path": {CORE: '#pragma once\n#include "../simd/batch.hpp"\n'},
    "an include between io and memory": {
        "include/hydralm/memory/bank.hpp": "#pragma once\n#include <hydralm/io/json.hpp>\n"},
    "a floor nobody knows": {"include/hydralm/attic/thing.hpp": "#pragma once\n"},
    "xsimd outside simd": {CORE: "#pragma once\nusing f = xsimd::batch<float>;\n"},
    "iostream in core": {CORE: "#pragma once\n#include <iostream>\n"},
    "JSON behind hydralm.hpp": {
        "include/hydralm/hydralm.hpp": "#pragma once\n#include <hydralm/io/json.hpp>\n"},
    "no guard": {CORE: "int f();\n"},
    "a macro": {CORE: "#pragma once\n#define HYDRALM_RESTRICT __restrict\n"},
    "a throw": {CORE: "#pragma once\ninline void f() { throw 1; }\n"},
    "what is private in an example": {
        "examples/cli/main.cpp": "int main() { return hydralm::detail::f(); }\n"},
    "another library's in an example": {
        "examples/own.hpp": "#pragma once\nusing namespace CLI::detail;\n"},
    "an unexplained length": {CORE: "// A thing.\n#pragma once\n" + "\n" * 600},
    "a path of one machine": {"README.md": "see /" "home/me/hydralm\n"},
    "a name in PascalCase": {"tests/Thing.cpp": "\n"},
    "utils": {"include/hydralm/core/string_utils.hpp": "#pragma once\n"},
    "a dead link": {"docs/page.md": "see [the other](other.md#part)\n"},
    "two versions": {"meson.build": "project('x', version: '1.2.4')\n"},
}
EXPLAINED = {CORE: "// One table of many lines.\n#pragma once\n" + "\n" * 600}
LINKED = {"docs/page.md": "[up](../meson.build), [out](https://example.org), [here](#part)\n"}


def outcome(files):
    with tempfile.TemporaryDirectory() as directory:
        for name, text in files.items():
            path = pathlib.Path(directory) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        result = subprocess.run([sys.executable, SCRIPT, directory], text=True,
                                stdout=subprocess.PIPE)
        return result.returncode, result.stdout


def passes(files):
    status, text = outcome({**SOUND, **files})
    return None if status == 0 else f"a sound tree is refused:\n{text}"


def refused(name, files):
    status, text = outcome({**SOUND, **files})
    good = status == 1 and text.endswith(" passed, 1 failed\n")
    return None if good else f"{name} is not refused by one rule:\n{text}"


compiling.run_all(
    [lambda: passes({}), lambda: passes(EXPLAINED), lambda: passes(LINKED)]
    + [lambda item=item: refused(*item) for item in OFFENCES.items()])
