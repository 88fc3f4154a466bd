#!/usr/bin/env python3
"""Texts and their tokens: `tokenize` on the golden vectors; training, scoring and generating with a
tokenizer. Arguments as check_program.py.
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from program import GOLDEN, PROGRAM, TEXT, json_of, refusal, run, run_checks

TOKENIZERS = GOLDEN / "tokenizer"


def lines_of(values):
    return "".join(json.dumps(value) + "\n" for value in values)


def golden_cases(directory):
    """Every golden text and list of ids, a line each."""
    lines = directory / "lines"
    for folder in TOKENIZERS, TOKENIZERS / "gpt4":
        cases = json.loads((folder / "cases.json").read_text())
        command = "tokenize", "--tokenizer", folder / "tokenizer.json", "--lines", lines
        lines.write_text(lines_of(case["text"] for case in cases["encode"]))
        found = [json.loads(line) for line in run(*command).splitlines()]
        assert found == [case["ids"] for case in cases["encode"]]
        both = cases["encode"] + cases["decode"]
        lines.write_text(lines_of(case["ids"] for case in both))
        found = [json.loads(line) for line in run(*command, "--decode").splitlines()]
        assert found == [case["decoded"] for case in both]


def one_text(directory):
    """From the command line and from a file; by a folder, a file, or bytes."""
    text = "café <|im_end|>\n"
    (directory / "text").write_text(text)
    by_file = "tokenize", "--tokenizer", TOKENIZERS / "tokenizer.json"
    by_folder = "tokenize", "--model", TOKENIZERS
    ids = run(*by_file, "--prompt", text)
    assert ids == run(*by_folder, "--prompt", text) == run(*by_file, "--text", directory / "text")
    (directory / "ids").write_bytes(ids)
    assert run(*by_file, "--decode", "--prompt", ids.decode()) == (text + "\n").encode()
    assert run(*by_file, "--decode", "--text", directory / "ids") == (text + "\n").encode()
    assert run("tokenize", "--model", directory, "--prompt", "aé") == b"97 195 169\n"
    assert run("tokenize", "--model", directory, "--decode", "--prompt", "97 300 195") == \
        "a\ufffd\n".encode()
    assert run(*by_file, "--prompt", "") == b"\n"
    # a value is taken as it is written: no list, no quotes, no escapes, no option
    for prompt in ("[a]", "[a,b]", "[[a]]", "[]", "{}", "'a'", '"a\\n"', "--text", "--decode"):
        expected = " ".join(map(str, prompt.encode())).encode() + b"\n"
        for words in (["--prompt", prompt], [f"--prompt={prompt}"]):
            assert run("tokenize", "--model", directory, *words) == expected, words


def refused(directory):
    by_file = "tokenize", "--tokenizer", TOKENIZERS / "tokenizer.json"
    lines = directory / "lines"
    for line, options in ("[1]", []), ('"a"', ["--decode"]), ("[-1]", ["--decode"]), ("a", []):
        lines.write_text('"a"\n' * (not options) + line)
        message = refusal(*by_file, "--lines", lines, *options)
        assert str(lines) in message and f"line {1 + (not options)}" in message, message
    assert "--prompt" in refusal(*by_file, "--decode", "--prompt", "1 x")
    assert "expected one of" in refusal(*by_file)
    assert "expected one of" in refusal("tokenize", "--prompt", "a")
    broken = directory / "tokenizer.json"
    broken.write_bytes((TOKENIZERS / "tokenizer.json").read_bytes()[:5000])
    assert str(broken) in refusal("tokenize", "--tokenizer", broken, "--prompt", "a")
    assert str(broken) in refusal("tokenize", "--model", directory, "--prompt", "a")


def trained(directory):
    """The tokenizer travels with the checkpoint, and is what texts are read by."""
    config = directory / "config.json"
    config.write_text(json.dumps({"vocab_size": 1500, "d_model": 32, "n_layers": 1, "n_heads": 2,
                                  "swa_window": 16}))
    text = directory / "text"
    text.write_text(TEXT)
    out = directory / "run" / "model.safetensors"
    out.parent.mkdir()
    train = ("train", "--text", text, "--steps", 2, "--batch", 2, "--seq-len", 8, "--eval-every", 0,
             "--save-every", 0)
    tokenizer = TOKENIZERS / "tokenizer.json"
    result = json_of(*train, "--out", out, "--tokenizer", tokenizer, "--config", config)
    assert result["loss_unit"] == "nats per token" and result["train_bits_per_token"] > 0, result
    assert (out.parent / "tokenizer.json").read_bytes() == tokenizer.read_bytes()
    of_best = out.parent / "model.training" / "best.tokenizer.json"  # of a run that is stopped, too
    assert of_best.read_bytes() == tokenizer.read_bytes()

    ids = directory / "ids"
    ids.write_bytes(run("tokenize", "--tokenizer", tokenizer, "--text", text))
    by_text, by_ids = (json_of("score", "--model", out, *what)
                       for what in (("--text", text), ("--ids", ids)))
    assert by_text["tokens"] == by_ids["tokens"] == len(ids.read_text().split())
    assert by_text["log_likelihood"] == by_ids["log_likelihood"]
    assert 0 < by_text["bits_per_byte"] < by_ids["bits_per_token"]
    streamed = json_of("stream", "--model", out, "--text", text)
    assert streamed["tokens"] == by_text["tokens"]
    assert abs(streamed["bits_per_token"] / by_ids["bits_per_token"] - 1) < 1e-4
    again = json_of("stream", "--model", out, "--text", text, "--tokens", 2000, "--repeat")
    assert again["tokens"] == 2000

    generate = "generate", "--model", out, "--tokens", 12, "--prompt", "It is a truth"
    new = run(*generate, "--print-ids").decode()
    assert run(*generate) == run("tokenize", "--tokenizer", tokenizer, "--decode", "--prompt", new)

    named = directory / "named.safetensors"  # by --init, with its tokenizer
    json_of(*train, "--out", named, "--init", out)
    assert (directory / "named.tokenizer.json").read_bytes() == tokenizer.read_bytes()
    assert json_of("score", "--model", named, "--text", text)["tokens"] == by_text["tokens"]

    assert "at most the model's 256" in refusal(*train, "--out", named, "--tokenizer", tokenizer)
    assert "no tokenizer beside" in refusal(*train, "--out", out)
    small = directory / "small" / "model.safetensors"
    small.parent.mkdir()
    shutil.copy(TOKENIZERS / "tokenizer.json", small.parent / "tokenizer.json")
    run("init", "--out", small)
    assert "at most the model's 256" in refusal("score", "--model", small, "--text", text)

    # What no window is drawn from is said: texts of fewer tokens than one has.
    texts = directory / "texts"
    texts.mkdir()
    for i in range(40):
        (texts / f"{i}").write_text(f"{i} " + TEXT[:30 if i % 2 else 2000])
    said = subprocess.run([PROGRAM, *map(str, (
        "train", "--text", texts, "--steps", 1, "--batch", 1, "--seq-len", 16, "--eval-every", 0,
        "--save-every", 0, "--out", directory / "few.safetensors", "--init", named))],
        text=True, capture_output=True, check=True).stderr.splitlines()[0]
    sizes = re.fullmatch(r"text: (\d+) tokens to train on, (\d+) held out; (\d+) unread, in texts of "
                         r"at most 16 tokens: give a smaller --seq-len to read them", said)
    assert sizes, said
    read, held_out, unread = map(int, sizes.groups())
    assert 0.02 < held_out / (read + held_out) < 0.15 and unread > 0, said


run_checks([golden_cases, one_text, refused, trained])
