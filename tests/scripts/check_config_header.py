#!/usr/bin/env python3
"""The generator of the config header: what it takes for the fields, what it emits, and what it says
of a bad config."""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SCRIPTS = HERE.parent.parent / "scripts"
sys.path[:0] = [str(HERE.parent / "support"), str(SCRIPTS)]
import compiling
import generate_config_header

GOOD = {
    '{"n_heads": 4, "d_model": 64}': ".d_model = 64,\n    .n_heads = 4,\n}",
    '{"layer_types": ["deltanet", "swa"]}':
        ".layer_types = hydralm::LayerTypes{hydralm::LayerType::deltanet, hydralm::LayerType::swa},",
    '{"head_dim": null, "layer_types": null}': "program_config{\n}",
    '{"head_dim": 0, "vocab_size": 256}': "program_config{\n    .vocab_size = 256,\n}",
    '{"rms_eps": 1e-05, "swa_rope_base": 10000, "tie_embeddings": false}':
        ".swa_rope_base = 10000.0,\n    .rms_eps = 1e-05,\n    .tie_embeddings = false,",
}
BAD = {
    '{"n_head": 4}': "field n_head: expected a field of HydraConfig, found an unknown one",
    '{"n_heads": "4"}': 'field n_heads: expected an integer from 0 to 2^31 - 1, found "4"',
    '{"n_heads": true}': "field n_heads: expected an integer from 0 to 2^31 - 1, found true",
    '{"n_heads": -1}': "found -1",
    '{"n_heads": 4.5}': "found 4.5",
    '{"head_dim": false}': "field head_dim: expected an integer",
    '{"rms_eps": NaN}': "expected JSON, found: NaN, which is no JSON",
    '{"dn_use_gate": 1}': "field dn_use_gate: expected true or false, found 1",
    '{"layer_types": ["mamba"]}': 'field layer_types: expected a list of at most 256 of '
                                  '"deltanet", "swa", "retrieval", "full", found ["mamba"]',
    '{"layer_types": [["swa"]]}': "field layer_types",
    '{"d_model": 64, "d_model": 32}': "field d_model: expected each field once, found it twice",
    "[1]": "expected an object, found [1]",
    '{"a\\u001b[2J\\nb\\u009b": 1}': "field a?[2J?b?: expected a field of HydraConfig",
    '{"n_heads": "' + "x" * 1000000 + '"}': 'field n_heads: expected an integer from 0 to 2^31 - 1, '
                                            'found "' + "x" * 79 + "...;",
    "{" + ", ".join(f'"key{i}": 1' for i in range(20000)) + "}": "field key0: expected a field",
    "[" * 200000: "expected JSON, found: ",
    '{"d_model": 64': "expected JSON, found: ",
}


DECLARATIONS = """
inline constexpr std::array layer_type_names{"one",
                                             "two"};
struct LayerTypes {
    static constexpr int capacity = 3;
};
struct Other {
    int before = 1;
};
struct HydraConfig {
    int a = 0;
    double b_c = 8.0 / 3.0;  // a comment
    // int no = 1;
    LayerTypes d{};
    bool e = true;

    constexpr bool operator==(const HydraConfig&) const = default;
};
struct Another {
    int after = 1;
};
"""


def reads_declarations():
    found = generate_config_header.declared(DECLARATIONS)
    if found != ({"a": int, "b_c": float, "d": list, "e": bool}, ["one", "two"], 3) or list(found[0]) != [
            "a", "b_c", "d", "e"]:
        return f"the declarations are read as {found}"


def fields_are_documented():
    """The fields are those of docs/configuration.md, which a test holds to the table in C++."""
    page = (SCRIPTS.parent / "docs" / "configuration.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(\w+)` \|", page.split("\n## ")[0], re.M)
    if documented != list(generate_config_header.FIELDS):
        return f"{documented} are documented, {list(generate_config_header.FIELDS)} read"


def generated(text):
    with tempfile.TemporaryDirectory() as directory:
        config = pathlib.Path(directory, "config.json")
        config.write_bytes(text if isinstance(text, bytes) else text.encode())
        header = pathlib.Path(directory, "header.hpp")
        result = subprocess.run([sys.executable, SCRIPTS / "generate_config_header.py", header,
                                 config], text=True, capture_output=True)
        return header.read_text() if header.exists() else "", result.stderr


def cannot_be_left():
    """A file's name cannot end the comment it stands in."""
    with tempfile.TemporaryDirectory() as directory:
        config = pathlib.Path(directory, "a\n#error injected\n.json")
        config.write_text("{}")
        header = pathlib.Path(directory, "header.hpp")
        subprocess.run([sys.executable, SCRIPTS / "generate_config_header.py", header, config],
                       check=True)
        if "\n#error" in header.read_text():
            return header.read_text()


def emits(config, part):
    header, errors = generated(config)
    return None if part in header and not errors else f"{config} gave\n{header}{errors}"


def same_verdict(text, taken):
    """As the program's reader in tests/io/config_json_test.cpp, of the same table."""
    header, errors = generated(text.encode("latin-1"))
    as_it_should = (header and not errors) if taken else (not header and errors.count("\n") == 1)
    return None if as_it_should else f"{text!r} gave\n{header}{errors}"


def same_form(text, part):
    """A part of the message is what the program says, byte for byte."""
    header, errors = generated(text)
    return None if part in errors and not header else f"{text!r} gave\n{header}{errors}"


def refuses(config, part):
    header, errors = generated(config)
    one_line = errors.count("\n") == 1 and "config.json: " in errors
    return None if part in errors and one_line and not header else f"{config} gave\n{errors}"


def resolves():
    """A relative path means the caller's directory first, and is remembered when called elsewhere."""
    with tempfile.TemporaryDirectory() as directory:
        config = pathlib.Path(directory, "config.json").resolve()
        config.write_text(json.dumps({}))
        script = [sys.executable, str(SCRIPTS / "resolve_path.py"), config.name,
                  str(pathlib.Path(directory, "memory"))]
        caller = ("import os, subprocess, sys; os.chdir(sys.argv[1]);"
                  "sys.exit(subprocess.run(sys.argv[2:], cwd='/').returncode)")
        for place in (directory, "/"):
            result = subprocess.run([sys.executable, "-c", caller, place, *script], text=True,
                                    capture_output=True)
            if result.stdout.strip() != str(config):
                return f"called from {place}: {result.stdout}{result.stderr}"


TEXTS = json.loads((HERE.parent / "support" / "json_texts.json").read_text())
compiling.run_all(
    [reads_declarations, fields_are_documented, resolves, cannot_be_left]
    + [lambda text=text, part=part: same_verdict(text, part == "taken")
       for part in ("taken", "refused") for text in TEXTS[part]]
    + [lambda case=case: same_form(*case) for case in TEXTS["shown"]]
    + [lambda case=case: emits(*case) for case in GOOD.items()]
    + [lambda case=case: refuses(*case) for case in BAD.items()])
