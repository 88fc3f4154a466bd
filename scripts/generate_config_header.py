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

HEADERS = pathlib.Path(__file__).resolve().parent.parent / "include/hydralm"
KINDS = {"int": int, "double": float, "bool": bool, "LayerTypes": list}


def declared(source):
    """{field: kind} of HydraConfig in its order, the names of the layer types, and how many there may be,
    from the header."""
    members = re.search(r"^struct HydraConfig \{\n(.*?)\n\n", source, re.M | re.S)[1]
    fields = {name: KINDS[kind] for kind, name in re.findall(r"^    (\w+) (\w+)(?: =|\{)", members, re.M)}
    names = re.search(r"\blayer_type_names\{([^}]*)\}", source)[1]
    most = re.search(r"\bint capacity = (\d+);", source)[1]
    return fields, re.findall(r'"(\w+)"', names), int(most)


def unseen(source):
    """Ranges of characters that a message shows as ?, from the header."""
    table = re.search(r"\bunseen_characters\[\] = \{(.*?)\};", source, re.S)[1]
    return [range(int(first, 16), int(last, 16) + 1)
            for first, last in re.findall(r"\{0x(\w+), 0x(\w+)\}", table)]


FIELDS, LAYER_TYPES, MOST_LAYERS = declared((HEADERS / "model/config.hpp").read_text(encoding="utf-8"))
UNSEEN = unseen((HEADERS / "core/utf8.hpp").read_text(encoding="utf-8"))
SURROGATES = range(0xD800, 0xE000)  # bytes that are no UTF-8, in the name of a file
MOST_BYTES = 20_000_000
EXPECTED = {
    int: "an integer from 0 to 2^31 - 1",
    float: "a number",
    bool: "true or false",
    list: f"a list of at most {MOST_LAYERS} of " + ", ".join(f'"{name}"' for name in LAYER_TYPES),
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
            raise ConfigError(on_one_line(name), "each field once", "it twice", "remove one")
        fields[name] = value
    return fields


def on_one_line(text, longest=4096):
    """As one_line in include/hydralm/core/utf8.hpp: so many bytes and then "...", ? for what cannot be
    seen."""
    line, size = "", 0
    for character in text:
        hidden = any(ord(character) in some for some in (SURROGATES, *UNSEEN))
        character = "?" if hidden else character
        size += len(character.encode())
        if size > longest:
            return line + "..."
        line += character
    return line


def shown(value):
    """What a file holds, as part of a message, as the program shows it."""
    return on_one_line(json.dumps(value, ensure_ascii=False, separators=(",", ":")), 80)


def is_default(field, value):
    return (field == "head_dim" and value in (0, None) and value is not False
            or field == "layer_types" and value is None)


def has_kind(value, kind):
    if kind is int:
        return type(value) is int and 0 <= value < 2**31
    if kind is float:
        return type(value) in (int, float) and abs(value) < 1e300
    if kind is list:
        return (type(value) is list and len(value) <= MOST_LAYERS
                and all(item in LAYER_TYPES for item in value))
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
        raise ConfigError("(top)", "an object", shown(config), "see docs/configuration.md")
    for field in config:
        if field not in FIELDS:
            raise ConfigError(on_one_line(field), "a field of HydraConfig", "an unknown one",
                              "known are " + ", ".join(FIELDS))
    lines = []
    for field, kind in FIELDS.items():
        if field not in config or is_default(field, config[field]):
            continue
        if not has_kind(config[field], kind):
            raise ConfigError(field, EXPECTED[kind], shown(config[field]),
                              "correct it or leave it out for the default")
        lines.append(f"    .{field} = {emitted(config[field], kind)},\n")
    return "{\n" + "".join(lines) + "}"


def parsed(content):
    """The value of JSON, by the rules of include/hydralm/io/json_text.hpp."""
    if len(content) > MOST_BYTES:
        raise ValueError(f"{len(content)} bytes, more than {MOST_BYTES}")
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
