#!/usr/bin/env python3
"""The config a program is built for, from JSON to a C++ header.

Usage: generate_config_header.py HEADER [CONFIG.json]

Without a config the header names the small preset. Fields and layer types are those that
include/hydralm/model/config.hpp declares; those that are given are emitted, in its order; whether the values make a possible model is for the C++ compiler to say.
"""

import codecs
import json
import pathlib
import re
import sys

SOURCE = pathlib.Path(__file__).resolve().parent.parent / "include/hydralm/model/config.hpp"
KINDS = {"int": int, "double": float, "bool": bool, "LayerTypes": list}


def declared(source):
    """{field: kind} of HydraConfig in its order, and the names of the layer types, from the header."""
    members = re.search(r"^struct HydraConfig \{\n(.*?)\n\n", source, re.M | re.S)[1]
    fields = {name: KINDS[kind] for kind, name in re.findall(r"^    (\w+) (\w+)(?: =|\{)", members, re.M)}
    names = re.search(r"\blayer_type_names\{([^}]*)\}", source)[1]
    return fields, re.findall(r'"(\w+)"', names)


FIELDS, LAYER_TYPES = declared(SOURCE.read_text(encoding="utf-8"))
EXPECTED = {
    int: "an integer from 0 to 2^31 - 1",
    float: "a number",
    bool: "true or false",
    list: "a list of " + ", ".join(f'"{name}"' for name in LAYER_TYPES),
}

HEADER = """\
// Generated from {origin}. Do not edit.
#pragma once

#include <hydralm/model/config_fields.hpp>

inline constexpr hydralm::HydraConfig program_config{value};
static_assert(hydralm::ValidConfig<program_config>::value);

// The JSON file the program was built for; empty: none, it opens any, and this is the preset that it
// makes models of.
inline constexpr const char* program_config_file = {file};
"""


class ConfigError(Exception):
    def __init__(self, field, expected, found, remedy):
        super().__init__(f"field {field}: expected {expected}, found {found}; {remedy}")


def object_without_duplicates(pairs):
    fields = {}
    for name, value in pairs:
        if name in fields:
            raise ConfigError(shown(name), "each field once", "it twice", "remove one")
        fields[name] = value
    return fields


def on_one_line(text):
    return "".join(c if c.isprintable() else "?" for c in text)


def shown(text):
    """What a file says, as part of a message: on one line, and not long."""
    return on_one_line(text if len(text) <= 80 else text[:77] + "...")


def is_default(field, value):
    return (field == "head_dim" and value in (0, None) and value is not False
            or field == "layer_types" and value is None)


def has_kind(value, kind):
    if kind is int:
        return type(value) is int and 0 <= value < 2**31
    if kind is float:
        return type(value) in (int, float) and abs(value) < 1e300
    if kind is list:
        return type(value) is list and all(item in LAYER_TYPES for item in value)
    return type(value) is kind


def emitted(value, kind):
    if kind is bool:
        return "true" if value else "false"
    if kind is float:
        return repr(float(value))
    if kind is list:
        return ("hydralm::LayerTypes{"
                + ", ".join(f"hydralm::LayerType::{name}" for name in value) + "}")
    return str(value)


def initialisers(config):
    if type(config) is not dict:
        raise ConfigError("(top)", "an object", shown(json.dumps(config)), "see docs/configuration.md")
    for field in config:
        if field not in FIELDS:
            raise ConfigError(shown(field), "a field of HydraConfig", "an unknown one",
                              "known are " + ", ".join(FIELDS))
    lines = []
    for field, kind in FIELDS.items():
        if field not in config or is_default(field, config[field]):
            continue
        if not has_kind(config[field], kind):
            raise ConfigError(field, EXPECTED[kind], shown(json.dumps(config[field])),
                              "correct it or leave it out for the default")
        lines.append(f"    .{field} = {emitted(config[field], kind)},\n")
    return "{\n" + "".join(lines) + "}"


def parsed(content):
    """The value of JSON, by the rules of include/hydralm/io/json_text.hpp."""
    if content.startswith(codecs.BOM_UTF8):
        raise ValueError("a byte-order mark before it; save it as UTF-8 without one")
    if b"\0" in content:
        raise ValueError(f"a zero byte at {content.index(0)}; save it as UTF-8 without one")

    def refuse(constant):
        raise ValueError(f"{constant}, which is no JSON")
    return json.loads(content.decode("utf-8"), object_pairs_hook=object_without_duplicates,
                      parse_constant=refuse)


def header(path):
    if path is None:
        return HEADER.format(origin="the preset for a build without -Dmodel_config",
                             value=" = hydralm::presets::small", file='""')
    place = on_one_line(str(path))
    try:
        value = initialisers(parsed(path.read_bytes()))
    except OSError as error:
        raise SystemExit(f"{place}: expected a readable file, found: {error.strerror}")
    except ConfigError as error:
        raise SystemExit(f"{place}: {error}")
    except (ValueError, RecursionError) as error:
        raise SystemExit(f"{place}: expected JSON, found: {error}")
    return HEADER.format(origin=on_one_line(path.name), value=value, file=json.dumps(str(path), ensure_ascii=False))


def main(output, config=None):
    text = header(pathlib.Path(config) if config else None)
    target = pathlib.Path(output)
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
