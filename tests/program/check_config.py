#!/usr/bin/env python3
"""One program, models of any config. Arguments: the program, the golden vectors."""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from program import BOUNDS, TEXT, assert_near, json_of, refusal, run, run_checks, tensors

CONFIGS = (
    {"vocab_size": 256, "d_model": 64, "n_layers": 3, "n_heads": 2, "swa_window": 16, "swa_every": 3},
    {"vocab_size": 256, "d_model": 32, "n_layers": 2, "n_heads": 2, "retrieval_chunk_size": 16,
     "layer_types": ["retrieval", "full"], "n_kv_heads": 1, "tie_embeddings": False},
    {"vocab_size": 256, "d_model": 64, "n_layers": 1, "n_heads": 1, "mtp_depth": 2,
     "dn_negative_eigenvalues": True, "dn_use_gate": False},
    {"vocab_size": 256, "d_model": 40, "n_layers": 4, "n_heads": 2, "retrieval_chunk_size": 24,
     "layer_types": ["deltanet", "swa", "retrieval", "full"]})


def written(directory, config):
    path = directory / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return path


def every_command(directory):
    """A model of each config is made, described, trained, scored and continued."""
    model, text, ids = directory / "m.safetensors", directory / "text", directory / "ids"
    text.write_text(TEXT * 4)
    ids.write_text("1 2 3 4 5 6 7 8")
    for i, config in enumerate(CONFIGS):
        path = written(directory, config)
        trained = directory / f"{i}.safetensors"
        run("init", "--out", model, "--config", path)
        facts = json_of("info", "--model", model, "--json")
        assert facts.pop("tokenizer")["type"] == "bytes"  # which a config says nothing of
        assert facts == json_of("info", "--config", path, "--json")
        assert {name: facts["config"][name] for name in config} == config, facts["config"]
        result = json_of("train", "--out", trained, "--text", text, "--config", path, "--steps", 3,
                         "--batch", 2, "--seq-len", 32)
        assert result["steps"] == 3, result
        scored = json_of("score", "--model", trained, "--text", text)
        assert 0 < scored["bits_per_byte"] < 9, scored
        assert len(run("generate", "--model", trained, "--prompt", "It", "--tokens", 5,
                       "--print-ids").split()) == 5
        run("gradients", "--model", trained, "--ids", ids, "--out", directory / "g")
        again = json_of("train", "--out", directory / f"{i}again.safetensors", "--text", text,
                        "--init", trained, "--steps", 1, "--batch", 2, "--seq-len", 32)
        assert again["steps"] == 1, again


def generic_sizes(directory):
    """Heads of 12 and chunks of 24 by kernels for 16 and 32: named so, every form and scalar one
    function, its state in the layout of files."""
    config = {"vocab_size": 256, "d_model": 24, "n_layers": 4, "n_heads": 2, "swa_window": 16,
              "layer_types": ["deltanet", "swa", "retrieval", "full"], "retrieval_chunk_size": 24}
    model, ids, out = directory / "m.safetensors", directory / "ids", directory / "out"
    run("init", "--out", model, "--config", written(directory, config), "--scheme", "fan_in")
    kernels = json_of("info", "--model", model, "--json")["kernels"]
    assert kernels["heads"] == "of 12: generic, by kernels for 16", kernels
    assert kernels["chunks"] == "of 24: generic, by kernels for 32", kernels
    ids.write_text(" ".join(str(byte) for byte in TEXT[:90].encode()))
    found = {}
    for scalar, form in ("double", "prefill"), ("double", "step"), ("float", "chunked"):
        run("logits", "--model", model, "--ids", ids, "--out", out, "--scalar", scalar, "--form", form,
            *(["--chunk", 7] if form == "chunked" else []))
        found[scalar, form] = tensors(out)
    expected = found["double", "prefill"]
    shapes = {name: shape for name, (shape, _) in expected.items()}
    assert shapes["state.0.S"] == [2, 12, 12] and shapes["state.0.conv_cache"] == [72, 3], shapes
    assert shapes["state.1.k_cache"] == [2, 16, 12] and shapes["state.3.k_cache"] == [2, 90, 12]
    assert shapes["state.2.summaries"] == [2, 3, 12], shapes
    for (scalar, form), values in found.items():
        for name, value in values.items():
            assert_near(value, expected[name], BOUNDS[scalar])


def without_config(_):
    """The preset, as ever."""
    facts = json_of("info", "--json")["config"]
    assert (facts["vocab_size"], facts["d_model"], facts["n_layers"]) == (256, 128, 4), facts


def refusals(directory):
    new = directory / "new"
    for config, part in (
            ({"d_model": 272, "n_heads": 2}, "head_dim: expected at most 128, found 136"),
            ({"d_model": 40, "n_heads": 3}, "head_dim: found d_model 40 / n_heads 3; n_heads must"),
            ({"d_model": 64, "n_heads": 2, "layer_types": ["retrieval"], "n_layers": 1,
              "retrieval_chunk_size": 129}, "retrieval_chunk_size: expected at most 128, found 129"),
            ({"swa_window": 0}, "swa_window: found 0; must be in"), ({"width": 1}, "width"),
            ("{", "config.json"), ("", "config.json")):
        path = written(directory, config)
        for command in (["info"], ["init", "--out", new]):
            line = refusal(*command, "--config", path)
            assert part in line, line
    line = refusal("info", "--config", directory / "none.json")
    assert "none.json" in line, line
    line = refusal("info", "--config", path, "--model", path)
    assert "--config" in line and "--model" in line, line
    assert not new.exists()


run_checks([every_command, generic_sizes, without_config, refusals])
