#!/usr/bin/env python3
"""Every command of the program but kernel once. Arguments: the program (small preset), the golden vectors."""

import json
import math
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from program import (BOUNDS, GOLDEN, PROGRAM, TEXT, assert_near, initialised, json_of, refusal, run,
                     run_checks, tensors)

KILLS = int(os.environ.get("HYDRALM_TEST_KILLS", "5"))


def info(_):
    assert b"deltanet" in run("info")
    facts = json_of("info", "--json")
    assert facts.keys() == {"config", "schedule", "parameter_count", "weight_bytes", "state_bytes", "state",
                            "window_bytes", "state_bytes_per_token", "memory_bytes_per_token", "scalar", "simd", "kernels",
                            "parameters"}, facts.keys()
    assert facts["state_bytes"] > 0 and facts["state"] == facts["scalar"] == "float"
    double = json_of("info", "--json", "--scalar", "double")
    assert double["scalar"] == double["state"] == "double"
    assert facts["config"]["vocab_size"] == 256
    assert len(facts["schedule"]) == facts["config"]["n_layers"]
    assert all(p.keys() == {"name", "shape", "format", "optimiser_group"} for p in facts["parameters"])
    assert any(p["name"] == "embed.weight" for p in facts["parameters"])
    assert facts["parameter_count"] == sum(math.prod(p["shape"]) for p in facts["parameters"])


def init(directory):
    first = initialised(directory).read_bytes()
    assert first == initialised(directory).read_bytes(), "one seed, two models"
    assert first != initialised(directory, "--scheme", "fan_in").read_bytes()


def state_shapes(tokens):
    """name -> shape of the state behind this many tokens, by golden/README.md."""
    facts = json_of("info", "--json")
    config = facts["config"]
    H, K = config["n_heads"], config["dn_short_conv_kernel"]
    D = config["head_dim"] or config["d_model"] // H
    cache = [H, min(tokens, config["swa_window"]), D]
    kinds = {"deltanet": {"conv_cache": [3 * H * D, K - 1], "S": [H, D, D]},
             "swa": {"k_cache": cache, "v_cache": cache}}
    return {f"state.{i}.{name}": shape for i, kind in enumerate(facts["schedule"])
            for name, shape in kinds[kind].items()}


def logits(directory):
    model, ids = initialised(directory), directory / "ids"
    ids.write_text(" ".join(str(byte) for byte in TEXT[:200].encode()))
    results = []
    for form in (["prefill"], ["chunked", "--chunk", 33], ["step"]):
        out = directory / f"{form[0]}.safetensors"
        run("logits", "--model", model, "--ids", ids, "--out", out, "--form", *form)
        results.append(tensors(out))
    shapes = {name: shape for name, (shape, _) in results[0].items()}
    assert shapes == {"logits": [200, 256], **state_shapes(200)}, shapes
    for other in results[1:]:
        assert other.keys() == results[0].keys()
        for name in other:
            assert_near(other[name], results[0][name], BOUNDS["float"])


def generate(directory):
    model = initialised(directory)
    prompt = ("generate", "--model", model, "--prompt", "It is a truth", "--tokens", 20)
    sampled = (*prompt, "--temperature", 1, "--top-k", 50, "--top-p", 0.9, "--seed", 3,
               "--print-ids")
    line = run(*sampled).decode()
    ids = [int(word) for word in line.split()]
    assert line == " ".join(map(str, ids)) + "\n", line
    assert len(ids) == 20 and all(0 <= i < 256 for i in ids)
    assert run(*sampled) == run(*sampled), "one seed, two texts"
    run(*prompt).decode("utf-8")
    text = directory / "text"
    text.write_text("It is a truth")
    assert run("generate", "--model", model, "--text", text, "--tokens", 20) == run(*prompt)
    only_the_likeliest = ("--temperature", 1, "--min-p", 1, "--seed", 3)
    assert run(*prompt, *only_the_likeliest) == run(*prompt)


def generate_until(directory):
    """--stop ends the text before the first of the texts it names."""
    def sampled(tokens, *options):
        return run("generate", "--model", model, "--prompt", "It is", "--tokens", tokens,
                   "--temperature", 1, "--seed", 4, *options)
    model = initialised(directory)
    ids = list(map(int, sampled(40, "--print-ids").split()))
    text = bytes(ids)
    last = next(i for i in range(20, 39) if 0 not in text[i:i + 2])  # no argument holds a 0
    for stops in ([text[last:last + 2]], [b"not in it", text[last:last + 2], text[last:last + 1]]):
        end, found = min((text.find(stop), stop) for stop in stops if stop in text)
        options = [word for stop in stops for word in ("--stop", os.fsdecode(stop))]
        assert sampled(40, *options) == sampled(end), (end, found)
        stopped = list(map(int, sampled(40, "--print-ids", *options).split()))
        assert stopped[:end] == ids[:end] and bytes(stopped[end:]) == found, stopped
    assert sampled(40, "--stop", "not in it") == sampled(40)


def values_as_written(directory):
    """No text is a list, an empty one, or the name of an option, whatever brackets it has."""
    model, text = initialised(directory), directory / "text"
    text.write_text(TEXT)

    def generated(*options):
        return run("generate", "--model", model, "--tokens", 30, *options)
    plain = generated("--prompt", "It is")
    first = os.fsdecode(next(plain[i:i + 1] for i in range(30) if plain[i] > 32))
    for stop in (f"[{first}]", f"[{first},x]", f"[[{first}]]", f"[[{first}{first}]]", "[]", "[[]]",
                 "{}", "[", "%%", "--seed", "--stop=[]", "\x01\x02"):
        for words in (["--stop", stop], [f"--stop={stop}"]):
            assert generated("--prompt", "It is", *words) == plain, words
    assert generated("--prompt", "It is", "--stop", f"{first}]", "--stop", first) != plain
    for prompt in ("[a]", "[[a]]", "[[aa]]", "{}", "[a,b]", "--tokens", "--x=", "--x=[", "\x01\x02",
                   "a=[b]", "'a'", '"a\\n"'):
        text.write_text(prompt)
        expected = generated("--text", text)
        for words in (["--prompt", prompt], [f"--prompt={prompt}"]):
            assert generated(*words) == expected, words
    line = refusal("generate", "--model", model, "--prompt=", "--tokens", "3")
    assert "--prompt" in line and "--tokens" not in line, line
    for folder in ("[books]", "[a,b]", "{}"):
        (directory / folder).mkdir()
        (directory / folder / "[1]").write_text(TEXT)
        out = directory / "[out].safetensors"
        shutil.rmtree(directory / "[out].training", ignore_errors=True)
        run("train", "--out", out.name, "--text", folder, f"{folder}/[1]", "--steps", 1, "--batch",
            1, "--seq-len", 8, cwd=directory)
        assert out.is_file()
    for words, part in ((["--seed", "[1]"], "decimal digits, 0 to 18446744073709551615, found [1];"),
                        (["--seed="], "found ;"), (["[x]"], "found [x];")):
        line = refusal("generate", "--model", model, "--prompt", "a", "--tokens", 1, *words)
        assert part in line, line


def score(directory):
    text = directory / "text"
    text.write_text(TEXT)
    result = json_of("score", "--model", initialised(directory), "--text", text)
    assert result.keys() == {"tokens", "log_likelihood", "bits_per_byte"}, result
    assert result["log_likelihood"] < 0 and 7 < result["bits_per_byte"] < 10
    assert result["tokens"] == len(TEXT)
    ids = directory / "ids"
    ids.write_text(" ".join(map(str, TEXT.encode())))
    same = json_of("score", "--model", directory / "model.safetensors", "--ids", ids)
    result["bits_per_token"] = result.pop("bits_per_byte")
    assert same == result, same
    text.write_text("I")
    one = json_of("score", "--model", directory / "model.safetensors", "--text", text)
    assert one == {"tokens": 1, "log_likelihood": 0, "bits_per_byte": None}, one


def stream(directory):
    text = directory / "text"
    text.write_text(TEXT)
    options = ["stream", "--model", initialised(directory), "--text", text, "--tokens", 5000, "--repeat"]
    result = json_of(*options)
    assert result.keys() == {"tokens", "seconds", "tokens_per_second", "state_bytes", "state",
                             "resident_bytes_first", "resident_bytes_peak", "bits_per_byte"}, result
    assert result["tokens"] == 5000 and result["tokens_per_second"] > 0
    assert result["state_bytes"] == json_of("info", "--json")["state_bytes"]
    resting = json_of(*options, "--state", "int16")
    assert resting["state"] == "int16" and resting["state_bytes"] < result["state_bytes"]
    assert resting["state_bytes"] == json_of("info", "--json", "--state", "int16")["state_bytes"]
    assert abs(resting["bits_per_byte"] - result["bits_per_byte"]) < 1e-3
    assert result["resident_bytes_peak"] - result["resident_bytes_first"] <= 2**20
    assert 7 < result["bits_per_byte"] < 10
    command = [PROGRAM, "stream", "--model", directory / "model.safetensors", "--text",
               "/dev/stdin", "--tokens", "100"]
    for text in (TEXT[:40], TEXT):
        piped = subprocess.run(command, input=text, text=True, capture_output=True, check=True)
        assert json.loads(piped.stdout)["tokens"] == min(100, len(text)), piped.stdout
        assert ("ended 60 tokens early" in piped.stderr) == (len(text) == 40), piped.stderr
    piped = subprocess.run([*command, "--repeat"], input=TEXT[:40], text=True, capture_output=True)
    assert piped.returncode == 1 and "found a pipe" in piped.stderr, piped.stderr


def train(directory):
    """It learns; killed at random moments and resumed, it ends in the very same bits."""
    text = directory / "text"
    text.write_text(TEXT * 3)
    options = ["--text", text, "--steps", 24, "--batch", 2, "--seq-len", 32, "--save-every", 1,
               "--eval-every", 8, "--optimizer", "muon"]
    whole = directory / "whole.safetensors"
    result = json_of("train", "--out", whole, *options, "--log", directory / "log")
    losses = {f"{part}_{unit}" for part in ("train", "validation", "best_validation")
              for unit in ("loss", "bits_per_byte")}
    assert result.keys() == {"steps", "seconds", "tokens_per_second", "loss_unit", *losses}, result
    assert result["loss_unit"] == "nats per byte", result
    assert math.isclose(result["validation_bits_per_byte"],
                        result["validation_loss"] / math.log(2)), result
    assert result["steps"] == 24 and result["tokens_per_second"] > 0, result
    assert result["train_loss"] < 4 and result["validation_loss"] < 4.5, result
    log = [json.loads(line) for line in (directory / "log").read_text().splitlines()]
    assert [line["step"] for line in log] == list(range(1, 25))
    assert log[-1]["loss"] == result["train_loss"] < log[0]["loss"] - 1

    killed, kills = directory / "killed.safetensors", 0
    checkpoints = directory / "killed.training"
    chance = random.Random(os.getpid())
    while kills < KILLS or not killed.exists():
        if killed.exists():  # it was too quick for the kills: once more from the beginning
            assert killed.read_bytes() == whole.read_bytes(), f"other bits after {kills} kills"
            killed.unlink()
            shutil.rmtree(checkpoints)
        resume = ["--resume", checkpoints] if any(checkpoints.glob("step-*.train")) else []
        command = [PROGRAM, *map(str, ["train", "--out", killed, *options, *resume])]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                   text=True)
        try:
            complaint = process.communicate(
                timeout=chance.uniform(0.05, 0.6) if kills < KILLS else None)[1]
            assert process.returncode == 0, complaint
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
    assert killed.read_bytes() == whole.read_bytes(), f"other bits after {kills} kills"

    line = refusal("train", "--out", killed, *options, "--seed", 2, "--resume", checkpoints)
    assert "training.seed: expected 2, found 0" in line, line
    text.write_text((TEXT * 3).swapcase())
    line = refusal("train", "--out", killed, *options, "--resume", checkpoints)
    assert "training.training_crc32: expected" in line, line
    line = refusal("train", "--out", killed, *options)
    assert "expected no checkpoints of another run" in line, line
    line = refusal("train", "--out", killed, "--text", directory / "none", "--steps", 1)
    assert "none" in line, line


def held_out(directory):
    """A twentieth of the bytes, whatever the sizes of the files; training and it are of one kind."""
    noise = random.Random(1)
    book = "".join(noise.choice("abcdefgh ") for _ in range(40000))
    corpora = {"one_big": [book] + [f"{i}" * 200 for i in range(9)], "two": [book, "x" * 400],
               "tiny": [book[:3000], "\n"], "one": [book]}
    for name, texts in corpora.items():
        (directory / name).mkdir()
        for i, text in enumerate(texts):
            (directory / name / str(i)).write_text(text)
        total = sum(map(len, texts))
        for seed in range(3):
            shutil.rmtree(directory / "out.training", ignore_errors=True)
            trained = subprocess.run(
                [PROGRAM, "train", "--out", directory / "out.safetensors", "--text",
                 directory / name, "--steps", "1", "--batch", "1", "--seq-len", "1000", "--seed",
                 str(seed)], capture_output=True, text=True, check=True)
            sizes = re.match(r"text: (\d+) bytes to train on, (\d+) held out(?:; (\d+) unread)?",
                             trained.stderr)
            read, out, short = (int(size or 0) for size in sizes.groups())
            assert read + out + short == total and 0.045 < out / total < 0.055, trained.stderr
            assert re.search(r"loss \S+ bits per byte  held out ", trained.stderr), trained.stderr
    text = directory / "text"
    text.write_text("seventeen letters")
    few = ("train", "--out", directory / "few.safetensors", "--text", text, "--steps", 2,
           "--batch", 1)
    assert json_of(*few, "--seq-len", 8)["validation_loss"] > 0
    line = refusal(*few, "--seq-len", 16)
    assert "held-out part: expected 2 bytes for it, beside a text of 17" in line, line

    # Two kinds of text in one file: its end would be of one alone.
    text.write_text(book[:30000] + "z" * 10000)
    result = json_of("train", "--out", directory / "mixed.safetensors", "--text", text, "--steps",
                     60, "--batch", 8, "--seq-len", 32)
    assert result["validation_loss"] > 0.5, result


def train_stops(directory):
    """Told to stop, it saves and says how to go on."""
    text, out = directory / "text", directory / "out.safetensors"
    text.write_text(TEXT)
    command = ["train", "--out", out, "--text", text, "--steps", 100000, "--batch", 1,
               "--seq-len", 16, "--save-every", 0]
    process = subprocess.Popen([PROGRAM, *map(str, command)], stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)
    process.stderr.readline()  # the sizes of its text
    process.stderr.readline()  # it has begun
    process.send_signal(signal.SIGINT)
    last = process.communicate()[1].splitlines()[-1]
    assert process.returncode == 1 and f"--resume {directory / 'out.training'}" in last, last
    assert len(list((directory / "out.training").glob("step-*.train"))) == 1 and not out.exists()


def train_without_room(directory):
    """When no more can be written, the last checkpoint stays whole, and the run goes on from it."""
    text, checkpoints = directory / "text", directory / "full.training"
    text.write_text(TEXT)
    options = ["--text", text, "--batch", 2, "--seq-len", 32, "--save-every", 3, "--steps", 12]
    whole, full = directory / "whole.safetensors", directory / "full.safetensors"
    run("train", "--out", whole, *options)
    command = [PROGRAM, *map(str, ["train", "--out", full, *options])]

    def no_room():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))

    result = subprocess.run(command, capture_output=True, text=True, preexec_fn=no_room)
    last = result.stderr.splitlines()[-1]
    assert result.returncode == 1 and "full.training" in last and "expected" in last, last
    assert list(checkpoints.iterdir()) == [], "something half-written stayed"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (saved := sorted(checkpoints.glob("step-*.train"))):
        time.sleep(0.01)
    process.kill()
    process.wait()
    before = {path.name: path.read_bytes() for path in saved}
    resume = [*command, "--resume", str(checkpoints)]
    result = subprocess.run(resume, capture_output=True, text=True, preexec_fn=no_room)
    if not full.exists():  # unless the kill came after the last step
        assert result.returncode == 1, result.stderr
    for name, content in before.items():
        assert (checkpoints / name).read_bytes() == content, f"{name} was lost"
    subprocess.run(resume, check=True, capture_output=True)
    assert full.read_bytes() == whole.read_bytes(), "other bits after a full disk"


def train_further(directory):
    """Training begins where a checkpoint is."""
    text, first = directory / "text", directory / "first.safetensors"
    text.write_text(TEXT * 3)
    options = ["--text", text, "--batch", 2, "--seq-len", 32, "--steps", 12]
    before = json_of("train", "--out", first, *options)
    second = directory / "second.safetensors"
    log = directory / "log"
    after = json_of("train", "--out", second, *options, "--init", first, "--log", log)
    losses = [json.loads(line)["loss"] for line in log.read_text().splitlines()]
    assert losses[0] < before["train_loss"] + 0.3 and after["train_loss"] < losses[0], losses
    short = ("--text", text, "--batch", 2, "--seq-len", 32, "--steps", 1)
    for name in ("model.v1", "model.v2", "model.training"):  # each has its own directory
        run("train", "--out", directory / name, *short)
        assert (directory / name).is_file() and (directory / f"{name}.training").is_dir(), name
    line = refusal("train", "--out", second, *options, "--init", directory / "none")
    assert "none" in line, line
    line = refusal("train", "--out", second, *options, "--init", first, "--scheme", "normal")
    assert "--scheme" in line and "--init" in line, line
    line = refusal("train", "--out", second, *options, "--resume", directory / "first.training",
                   "--init", first)
    assert "training.init" in line, line


def threads(directory):
    """HYDRALM_NUM_THREADS is the size of the pool, and never changes a bit."""
    model, ids, out = initialised(directory), directory / "ids", directory / "out"
    ids.write_text(" ".join(map(str, TEXT[:1000].encode())))
    warnings, written = {}, set()
    for number in ("1", "3", "0", "abc"):
        result = subprocess.run(
            [PROGRAM, "logits", "--model", model, "--ids", ids, "--out", out], text=True,
            capture_output=True, check=True, env={**os.environ, "HYDRALM_NUM_THREADS": number})
        warnings[number] = result.stderr
        written.add(out.read_bytes())
    assert len(written) == 1, "other bits with another number of threads"
    assert warnings["1"] == warnings["3"] == "", warnings
    for number in ("0", "abc"):
        assert warnings[number] == (
            "hydralm: HYDRALM_NUM_THREADS: expected an integer in [1, 1024], found "
            f"'{number}'; using every core\n"), warnings[number]

    def running(number):
        """Threads of the process, once it has computed something."""
        with subprocess.Popen([PROGRAM, "stream", "--model", model, "--text", "/dev/stdin"],
                              stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True,
                              env={**os.environ, "HYDRALM_NUM_THREADS": str(number)}) as process:
            process.stdin.write(TEXT * 2)
            process.stdin.flush()
            process.stderr.readline()
            return len(os.listdir(f"/proc/{process.pid}/task"))
    assert running(3) - running(1) == 2


def command_line(directory):
    """What it says of itself, and of words it does not know."""
    assert run("--version").startswith(b"hydralm 0.")
    assert re.search(rb"--steps INT.*\b1000\b", run("train", "--help"))
    model, text = initialised(directory), directory / "text"
    text.write_text(TEXT)
    generating = ("generate", "--model", model, "--tokens", 1, "--prompt", "It")
    scoring = ("score", "--model", model, "--text", text)
    streaming = ("stream", "--model", model, "--text", text)
    training = ("train", "--out", directory / "x", "--text", text)
    kernel = ("kernel", "delta_rule", "--in", text, "--out", directory / "x")
    for words, part in (
            (["paint"], "expected a known command or option, found paint"),
            (["info", "all"], "expected a known command or option, found all"),
            ([], "expected a command, found none"),
            (["info", "--json=x"], "--json: expected no value, found x"),
            (["info", "--json=false"], "--json: expected no value, found false"),
            (["tokenize", "--model", model, "--tokenizer", text, "--prompt", "a"],
             "expected one of --model,--tokenizer, found 2"),
            (["score"], "--model: expected a value, found none"),
            ([*scoring, "--model", model], "--model: expected one value, found 2"),
            ([*scoring, "--scalar"], "--scalar: expected a value, found none"),
            ([*scoring, "--ids", text], "--text: expected without --ids, found both"),
            ([*generating, "--text", text], "--prompt: expected without --text, found both"),
            ([*generating, "--draft-tokens", 2],
             "--draft-tokens: expected --draft with it, found none"),
            (["task", "mqar"], "expected one of --print,--evaluate, found none"),
            (["task", "all", "--print"],
             "task: expected one of mqar, needle, retrieval_qa, multikey, multivalue, tracking, words, "
             "parity, s3, s5, found all"),
            ([*scoring, "--scalar", "half"], "--scalar: expected one of float, double, found half"),
            ([*generating, "--temperature", "x"],
             "--temperature: expected a finite number, found x"),
            ([*generating, "--temperature", "inf"], "finite number, found inf"),
            ([*generating, "--top-p", 1.5], "--top-p: expected a finite number in [0, 1], found 1.5"),
            ([*generating, "--min-p", "x"], "--min-p: expected a finite number in [0, 1], found x"),
            ([*generating, "--repetition-penalty", 0],
             "--repetition-penalty: expected a finite number above 0, found 0"),
            ([*generating, "--top-k", 0.5],
             "--top-k: expected a whole number in decimal digits, 0 to 2147483647, found 0.5"),
            ([*generating, "--seed", "x"],
             "--seed: expected a whole number in decimal digits, 0 to 18446744073709551615, found"),
            ([*training, "--lr", 0], "--lr: expected a finite number above 0, found 0"),
            ([*training, "--clip", "x"], "--clip: expected a finite number of at least 0, found x"),
            ([*kernel, "--chunk", 8], "--chunk: expected one of 16, 32, 64, found 8"),
            ([*streaming, "--tokens", "1e6"],
             "--tokens: expected a whole number in decimal digits, 1 to 1125899906842624, found 1e6"),
            ([*streaming, "--tokens", "\x1b[2J\n"], "found ?[2J?; see"),
            ([*streaming, "--bank-budget", "16xB"],
             "--bank-budget: expected a whole number in decimal digits, 1 to 1125899906842624, "
             "found 16xB")):
        line = refusal(*words)
        assert line.startswith("hydralm: command line: ") and part in line, line
        assert line.endswith("; see hydralm --help"), line
    run(*generating, "--seed", 2**64 - 1)
    for words, part in (([*scoring, "--bank", "mapped"],
                         "--bank: expected a model with retrieval layers"),
                        ([*scoring, "--open-groups", 3],
                         "--open-groups: expected a model with retrieval layers")):
        line = refusal(*words)
        assert part in line, line


def gradients(directory):
    model, ids = initialised(directory), directory / "ids"
    ids.write_text(" ".join(str(byte) for byte in TEXT[:200].encode()))
    found = {}
    for scalar in ("float", "double"):
        out = directory / scalar
        run("gradients", "--model", model, "--ids", ids, "--out", out, "--scalar", scalar)
        found[scalar] = tensors(out)
    names = {parameter["name"] for parameter in json_of("info", "--json")["parameters"]}
    assert found["double"].keys() == {"loss"} | {f"grad.{name}" for name in names}
    for name, expected in found["double"].items():
        assert_near(found["float"][name], expected, 1e-3)
    assert 5 < found["double"]["loss"][1][0] < 6  # about ln 256
    ids.write_text("1")
    line = refusal("gradients", "--model", model, "--ids", ids, "--out", directory / "out")
    assert "at least 2" in line, line


def task(directory):
    lines = run("task", "needle", "--print", "--lengths", "40,60", "--count", 2).splitlines()
    assert [len(json.loads(line)["ids"]) for line in lines] == [40, 40, 60, 60]
    for line in map(json.loads, lines):
        assert line.keys() == {"ids", "labels", "depth"}, line
        (answer,) = [t for t, label in enumerate(line["labels"]) if label != -100]
        assert line["ids"][answer + 1] == line["labels"][answer], line
        assert len(line["depth"]) == 1 and 0 <= line["depth"][0] < 1, line
    stages = directory / "stages.json"
    stages.write_text(json.dumps([
        {"length": 32, "pairs": 2, "queries": 2, "batch": 8, "steps": 20, "skip_deltanet": True},
        {"length": 16, "pairs": 2, "queries": 1, "batch": 4, "steps": 10}]))
    model = directory / "model.safetensors"
    result = json_of("train", "--task", "mqar", "--stages", stages, "--out", model, "--seed", 2)
    assert result["steps"] == 30 and result["train_loss"] > 0, result
    score = json_of("task", "mqar", "--evaluate", "--model", model, "--lengths", "16,32",
                    "--count", 5, "--facts", 2, "--queries", 1)
    assert score.keys() == {"task", "zero_retrieval", "lengths"}, score
    assert [entry["length"] for entry in score["lengths"]] == [16, 32], score
    for entry in score["lengths"]:
        assert entry.keys() == {"length", "accuracy", "by_quartile", "answers", "seconds",
                                "resident_bytes_peak"}, entry
        assert entry["resident_bytes_peak"] > 1_000_000, entry
        assert entry["answers"] == 5 and len(entry["by_quartile"]) == 4, entry
        assert 0 <= entry["accuracy"] <= 1, entry
    line = refusal("task", "retrieval_qa", "--evaluate", "--model", model)
    assert "vocab_size" in line and "512" in line, line
    line = refusal("task", "needle", "--print", "--lengths", 7)
    assert "length" in line and "at least 8" in line, line
    stages.write_text('[{"length": 32}]')
    line = refusal("train", "--task", "mqar", "--stages", stages, "--out", directory / "other")
    assert "stage 0: pairs" in line, line


def generate_with_draft(directory):
    model, other = initialised(directory), directory / "other.safetensors"
    run("init", "--out", other, "--seed", 9)
    for options in (("--temperature", 0), ("--temperature", 0, "--repetition-penalty", 1.5)):
        asked = ("generate", "--model", model, "--prompt", "Once", "--tokens", 30, "--print-ids",
                 *options)
        plain = run(*asked)
        assert len(plain.split()) == 30
        for draft in (model, other):
            assert run(*asked, "--draft", draft, "--draft-tokens", 3) == plain, draft
    line = refusal(*asked, "--draft", "mtp")
    assert "mtp_depth" in line, line
    line = refusal(*asked, "--draft", GOLDEN / "model" / "hybrid_4l" / "model.safetensors")
    assert "vocab_size" in line, line


def refusals(directory):
    model, ids = initialised(directory), directory / "ids"
    ids.write_text("1 2 256")
    line = refusal("logits", "--model", model, "--ids", ids, "--out", directory / "out")
    assert "256" in line and "ids" in line, line
    line = refusal("score", "--model", directory / "none", "--ids", ids)
    assert "none" in line, line
    other = GOLDEN / "model" / "hybrid_4l" / "model.safetensors"  # of another config
    line = refusal("score", "--model", other, "--ids", ids)
    assert "id" in line and "[0, 61)" in line, line
    model.write_bytes(model.read_bytes()[:-1])
    line = refusal("score", "--model", model, "--ids", ids)
    assert "model.safetensors" in line, line


run_checks([
    info, init, logits, generate, generate_until, values_as_written,
    score, stream, train, train_stops,
    train_without_room, train_further, threads, command_line, gradients, task,
    generate_with_draft, held_out, refusals])
