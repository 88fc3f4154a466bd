#!/usr/bin/env python3
"""A page of Markdown: what ranks cost, on one machine and where its loopback is as slow as a network.

Usage: distributed_report.py PROGRAM TEXT [--turns N] [--slow-turns N] [--steps N]

PROGRAM is of a build with -Dmpi=enabled; OpenMPI starts it. Two ranks of one thread take turns with
one process of two. Then ranks send by TCP in a network namespace, whose loopback interface lets
through so many bits a second (tc tbf) and, where the kernel has netem, delays every packet: which
takes root.
"""

import json
import math
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import typing

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import report
from report import machine, table

CONFIG = {"vocab_size": 256, "d_model": 256, "n_layers": 6, "n_heads": 4}
BATCH, LENGTH = 8, 256
MPIRUN = ("mpirun.openmpi", "--oversubscribe", "--bind-to", "none")
OVER_TCP = ("--mca", "pml", "ob1", "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "lo",
            "--mca", "oob_tcp_if_include", "lo")
# In a new network namespace: $1 slows lo (empty: not), $2 takes what lo carried, the rest runs.
NAMESPACE = """ip link set lo up
[ -z "$1" ] || tc qdisc add dev lo root $1 || exit
carried=$2
shift 2
"$@" || exit
ip -s -j link show lo >"$carried"
"""
GIGABITS = (10, 2, 1, 0.5)
DELAYS = (1, 5)  # ms


def slowed(discipline, carried):
    return ("unshare", "-n", "sh", "-c", NAMESPACE, "sh", discipline, carried)


class Network(typing.NamedTuple):
    name: str
    discipline: str = ""  # of tc
    bandwidth: float = math.inf  # bytes/s, of all ranks together
    delay: float = 0  # seconds, one way


def networks(netem):
    of_rates = [Network(f"{g:g} Gbit/s", f"tbf rate {1000 * g:g}mbit burst 256k latency 1s", g * 1e9 / 8)
                for g in GIGABITS]
    of_delays = [Network(f"{ms} ms", f"netem limit 100000 delay {ms}ms", delay=ms / 1000)
                 for ms in DELAYS]
    return of_rates + (of_delays if netem else [])


class Measurement:
    """Runs of training alike, of so many ranks of one thread; one rank has two threads."""

    def __init__(self, options, directory, ranks, discipline=None):
        self.options, self.directory, self.ranks = options, directory, ranks
        self.discipline = discipline  # None: no namespace
        self.seconds, self.sent = [], []  # of a step
        self.shares = []  # of sending and waiting, of a run
        self.carried = []  # bytes of a run

    def run(self):
        log, carried = self.directory / "log", self.directory / "carried"
        log.unlink(missing_ok=True)
        launcher = () if self.ranks == 1 else (*MPIRUN, "-n", self.ranks)
        if self.discipline is not None:
            launcher = (*slowed(self.discipline, carried), *launcher, *OVER_TCP)
        steps, accumulate = self.options.steps, max(self.ranks, 2)
        said = report.train(self.options.program, self.options.text, self.directory / "model", {
            "config": self.directory / "config.json", "seed": 1, "steps": steps, "batch": BATCH // accumulate,
            "accumulate": accumulate, "seq-len": LENGTH, "eval-every": 0, "log": log},
            threads=2 if self.ranks == 1 else 1, launcher=launcher)
        times = [json.loads(line)["seconds"] for line in log.read_text().splitlines()]
        # The first step takes memory, and the last waits for its checkpoint.
        self.seconds += [b - a for a, b in zip(times[:-2], times[1:-1])]
        if self.ranks > 1:
            self.shares.append(said["communication_share"])
            self.sent.append(said["bytes_sent"] / steps)
        if self.discipline is not None:
            self.carried.append(json.loads(carried.read_text())[0]["stats64"]["tx"]["bytes"])

    def step(self):
        return statistics.median(self.seconds)

    def quartiles(self):
        low, median, high = statistics.quantiles(self.seconds, n=4)
        return f"{median:.3f} ({low:.3f} – {high:.3f})"

    def tokens_per_second(self):
        return f"{BATCH * LENGTH / self.step():,.0f}"

    def share_of_waiting(self):
        return f"{statistics.median(self.shares):.0%}"


def in_turns(measurements, turns):
    for turn in range(turns):
        for measurement in measurements if turn % 2 == 0 else reversed(measurements):
            measurement.run()


def expect_namespaces():
    """Ends with a message where there are none, or no token bucket: before anything is measured."""
    for discipline in "", networks(False)[0].discipline:
        try:
            tried = subprocess.run([*slowed(discipline, "/dev/null"), "true"], text=True,
                                   capture_output=True)
        except FileNotFoundError as missing:
            sys.exit(f"distributed_report.py: {missing.filename} is missing")
        if tried.returncode:
            sys.exit("distributed_report.py: no network namespace with a slow loopback interface here "
                     f"(are you root, is iproute2 installed?): {tried.stderr.strip()}")


def has_netem():
    return subprocess.run([*slowed("netem delay 1ms", "/dev/null"), "true"],
                          capture_output=True).returncode == 0


def side_by_side(options, directory):
    one, two = Measurement(options, directory, 1), Measurement(options, directory, 2)
    in_turns([one, two], options.turns)
    rows = [["one process of two threads", one.quartiles(), one.tokens_per_second(), "", ""],
            ["two ranks of one thread", two.quartiles(), two.tokens_per_second(),
             f"{statistics.median(two.sent) / 1e6:.1f}", two.share_of_waiting()]]
    return one.step() / two.step(), rows


def over_networks(options, directory, parameters, ranks, networks):
    """Rows of a table, and of each network what lo carried of what the formula says."""
    free = Measurement(options, directory, ranks, "")
    slow = [(network, Measurement(options, directory, ranks, network.discipline))
            for network in networks]
    in_turns([free, *(measured for _, measured in slow)], options.slow_turns)
    sent = 2 * 4 * parameters * (ranks - 1)  # in a step, by all ranks
    for_checkpoint = 2 * 4 * parameters * (ranks - 1) / ranks  # moments, to rank 0, once a run
    rows, carried = [], []
    for network, measured in [(Network("as it is"), free), *slow]:
        carried.append(statistics.median(measured.carried) / (options.steps * sent + for_checkpoint))
        expected = free.step() + sent / network.bandwidth + 2 * (ranks - 1) * network.delay
        rows.append([f"{ranks}, {network.name}", measured.quartiles(), measured.share_of_waiting(),
                     "" if measured is free else f"{expected:.3f}"])
    return rows, carried


def main():
    options = report.arguments(("--turns", {"type": int, "default": 5}),
                               ("--slow-turns", {"type": int, "default": 2}),
                               ("--steps", {"type": int, "default": 6}))
    if options.steps < 4:
        sys.exit("distributed_report.py: --steps: expected at least 4: the first and the last do not count")
    expect_namespaces()
    netem = has_netem()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        directory = pathlib.Path(name)
        config = directory / "config.json"
        config.write_text(json.dumps(CONFIG))
        parameters = report.answer(options.program, "info", "--json", "--config", config)["parameter_count"]
        ratio, rows = side_by_side(options, directory)
        slow, carried = [], []
        for ranks in (2, 4):
            of_ranks, shares = over_networks(options, directory, parameters, ranks, networks(netem))
            slow += of_ranks
            carried += shares
    delays = ("Delays (`netem`) are of every packet, one way." if netem else
              "This kernel has no `netem`: nothing was delayed, and what latency costs is not measured.")
    print(f"""# Ranks

Measured by `./run reports distributed-report` on {machine()}, {platform.machine()}: training of a model of d {CONFIG['d_model']} and {CONFIG['n_layers']} layers,
{parameters:,} parameters, in batches of {BATCH} × {LENGTH} tokens, by OpenMPI on one machine. Seconds are of a step: median and
quartiles of {options.steps - 2} steps of each of the runs, which take turns. Sending and waiting: of rank 0, for others too, in parts of a whole run.

## Two ranks against two threads

{options.turns} runs of each, `--accumulate 2 --batch {BATCH // 2}`. Two ranks have {ratio:.0%} of the tokens a second of one process.

{table(["", "seconds", "tokens/s", "a rank sends, MB", "sending and waiting"], rows)}

## A slow network

Ranks of one thread in a network namespace, by TCP over its loopback interface, {options.slow_turns} runs of each; all ranks share {os.cpu_count()} cores.
A token bucket (`tc qdisc … tbf`) lets so many bits a second through, of all ranks together. {delays}

Expected is the step of the interface as it is, and to it what [the formula](distributed.md#what-it-costs) says, with the bytes of all ranks over one
interface: as if nothing were sent beside the computation. The interface carried {min(carried):.3f} to {max(carried):.3f} times the formula's bytes and
the moments for the checkpoint.

{table(["ranks, interface", "seconds", "sending and waiting", "seconds expected"], slow)}""")


if __name__ == "__main__":
    main()
