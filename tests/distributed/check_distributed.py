#!/usr/bin/env python3
"""Training and evaluation on the ranks of an MPI job: the bits of one process, whatever happens.
Arguments: the program, the golden vectors, the launcher."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from program import PROGRAM, TEXT, assert_near, run, run_checks, tensors

LAUNCHER = pathlib.Path(sys.argv[3]).resolve()
OPENMPI = "openmpi" in sys.argv[3]
CONFIG = {"vocab_size": 256, "d_model": 64, "n_layers": 3, "n_heads": 2, "swa_window": 24, "swa_every": 3,
          "retrieval_every": 2, "retrieval_chunk_size": 16, "retrieval_top_k": 2}
ENVIRONMENT = {**os.environ, "HYDRALM_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1",
               "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def launch(*commands):
    """The command line of a job; each command: ranks, then what they are given."""
    groups = [[":", "-n", ranks, PROGRAM, *arguments] for ranks, *arguments in commands]
    flags = ["--oversubscribe", "--bind-to", "none"] if OPENMPI else []
    return list(map(str, [LAUNCHER, *flags, *sum(groups, [])[1:]]))


def job(*commands, **options):
    return subprocess.run(launch(*commands), capture_output=True, text=True, timeout=240,
                          env=ENVIRONMENT, **options)


def ranks(count, *arguments):
    result = job((count, *arguments))
    assert result.returncode == 0, f"exit {result.returncode}: {result.stderr}"
    return result


def training(directory, out, *options, accumulate=4, steps=4, every=2):
    text, config = directory / "text", directory / "config.json"
    if not config.exists():
        text.write_text("".join(f"{i}: {TEXT[i:i + 60]}\n" for i in range(400)))
        config.write_text(json.dumps(CONFIG))
    return ["train", "--out", directory / out, "--text", text, "--config", config, "--steps", steps,
            "--batch", 2, "--seq-len", 40, "--accumulate", accumulate, "--eval-every", every,
            "--save-every", every, "--log", directory / f"{out}.log", *options]


def written(directory, out):
    """The files of a run, and its log without times."""
    lines = [json.loads(line) for line in (directory / f"{out}.log").read_text().splitlines()]
    for line in lines:
        del line["seconds"]
    run_files = sorted((directory / f"{out}.training").iterdir())
    return (directory / out).read_bytes(), lines, {file.name: file.read_bytes() for file in run_files}


def result_of(text):
    """The JSON on the last line, without what depends on time and ranks."""
    result = json.loads(text.strip().splitlines()[-1])
    for key in ("seconds", "tokens_per_second", "ranks", "bytes_sent", "communication_seconds",
                "communication_share"):
        result.pop(key, None)
    for length in result.get("lengths", []):
        del length["seconds"], length["resident_bytes_peak"]
    return result


def same_bits(directory):
    """Loss trace, weights, and checkpoints are those of one process, on any number of ranks."""
    for optimizer, accumulate, counts in (("muon", 4, (1, 2, 4)), ("adamw", 6, (3,))):
        options = ["--optimizer", optimizer, "--clip", 0.5]
        alone = run(*training(directory, f"alone-{optimizer}", *options, accumulate=accumulate),
                    env=ENVIRONMENT).decode()
        expected = written(directory, f"alone-{optimizer}")
        assert len(expected[1]) == 4 and len(expected[2]) == 3, expected[1]
        for count in counts:
            out = f"{optimizer}-{count}"
            found = ranks(count, *training(directory, out, *options, accumulate=accumulate))
            assert written(directory, out) == expected, f"other bits on {count} ranks"
            assert result_of(found.stdout) == result_of(alone), found.stdout
            assert found.stdout.count("\n") == 1, found.stdout
            assert count == 1 or 0 < json.loads(found.stdout)["communication_share"] < 1, found.stdout
            said = re.search(r"^(\d) ranks, bytes of moments of each: (.*)$", found.stderr, re.M)
            assert bool(said) == (count > 1), found.stderr
            if said:
                shares = list(map(int, said[2].split()))
                assert int(said[1]) == len(shares) == count and max(shares) < 2 * sum(shares) / count


def lose_rank(job_line, out, rank, step, how=signal.SIGKILL, environment=ENVIRONMENT):
    """What a job says that loses a rank when its run has saved a step."""
    begin = time.monotonic()
    with subprocess.Popen(job_line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:
        while not any(int(file.stem.partition("-")[2]) >= step
                      for file in pathlib.Path(f"{out}.training").glob("step-*.train")):
            assert process.poll() is None and time.monotonic() - begin < 120, process.communicate()
            time.sleep(0.01)
        os.kill(process_of(out, rank), how)
        said = "".join(process.communicate(timeout=90))
    assert process.returncode != 0 and not out.exists(), said
    return said


def other_numbers_of_ranks(directory):
    """A run of 4 ranks that lost one goes on with 2, and then with 1, to the bits it would have had."""
    options = {"steps": 60, "every": 6}
    run(*training(directory, "alone", **options), env=ENVIRONMENT)
    out = directory / "killed"
    command = training(directory, "killed", **options)
    said = lose_rank(launch((4, *command)), out, 2, 6)
    # Of MPICH, whichever process ends first is reported: the one killed, or one that waited for it.
    assert re.search("rank 2" if OPENMPI else "BAD TERMINATION", said), said
    command += ["--resume", f"{out}.training"]
    lose_rank(launch((2, *command)), out, 1, 24)
    run(*command, env=ENVIRONMENT)
    assert written(directory, "killed") == written(directory, "alone")


def process_of(out, rank):
    """The process that is a rank of the job that writes out."""
    for entry in pathlib.Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            own = dict(pair.split(b"=", 1) for pair in (entry / "environ").read_bytes().split(b"\0")
                       if b"=" in pair)
        except OSError:
            continue
        is_rank = own.get(b"OMPI_COMM_WORLD_RANK", own.get(b"PMI_RANK")) == str(rank).encode()
        if is_rank and words[0] == str(PROGRAM).encode() and str(out).encode() in words:
            return int(entry.name)
    raise AssertionError(f"no rank {rank}")


def stopped_rank(directory):
    """A rank that hangs ends the job, and is named."""
    command = training(directory, "stopped", accumulate=3, steps=100000)
    said = lose_rank(launch((3, *command)), directory / "stopped", 1, 2, signal.SIGSTOP,
                     {**ENVIRONMENT, "HYDRALM_RANK_PATIENCE": "8"})
    assert "hydralm: rank 1: expected an answer within 8 seconds, found none" in said, said


def refused(result, *parts):
    """The lines of the program among what the launcher says; one, with these parts."""
    lines = [line for line in result.stderr.splitlines() if "hydralm: " in line and "expected" in line]
    assert result.returncode != 0 and len(lines) == 1, result.stderr
    for part in parts:
        assert part in lines[0], lines[0]


def refusals(directory):
    """Ranks that could not have one result are refused, once, by what differs."""
    command = training(directory, "refused")
    other = [directory / "other" if word == directory / "text" else word for word in command]
    refused(job((3, *command)), "hydralm: accumulate: expected 3 ranks times a power of two", "found 4")
    refused(job((2, *other)), f"hydralm: {directory}/other: ")  # neither has it
    refused(job((1, *command), (1, *other)), f"rank 1: hydralm: {directory}/other: ")
    (directory / "other").write_text((directory / "text").read_text().replace("truth", "trust"))
    refused(job((1, *command), (1, *other)), "hydralm: rank 1: training.", "_crc32: expected")
    refused(job((1, *command), (1, *command, "--seed", 5)), "hydralm: rank 1: training.seed: expected 0",
            "found 5")
    assert not (directory / "refused").exists() and not (directory / "refused.training").exists()


def cut_texts(directory):
    """Every text cut over the ranks: losses and weights of one process, to rounding, also of a run that 2 ranks
    begin and 3 end."""
    command = lambda out: training(directory, out, "--cut-text", "--optimizer", "muon", accumulate=3)
    run(*command("alone"), env=ENVIRONMENT)
    ranks(2, *command("cut"))
    step, moved = "step-000000002.train", directory / "moved.training"
    moved.mkdir()
    (moved / step).write_bytes((directory / "cut.training" / step).read_bytes())
    ranks(3, *command("moved"), "--resume", moved)
    expected = written(directory, "alone")[1]
    for out, steps in (("cut", 4), ("moved", 2)):
        lines = written(directory, out)[1]
        assert len(lines) == steps, lines
        for line, other in zip(lines, expected[-steps:]):
            assert line["step"] == other["step"] and line["tokens"] == other["tokens"], (line, other)
            assert abs(line["loss"] / other["loss"] - 1) <= 1e-3, (line, other)
        found, whole = tensors(directory / out), tensors(directory / "alone")
        assert found.keys() == whole.keys() and len(whole) > 10
        for name, values in whole.items():
            assert_near(found[name], values, 1e-3)
    short = [3 if word == 40 else word for word in command("short")]
    refused(job((4, *short)), "text: expected at least a token for each of 4 ranks, found 3")
    dealt = [word for word in command("mixed") if word != "--cut-text"]
    dealt[dealt.index("--accumulate") + 1] = 2
    cut = [*dealt, "--cut-text"]
    refused(job((1, *cut), (1, *dealt)), "hydralm: rank 1: cut texts: expected true, found false")


def evaluation(directory):
    """The sequences of a task are dealt out; the report is that of one process."""
    model = directory / "model.safetensors"
    config = directory / "config.json"
    config.write_text(json.dumps(CONFIG))
    run("init", "--config", config, "--out", model, "--seed", 1)
    command = ["task", "mqar", "--evaluate", "--model", model, "--lengths", "64,200", "--count", 7]
    expected = result_of(run(*command, env=ENVIRONMENT).decode())
    assert len(expected["lengths"]) == 2 and expected["lengths"][0]["answers"] > 50
    for count in (2, 3):
        found = ranks(count, *command)
        assert result_of(found.stdout) == expected and found.stdout.count("\n") == 1, found.stdout
        assert found.stderr.count("length 200:") == 1, found.stderr


def one_text(directory):
    """A text is cut over the ranks; its likelihood, logits and gradients are those of one process, to rounding."""
    model, config, text = (directory / name for name in ("cut.safetensors", "cut.json", "cut.txt"))
    config.write_text(json.dumps({**CONFIG, "n_layers": 6, "swa_every": 4, "retrieval_every": 3}))
    run("init", "--config", config, "--out", model, "--seed", 2, "--scheme", "fan_in")
    text.write_text(" ".join(f"{i}: {TEXT[i % 50:i % 50 + 40]}" for i in range(40)))
    command = ["score", "--model", model, "--text", text]
    for scalar, bound in (("float", 1e-4), ("double", 1e-12)):
        expected = json.loads(run(*command, "--scalar", scalar, env=ENVIRONMENT))
        for count in (1, 2, 4):
            found = ranks(count, *command, "--scalar", scalar)
            assert found.stdout.count("\n") == 1, found.stdout
            result = json.loads(found.stdout)
            assert result.keys() == expected.keys()
            for key, value in expected.items():
                assert abs(result[key] / value - 1) <= bound, (count, key, result[key], value)
    ids = directory / "ids"
    ids.write_text(" ".join(str(byte) for byte in text.read_bytes()[:331]))
    command_of = lambda out: ["logits", "--model", model, "--ids", ids, "--scalar", "double", "--out", out]
    run(*command_of(directory / "alone"), env=ENVIRONMENT)
    ranks(3, *command_of(directory / "cut"))
    found, expected = tensors(directory / "cut"), tensors(directory / "alone")
    assert found.keys() == expected.keys() and len(expected) > 10
    for name, values in expected.items():
        assert_near(found[name], values, 1e-10)
    gradients = ["gradients", "--model", model, "--ids", ids, "--scalar", "double", "--out"]
    run(*gradients, directory / "whole", env=ENVIRONMENT)
    expected = tensors(directory / "whole")
    for count in (2, 3):
        ranks(count, *gradients, directory / "shared")
        found = tensors(directory / "shared")
        assert found.keys() == expected.keys() and len(expected) > 30
        for name, values in expected.items():
            assert_near(found[name], values, 1e-10)
    short = directory / "short.txt"
    for words, expected in (("Too short.", "text: expected at least 64 tokens for 2 ranks, found 10"),
                            ("", "text: expected at least one byte, found none")):
        short.write_text(words)
        refused(job((2, *command[:-1], short)), expected)


run_checks([same_bits, other_numbers_of_ranks, stopped_rank, refusals, cut_texts, evaluation, one_text])
