#!/usr/bin/env python3
"""The committed model answers questions about a text. Arguments: the program, the golden vectors."""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from program import initialised, json_of, refusal, run, run_checks

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MODEL = ROOT / "examples" / "qa" / "model.safetensors"
TEXT = ROOT / "LICENSE"
FACTS = {"France": "Paris", "the captain": "Ahab", "größe": "3 = 3", "[x]": "{}", "Japan": "Tokyo",
         "Kenya": "Nairobi", "Peru": "Lima", "Norway": "Oslo"}


def asked(text, *options, facts=FACTS):
    words = [word for key, value in facts.items() for word in ("--fact", f"{key}={value}")]
    words += [word for key in facts for word in ("--question", key)]
    return ("ask", "--model", MODEL, "--text", text, *words, *options)


def right(result, facts=FACTS):
    """Every answer is right, and came from the chunk that has it."""
    for found, (key, value) in zip(result["answers"], facts.items(), strict=True):
        assert found["question"] == key and found["right"] == (found["answer"] == value), found
        assert found["seconds"] > 0, found
    wrong = [found for found in result["answers"] if not found["right"]]
    assert not wrong, wrong


def small_text(directory):
    """A kilobyte, facts in several places, names as they are."""
    assert MODEL.stat().st_size <= 1 << 20
    size = TEXT.stat().st_size
    for seed in range(4):
        result = json_of(*asked(TEXT, "--seed", seed))
        assert result["tokens"] == size + 4 * len(FACTS), result["tokens"]
        right(result)
        places = [found["planted"]["byte"] for found in result["answers"]]
        assert len(set(places)) == len(places) and 0 <= min(places) and max(places) < size, places
    again = json_of(*asked(TEXT, "--seed", 3))
    assert [found["planted"] for found in again["answers"]] == [
        found["planted"] for found in result["answers"]]
    lines = run(*asked(TEXT)).decode().splitlines()
    assert len(lines) == len(FACTS) + 1 and lines[0].startswith("France: Paris (right, "), lines


def long_text(directory):
    """A hundred times as much: each answer is read where its fact lies, in every bank."""
    text = directory / "text"
    text.write_bytes(TEXT.read_bytes() * 100)
    banks = ((), ("--open-groups", 16),
             ("--bank", "mapped", "--bank-format", "int8", "--open-groups", 16, "--bank-dir", directory))
    for bank in banks:
        result = json_of(*asked(text, "--seed", 5, *bank))
        right(result)
        for found in result["answers"]:
            chunk = found["planted"]["chunk"]
            read = {entry["chunk"]: entry for entry in found["chunks"]}
            assert chunk in read, (bank, found)
            begin, end = read[chunk]["bytes"]
            assert begin - 32 <= found["planted"]["byte"] <= end, (bank, found)
            weights = [entry["weight"] for entry in found["chunks"]]
            assert weights == sorted(weights, reverse=True) and 0 < weights[0] <= 1, weights


def refusals(directory):
    assert "KEY=VALUE" in refusal(*asked(TEXT, "--fact", "France"))
    assert "every key once" in refusal(*asked(TEXT, "--fact", "France=Lyon"))
    assert "the key of a --fact" in refusal(*asked(TEXT, "--question", "Spain"))
    many = {f"key {i}": f"value {i}" for i in range(127)}
    assert "at most 252" in refusal(*asked(TEXT, facts=many))
    short = directory / "short"
    short.write_text("abc")
    assert "a byte for each fact" in refusal(*asked(short))
    bytes_only = initialised(directory)
    words = list(asked(TEXT))
    words[words.index(MODEL)] = bytes_only
    assert "at least 512" in refusal(*words)
    assert "a pipe" in refusal(*asked("/dev/stdin"), input="some text, but of what length?")


if __name__ == "__main__":
    run_checks([small_text, long_text, refusals])
