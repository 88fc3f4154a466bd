#!/usr/bin/env python3
"""The program against the checkpoint of an independent implementation: logits in every form, state,
greedy text, likelihood, gradients. Arguments: the program, for any config or for hybrid_4l's, and the golden vectors."""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from program import (BOUNDS, GOLDEN, PROGRAM, assert_near, json_of, refusal, run, run_checks,
                     tensors)

MODEL = GOLDEN / "model" / "hybrid_4l"
CHECKPOINT = ("--model", MODEL / "model.safetensors")
EXPECTED = tensors(MODEL / "expected.safetensors")
PROMPT, GREEDY = (list(EXPECTED[name][1]) for name in ("input_ids", "greedy_ids"))
STATE = "state_after_decode."
FORMS = [["prefill"], ["step"], ["chunked"], *(["chunked", "--chunk", n] for n in (1, 7, 16)),
         ["step", "--chunk", 7]]  # of which only one form takes notice


def ids_file(directory, ids):
    path = directory / "ids"
    path.write_text(" ".join(map(str, ids)))
    return path


def logits(directory):
    """The prompt and the greedy ids behind it: the logits of every position, and the state."""
    ids, out = ids_file(directory, PROMPT + GREEDY), directory / "out"
    (N, V), prompt_logits = EXPECTED["logits"]
    states = {"state." + name.removeprefix(STATE): tensor for name, tensor in EXPECTED.items()
              if name.startswith(STATE)}
    assert len(states) == 8
    for scalar, bound in BOUNDS.items():
        for form in FORMS:
            run("logits", *CHECKPOINT, "--ids", ids, "--out", out, "--scalar", scalar,
                "--form", *form)
            found = tensors(out)
            shape, values = found.pop("logits")
            assert shape == [N + len(GREEDY), V], shape
            assert_near(([N, V], values[:N * V]), ([N, V], prompt_logits), bound)
            assert_near(([V], values[-V:]), EXPECTED["logits_after_decode"], bound)
            assert found.keys() == states.keys(), found.keys()
            for name, expected in states.items():
                assert_near(found[name], expected, bound)


def greedy(directory):
    ids = ids_file(directory, PROMPT)
    for scalar in BOUNDS:
        text = run("generate", *CHECKPOINT, "--ids", ids, "--tokens", len(GREEDY), "--print-ids",
                   "--scalar", scalar).decode()
        assert text == " ".join(map(str, GREEDY)) + "\n", text


def loss(directory):
    """The likelihood of a text, and the gradient of its mean loss."""
    ids, out = ids_file(directory, PROMPT), directory / "out"
    gradient = {name: tensor for name, tensor in EXPECTED.items()
                if name == "loss" or name.startswith("grad.")}
    for scalar, bound in BOUNDS.items():
        score = json_of("score", *CHECKPOINT, "--ids", ids, "--scalar", scalar)
        mean = -score["log_likelihood"] / (len(PROMPT) - 1)
        assert score["tokens"] == len(PROMPT)
        assert_near(([1], [mean]), EXPECTED["loss"], bound)
        run("gradients", *CHECKPOINT, "--ids", ids, "--out", out, "--scalar", scalar)
        found = tensors(out)
        assert found.keys() == gradient.keys(), found.keys() ^ gradient.keys()
        for name, expected in gradient.items():
            assert_near(found[name], expected, 1e-3 if scalar == "float" else bound)


def bf16(directory):
    """Matrices kept in bf16: near the numbers of float, and not the same; not for training."""
    ids, out = ids_file(directory, PROMPT), directory / "out"
    found = {}
    for weights in "float", "bf16":
        run("logits", *CHECKPOINT, "--ids", ids, "--out", out, "--weights", weights)
        found[weights] = tensors(out)["logits"]
    assert_near(found["float"], EXPECTED["logits"], BOUNDS["float"])
    assert_near(found["bf16"], EXPECTED["logits"], 0.1)
    assert found["bf16"] != found["float"]
    line = refusal("score", *CHECKPOINT, "--ids", ids, "--weights", "bf16", "--scalar", "double")
    assert "--weights: expected float with --scalar double, found bf16" in line, line

    # Converted: rounded once, kept so by default, and float again for what needs it.
    small, again = directory / "bf16.safetensors", directory / "again.safetensors"
    said = json_of("convert", *CHECKPOINT, "--format", "bf16", "--out", small)
    assert said["bytes"] == small.stat().st_size < CHECKPOINT[1].stat().st_size
    assert 16 < said["bits_per_weight"] < 20 and 0 < said["largest_error"] < 0.01, said
    for tensor in said["tensors"]:
        assert tensor["rms_error"] <= tensor["largest_error"] <= said["largest_error"], tensor
        assert (tensor["format"] == "f32") == (tensor["largest_error"] == 0), tensor
    run("logits", "--model", small, "--ids", ids, "--out", out)
    assert tensors(out)["logits"] == found["bf16"]
    run("gradients", "--model", small, "--ids", ids, "--out", out)
    said = json_of("convert", "--model", small, "--format", "bf16", "--out", again)
    assert said["largest_error"] == 0 and again.read_bytes() == small.read_bytes()
    said = json_of("convert", "--model", small, "--format", "f32", "--out", again)
    assert said["bits_per_weight"] == 32 and said["largest_error"] == 0

    facts = {weights: json_of("info", *CHECKPOINT, "--weights", weights, "--json")
             for weights in found}
    assert facts["bf16"]["weight_bytes"] < facts["float"]["weight_bytes"]


def few_bits(directory):
    """Matrices in blocks of 8 and 4 bits: near the numbers of float, and kept bit for bit."""
    ids, out = ids_file(directory, PROMPT), directory / "out"
    small, again = directory / "small.safetensors", directory / "again.safetensors"
    if PROGRAM.name == "hydralm_golden":  # built for one config, it has fewer formats
        assert "--weights: expected float or bf16" in refusal(
            "logits", *CHECKPOINT, "--ids", ids, "--out", out, "--weights", "q8")
        return
    for weights, bound, bits in ("q8", 0.1, 8.5), ("mixed", 0.7, 5), ("q4", 0.9, 4.5):
        run("logits", *CHECKPOINT, "--ids", ids, "--out", out, "--weights", weights)
        found = tensors(out)["logits"]
        assert_near(found, EXPECTED["logits"], bound)
        said = json_of("convert", *CHECKPOINT, "--format", weights, "--out", small)
        assert bits < said["bits_per_weight"] < bits + 8, said
        assert {tensor["format"] for tensor in said["tensors"]} == {
            "f32", *(("q8", "q4") if weights == "mixed" else (weights,))}, said
        run("logits", "--model", small, "--ids", ids, "--out", out)
        assert tensors(out)["logits"] == found, weights
        said = json_of("convert", "--model", small, "--format", weights, "--out", again)
        assert said["largest_error"] == 0 and again.read_bytes() == small.read_bytes(), weights
        run("gradients", "--model", small, "--ids", ids, "--out", out)
        facts = json_of("info", "--model", small, "--json")
        assert weights in facts["kernels"]["matmul"] or weights == "mixed", facts["kernels"]


def info(_):
    """Told of the checkpoint, or of its config alone: its layers and the names of its weights."""
    facts = json_of("info", *CHECKPOINT, "--json")
    assert facts.pop("tokenizer")["type"] == "bytes"  # which a config says nothing of
    assert facts == json_of("info", "--config", MODEL / "config.json", "--json")
    config = json.loads((MODEL / "config.json").read_text())
    assert facts["schedule"] == config["layer_types"]
    assert {name: facts["config"][name] for name in config} == config
    weights = {name: shape for name, (shape, _) in tensors(CHECKPOINT[1]).items()}
    assert {p["name"]: p["shape"] for p in facts["parameters"]} == weights
    assert facts["parameter_count"] == sum(len(values) for _, values in
                                           tensors(CHECKPOINT[1]).values())


run_checks([logits, greedy, loss, bf16, few_bits, info])
