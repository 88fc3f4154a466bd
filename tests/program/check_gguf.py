#!/usr/bin/env python3
"""GGUF files: every command that reads a checkpoint reads one. Arguments as check_program.py."""

import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from program import GOLDEN, PROGRAM, assert_near, json_of, refusal, run, run_checks, tensors

GGUF = GOLDEN / "gguf"


def numbers(values):
    return " ".join(str(int(value)) for value in values)


def answers(directory):
    """Logits to the bound of float; the greedy tokens as the weights are kept, by drafts too."""
    ids = directory / "ids"
    for name in "f16", "q8_0", "q4_0", "q4_k_m":
        model = GGUF / f"{name}.gguf"
        expected = tensors(GGUF / f"{name}.expected.safetensors")
        ids.write_text(numbers(expected["input_ids"][1]))
        out = directory / "logits.safetensors"
        run("logits", "--model", model, "--ids", ids, "--out", out, "--weights", "float")
        assert_near(tensors(out)["logits"], expected["logits"], 1e-4)
        greedy = numbers(expected["greedy_ids"][1])
        generate = "generate", "--model", model, "--ids", ids, "--tokens", 16, "--print-ids"
        assert run(*generate).decode().split() == greedy.split(), name
        if name == "q8_0":
            assert run(*generate, "--draft", "mtp").decode().split() == greedy.split()


def said(directory):
    """What became of the weights."""
    exact = json_of("info", "--json", "--model", GGUF / "q8_0.gguf")
    assert {(w["stored"], w["kept"]) for w in exact["weights"]} == {
        ("Q8_0", "q8"), ("Q8_0", "float"), ("F32", "float")}, exact["weights"]
    assert all(w["largest_error"] == 0 for w in exact["weights"])
    rounded = json_of("info", "--json", "--model", GGUF / "q4_k_m.gguf")["weights"]
    assert ("Q4_K", "q8") in {(w["stored"], w["kept"]) for w in rounded}, rounded
    assert all((w["largest_error"] > 0) == (w["kept"] == "q8") for w in rounded), rounded
    text = run("info", "--model", GGUF / "q4_k_m.gguf").decode()
    assert "Q4_K and Q6_K kept in q8, 1 parameters: errors up to" in text, text


def texts(directory):
    """By the tokenizer in the file."""
    published = GOLDEN / "published" / "qwen35_text"
    example = json.loads((published / "expected.json").read_text())
    prompt = directory / "prompt"
    prompt.write_text(example["prompt"])
    by_folder = run("tokenize", "--model", published, "--text", prompt)
    assert by_folder == run("tokenize", "--model", GGUF / "q8_0.gguf", "--text", prompt)
    assert by_folder == run("tokenize", "--tokenizer", GGUF / "q8_0.gguf", "--text", prompt)
    score = json_of("score", "--model", GGUF / "q8_0.gguf", "--text", prompt)
    assert score["tokens"] == len(by_folder.split()) and score["bits_per_byte"] > 0, score
    streamed = json_of("stream", "--model", GGUF / "q8_0.gguf", "--text", prompt)
    assert streamed["tokens"] == score["tokens"], streamed
    new = run("generate", "--model", GGUF / "q8_0.gguf", "--text", prompt, "--tokens", 4, "--print-ids")
    assert len(new.split()) <= 4, new


def without_text(directory):
    """A model whose tokenizer is not known takes ids, and says why it takes no text."""
    expected = tensors(GGUF / "q8_0.expected.safetensors")
    ids, other = directory / "ids", directory / "other.gguf"
    ids.write_text(numbers(expected["input_ids"][1]))
    other.write_bytes((GGUF / "q8_0.gguf").read_bytes().replace(b"gpt2", b"gptX", 1))
    new = run("generate", "--model", other, "--ids", ids, "--tokens", 16, "--print-ids")
    assert new.decode().split() == numbers(expected["greedy_ids"][1]).split(), new
    refused = subprocess.run([PROGRAM, "generate", "--model", other, "--ids", ids,
                              "--tokens", "1"], capture_output=True)
    assert refused.returncode > 0 and b"expected gpt2, found gptX" in refused.stderr, refused.stderr
    assert "gptX" in json_of("info", "--json", "--model", other)["tokenizer"]["error"]


def config(directory):
    """The shape of the file as a type."""
    header = directory / "model.hpp"
    run("config", GGUF / "q8_0.gguf", "--out", header)
    for part in ("model_type qwen3_5", "NormShape<64,", ".value_heads = 4", ".rotary_dim = 8",
                 "Vocabulary<320, hydralm::untied>", "using Model"):
        assert part in header.read_text(), header.read_text()


def refused(directory):
    out = directory / "out.safetensors"
    cut = directory / "cut.gguf"
    cut.write_bytes((GGUF / "q8_0.gguf").read_bytes()[:100_000])
    assert "cut off" in refusal("info", "--model", cut)
    cut.write_bytes(b"GGML" + bytes(100))
    assert "magic" in refusal("info", "--model", cut)
    assert "save_published" in refusal("convert", "--model", GGUF / "q8_0.gguf", "--format", "q4",
                                          "--out", out)
    text = directory / "text"
    text.write_text("a text " * 100)
    assert "a GGUF file" in refusal("train", "--text", text, "--out", out, "--steps", 1,
                                    "--tokenizer", GGUF / "q8_0.gguf")


run_checks([answers, said, texts, without_text, config, refused])
