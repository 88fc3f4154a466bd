#!/usr/bin/env python3
"""What `train` refuses, and what it leaves when it does. Arguments: the program, the golden vectors."""

import json
import os
import pathlib
import resource
import shutil
import signal
import struct
import subprocess
import sys
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from program import PROGRAM, TEXT, refusal, run, run_checks

OTHER = "resume from another checkpoint of the run"


def begun(directory, steps=4, save_every=2):
    """The command of a run, and the directory of its checkpoints."""
    text = directory / "text"
    text.write_text(TEXT)
    command = ["train", "--out", directory / "model.safetensors", "--text", text, "--steps", steps,
               "--batch", 1, "--seq-len", 16, "--keep", 2, "--save-every", save_every]
    return command, directory / "model.training"


def trained(directory):
    """The command that resumes a run, and the run's two checkpoints."""
    command, checkpoints = begun(directory)
    run(*command)
    (directory / "model.safetensors").unlink()
    return [*command, "--resume", checkpoints], sorted(checkpoints.glob("step-*.train"))


class StateFile:
    """The bytes of a state file, its sections by name, and a checksum that is right."""

    def __init__(self, content):
        self.content, self.places = bytearray(content), {}
        end = 24 + int.from_bytes(content[12:16], "little")
        for name, size in json.loads(content[24:end])["sections"]:
            end = -(-end // 64) * 64
            self.places[name] = end
            end += size

    def put(self, name, code, index, value):
        struct.pack_into("<" + code, self.content,
                         self.places[name] + struct.calcsize(code) * index, value)

    def bytes(self):
        return self.content[:-4] + struct.pack("<I", zlib.crc32(self.content[:-4]))


def hostile_checkpoints(directory):
    """Numbers that training does not come to are refused, whatever the checksum says."""
    resume, (before, newest) = trained(directory)
    good = newest.read_bytes()
    after_two = before.read_bytes()
    before.unlink()
    files = set(newest.parent.iterdir())
    for name, code, index, value, expected in (
            ("progress", "q", 0, -1, "steps: expected a number in [0, 4], found -1"),
            ("progress", "q", 0, 2**62, "steps: expected a number in [0, 4], found 46116860184273"),
            ("progress", "q", 0, -2**40, "steps: expected a number in [0, 4], found -1099511627776"),
            ("progress", "q", 1, -1, "tokens: expected a number in [0, "),
            ("progress", "q", 2, -1, "optimiser steps: expected a number in [0, 4], found -1"),
            ("progress", "q", 2, 2**63 - 1, "optimiser steps: expected a number in [0, 4]"),
            ("parameters", "f", 5, float("nan"), "parameters of embed.weight: expected finite"),
            ("first_moment", "f", 5, float("inf"), "first_moment of embed.weight: expected finite"),
            ("second_moment", "f", 5, -1.0, "second_moment of embed.weight: expected finite")):
        file = StateFile(good)
        file.put(name, code, index, value)
        newest.write_bytes(file.bytes())
        line = refusal(*resume)
        assert str(newest) in line and expected in line and OTHER in line, line
        assert set(newest.parent.iterdir()) == files and not pathlib.Path(resume[2]).exists()

    damaged = bytearray(good)
    damaged[len(good) // 2] ^= 1
    newest.write_bytes(damaged)
    line = refusal(*resume)
    assert f"{newest}: checksum: expected" in line, line
    damaged = bytearray(good)
    damaged[8] = 1
    newest.write_bytes(damaged)
    line = refusal(*resume)
    assert f"{newest}: version: expected 2, found 1" in line, line

    # What training goes on from is no model; the refusal says where one lies.
    for path in newest, newest.parent:
        line = refusal("info", "--model", path)
        assert f"{path}: expected a checkpoint of weights" in line and "best" in line, line

    # The checkpoint before it takes over, to the same bits.
    newest.write_bytes(good)
    run(*resume)
    expected = pathlib.Path(resume[2]).read_bytes()
    newest.write_bytes(file.bytes())
    before.write_bytes(after_two)
    run(*resume)
    assert pathlib.Path(resume[2]).read_bytes() == expected


def no_numbers(directory):
    """What cannot be trained is refused, and a good model stays."""
    command, checkpoints = begun(directory, steps=1)
    out = directory / "model.safetensors"
    out.write_text("a good model")
    for optimizer in ("adamw", "muon"):
        line = refusal(*command, "--lr", "1e308", "--optimizer", optimizer)
        assert "step 1: expected a finite update, found NaN or infinity in" in line, line
        assert ".weight; lower the learning rate" in line, line
        assert out.read_text() == "a good model" and list(checkpoints.iterdir()) == []
    for option in "--min-lr", "--clip":
        line = refusal(*command, option, "nan")
        assert "expected" in line and "found nan" in line, line
    line = refusal(*command, "--min-lr", "1e308")
    assert "least learning rate: expected in [0, the learning rate], found 1e+308" in line, line


def unusual_logs(directory):
    """A log that cannot be opened is refused before a step is made, and nothing waits for a pipe; a
    device is taken."""
    command, checkpoints = begun(directory)
    os.mkfifo(directory / "pipe")
    cases = ((directory, "found Is a directory"),
             (directory / "pipe", "found No such device or address"),  # nobody reads it
             (directory / "none" / "log", "found No such file or directory; create its directory"))
    for log, part in cases:
        line = refusal(*command, "--log", log, timeout=60)
        assert f"{log}: expected a log to append to" in line and part in line, line
        assert list(checkpoints.iterdir()) == []
    run(*command)
    for log, part in cases:
        line = refusal(*command, "--log", log, "--resume", checkpoints, timeout=60)
        assert part in line, line
    (directory / "other").mkdir()
    command, _ = begun(directory / "other")
    result = subprocess.run([PROGRAM, *map(str, command), "--log", "/dev/stderr"], check=True,
                            capture_output=True, text=True)
    assert result.stderr.count('{"step":') == 4, result.stderr


def full_log(directory):
    """When the log is full, the run is saved, and goes on to the same bits."""
    command, checkpoints = begun(directory, steps=9, save_every=1000)
    out, log = pathlib.Path(command[2]), directory / "log"
    run(*command)
    expected = out.read_bytes()
    out.unlink()
    shutil.rmtree(checkpoints)

    limit = 1 << 26  # which no checkpoint comes near
    with log.open("wb") as file:
        file.truncate(limit - 501)
        file.seek(0, os.SEEK_END)
        file.write(b"\n")

    def no_room():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    result = subprocess.run([PROGRAM, *map(str, command), "--log", log], capture_output=True,
                            text=True, preexec_fn=no_room)
    last = result.stderr.splitlines()[-1]
    assert result.returncode == 1 and "to append a line, found File too large" in last, last
    assert "then resume the run" in last and not out.exists(), last
    with log.open("rb") as file:
        file.seek(limit - 500)
        lines = file.read().decode()
    assert lines.endswith("}\n"), lines
    steps = [json.loads(line)["step"] for line in lines.splitlines()]
    (saved,) = checkpoints.glob("step-*.train")
    assert steps == list(range(1, len(steps) + 1)) and f"{len(steps) + 1}.train" in saved.name
    run(*command, "--resume", checkpoints, "--log", directory / "another")
    assert out.read_bytes() == expected, "other bits after a full log"


def killed_saves(directory):
    """What a killed save left is removed when the run goes on."""
    resume, (_, newest) = trained(directory)
    process = subprocess.Popen(["true"])
    process.wait()
    gone = newest.with_name(f"{newest.name}.{process.pid}-17.tmp")
    alive = newest.with_name(f"{newest.name}.{os.getpid()}-17.tmp")
    for path in (gone, alive):
        path.write_text("half")
    run(*resume)
    assert not gone.exists() and alive.exists()


run_checks([hostile_checkpoints, no_numbers, unusual_logs, full_log, killed_saves])
