#!/usr/bin/env python3
"""Where the program keeps the past of retrieval layers. Arguments: the program, the golden vectors."""

import json
import os
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from program import TEXT, initialised, json_of, refusal, run, run_checks, tensors

CONFIG = ("--config", pathlib.Path(__file__).resolve().parent / "remembering.json")
MAPPED = ("--bank", "mapped", "--bank-budget", "1MiB")
COMPRESSIVE = ("--bank", "compressive", "--bank-budget", 2**20)


def banks_in_files(directory):
    """What is kept in a file is what is kept in memory, to the bit, and the file has no name."""
    text, place = directory / "text", directory / "banks"
    text.write_text(TEXT * 8)
    place.mkdir()
    scored = ("score", "--model", initialised(directory, *CONFIG), "--text", text)
    expected = json_of(*scored)
    assert json_of(*scored, *MAPPED, "--bank-dir", place) == expected
    assert json_of(*scored, *MAPPED) == expected
    assert not list(place.iterdir())
    for form in ("bf16", "int8"):
        rounded = json_of(*scored, "--bank-format", form)
        assert json_of(*scored, *MAPPED, "--bank-format", form) == rounded
        assert rounded["log_likelihood"] != expected["log_likelihood"]
        assert abs(rounded["bits_per_byte"] - expected["bits_per_byte"]) < 0.01
    few = json_of(*scored, "--open-groups", 4)
    assert json_of(*scored, *MAPPED, "--open-groups", 4) == few


def bounded_banks(directory):
    """A stream of any length keeps within the budget."""
    text = directory / "text"
    text.write_text(TEXT)
    streamed = ("stream", "--model", initialised(directory, *CONFIG), "--text", text, "--repeat")
    sizes = {}
    for tokens in (20000, 60000):
        for name, bank in (("memory", ()), ("compressive", COMPRESSIVE), ("mapped", MAPPED)):
            sizes[name, tokens] = json_of(*streamed, "--tokens", tokens, *bank)["state_bytes"]
    assert sizes["compressive", 20000] == sizes["compressive", 60000], sizes
    assert sizes["compressive", 60000] < 2**20 + 2**16 < sizes["memory", 60000], sizes
    assert sizes["mapped", 60000] == sizes["memory", 60000] > 2 * sizes["memory", 20000], sizes


def drafts(directory):
    """Greedy text is the same with any draft and any bank that keeps all."""
    model, other = initialised(directory, *CONFIG), directory / "other.safetensors"
    run("init", "--out", other, "--seed", 9, *CONFIG)
    asked = ("generate", "--model", model, "--prompt", TEXT, "--tokens", 60, "--print-ids")
    plain, bounded = run(*asked), run(*asked, *COMPRESSIVE)
    assert len(plain.split()) == 60
    for draft in ("mtp", model, other):
        drafted = (*asked, "--draft", draft, "--draft-tokens", 3)
        assert run(*drafted) == run(*drafted, *MAPPED) == plain, draft
        assert run(*drafted, *COMPRESSIVE) == bounded, draft


def gradients(directory):
    """With modules of multi-token prediction the loss is the one the gradient is of."""
    model, ids, out = initialised(directory, *CONFIG, "--scheme", "fan_in"), directory / "ids", directory / "out"
    ids.write_text(" ".join(str(byte) for byte in TEXT[:100].encode()))
    asked = ("gradients", "--model", model, "--ids", ids, "--out", out, "--scalar", "double")
    run(*asked)
    gradient, content = tensors(out), model.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    for name in ("mtp.0.proj.weight", "blocks.0.mixer.o_proj.weight", "embed.weight"):
        values = gradient["grad." + name][1]
        i = max(range(len(values)), key=lambda n: abs(values[n]))
        place = start + header[name]["data_offsets"][0] + 4 * i
        (weight,) = struct.unpack_from("<f", content, place)
        losses = []
        for step in (2.0**-9, -2.0**-9):
            moved = struct.pack("<f", weight + step)
            model.write_bytes(content[:place] + moved + content[place + 4:])
            run(*asked)
            losses += [(tensors(out)["loss"][1][0], *struct.unpack("<f", moved))]
        (up, above), (down, below) = losses
        difference = (up - down) / (above - below)
        assert abs(difference / values[i] - 1) < 1e-3, (name, difference, values[i])


def refusals(directory):
    model, text = initialised(directory, *CONFIG), directory / "text"
    text.write_text(TEXT)
    scored = ("score", "--model", model, "--text", text)
    # Every command that feeds a model takes the options.
    for command in (scored, ("stream", "--model", model, "--text", text),
                    ("generate", "--model", model, "--prompt", "It", "--tokens", 1),
                    ("task", "mqar", "--evaluate", "--model", model)):
        line = refusal(*command, "--bank", "compressive", "--bank-budget", 1000)
        assert "budget: expected at least" in line and "found 1000" in line, line
    for options, parts in (
            (("--bank", "mapped", "--bank-budget", 1000), ["budget: expected at least 1048576"]),
            (("--bank", "mapped", "--bank-dir", directory / "none"),
             ["none", "bank: expected a directory", "create the directory"]),
            (("--bank-budget", 1000),
             ["--bank-budget: expected --bank mapped or compressive", "found --bank memory"]),
            (("--bank-dir", directory), ["--bank-dir: expected --bank mapped with it, found"]),
            ((*COMPRESSIVE, "--bank-dir", directory), ["found --bank compressive"]),
            (("--bank", "compressive", "--open-groups", 3), ["open_groups: expected 0"])):
        line = refusal(*scored, *options)
        assert all(part in line for part in parts), line
    line = refusal(*scored, *MAPPED, env={**os.environ, "TMPDIR": str(directory / "gone")})
    assert "gone" in line and "bank: expected a directory" in line, line


run_checks([banks_in_files, bounded_banks, drafts, gradients, refusals])
