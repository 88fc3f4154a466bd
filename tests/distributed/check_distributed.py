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
from program import PROGRAM, TEXT, run, run_checks

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


def training(directory, out, *options, accumulate=4, steps=4):
    text, config = directory / "text", directory / "config.json"
    if not config.exists():
        text.write_text("".join(f"{i}: {TEXT[i:i + 60]}\n" for i in range(400)))
        config.write_text(json.dumps(CONFIG))
    return ["train", "--out", directory / out, "--text", text, "--config", config, "--steps", steps,
            "--batch", 2, "--seq-len", 40, "--accumulate", accumulate, "--eval-every", 2, "--save-every",
            2, "--log", directory / f"{out}.log", *options]


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
    for key in ("seconds", "tokens_per_second", "ranks", "bytes_sent", "communication_seconds"):
        result.pop(key, None)
    for length in result.get("lengths", []):
        del length["seconds"]
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
            said = re.search(r"^(\d) ranks, bytes of moments of each: (.*)$", found.stderr, re.M)
            assert bool(said) == (count > 1), found.stderr
            if said:
                shares = list(map(int, said[2].split()))
                assert int(said[1]) == len(shares) == count and max(shares) < 2 * sum(shares) / count


def other_numbers_of_ranks(directory):
    """A run of 4 ranks that lost one goes on with 2, and then with 1, to the bits it would have had."""
    run(*training(directory, "alone", steps=12), env=ENVIRONMENT)
    expected = written(directory, "alone")
    command = training(directory, "killed", steps=12)
    begin, checkpoint = time.monotonic(), directory / "killed.training" / "step-000000002.train"
    with subprocess.Popen(launch((4, *command)), env=ENVIRONMENT, stderr=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        while not checkpoint.exists():
            assert process.poll() is None and time.monotonic() - begin < 120, process.communicate()
            time.sleep(0.01)
        os.kill(process_of(directory / "killed", 2), signal.SIGKILL)
        said = "".join(process.communicate(timeout=60))
    assert process.returncode != 0 and not (directory / "killed").exists(), said
    assert re.search("rank 2" if OPENMPI else "(?i)killed", said), said
    resume = [*command, "--resume", directory / "killed.training"]
    with subprocess.Popen(launch((2, *resume)), env=ENVIRONMENT, stderr=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        later = directory / "killed.training" / "step-000000008.train"
        while process.poll() is None and not later.exists():
            time.sleep(0.01)
        if process.poll() is None:
            os.kill(process_of(directory / "killed", 1), signal.SIGKILL)
        process.communicate(timeout=60)
    run(*resume, env=ENVIRONMENT)
    assert written(directory, "killed") == expected


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
    options = {"env": {**ENVIRONMENT, "HYDRALM_RANK_PATIENCE": "8"}, "text": True}
    begin, checkpoint = time.monotonic(), directory / "stopped.training" / "step-000000002.train"
    with subprocess.Popen(launch((3, *command)), stderr=subprocess.PIPE,
                          stdout=subprocess.PIPE, **options) as process:
        while not checkpoint.exists():
            assert process.poll() is None and time.monotonic() - begin < 120, process.communicate()
            time.sleep(0.01)
        os.kill(process_of(directory / "stopped", 1), signal.SIGSTOP)
        _, said = process.communicate(timeout=90)
    assert process.returncode != 0, said
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


run_checks([same_bits, other_numbers_of_ranks, stopped_rank, refusals, evaluation])
