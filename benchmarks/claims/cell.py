"""Cells: the pieces that claims are measured in. A finished cell is kept, and not run again.

A cell is what its definition says, a JSON value; with another definition, or other cells below it, it is
another cell. Its result is one file, written whole or not at all, so a run may be killed at any moment.
"""

import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait


@dataclasses.dataclass(frozen=True)
class Cell:
    name: str  # C2/8 pairs/hybrid/seed 1
    definition: object
    run: object  # run(work, cell) -> a JSON object
    seconds: float  # expected, on two cores
    needs: tuple = ()
    alone: bool = False  # measures time or memory: nothing runs beside it
    threads: int | None = None  # what its definition says of them, if anything

    def key(self):
        said = json.dumps([self.definition, [cell.key() for cell in self.needs]], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()

    def slug(self):
        return re.sub(r"[^A-Za-z0-9.]+", "-", self.name)


class Failed(Exception):
    """A command of a cell failed; the text says which and how."""


class Work:
    """The directory of a run: what its cells found and made, and the programs they call."""

    def __init__(self, directory, programs, circumstances):
        self.directory = pathlib.Path(directory)
        self.programs = programs  # name -> path
        self.circumstances = circumstances  # commit, machine
        self.children, self.stopped, self.lock = set(), False, threading.Lock()
        self.directory.mkdir(parents=True, exist_ok=True)

    def record(self, cell):
        """The file of a cell's result."""
        return self.directory / (cell.slug() + ".json")

    def file(self, cell, suffix):
        """Where a cell as it is defined now keeps something beside its result: models, configs."""
        return self.directory / f"{cell.slug()}-{cell.key()[:8]}{suffix}"

    def stored(self, cell):
        """What is on record of this cell as it is defined now, or None."""
        try:
            record = json.loads(self.record(cell).read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return record if record.get("key") == cell.key() else None

    def result(self, cell):
        return self.stored(cell)["result"]

    def store(self, cell, result, seconds):
        record = {"name": cell.name, "key": cell.key(), "definition": cell.definition,
                  "result": result, "seconds": seconds,
                  "date": datetime.date.today().isoformat(), **self.circumstances}
        target = self.record(cell)
        unfinished = target.with_suffix(".json.partial")
        unfinished.write_text(json.dumps(record, indent=1) + "\n")
        os.replace(unfinished, target)

    def call(self, program, *arguments, threads=1):
        """The JSON object on the last line of what `program arguments` prints."""
        return json.loads(self.text(program, *arguments, threads=threads).splitlines()[-1])

    def text(self, program, *arguments, threads=1):
        """What `program arguments` prints. Raises Failed for another exit status than 0."""
        command = [str(self.programs[program]), *(str(a) for a in arguments)]
        environment = dict(os.environ, HYDRALM_NUM_THREADS=str(threads))
        with self.lock:
            if self.stopped:
                raise Failed("stopped")
            child = subprocess.Popen(command, text=True, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, env=environment)
            self.children.add(child)
        try:
            out, complaint = child.communicate()
        finally:
            with self.lock:
                self.children.discard(child)
        if child.returncode:
            last = complaint.strip().splitlines()[-1:] or ["no message"]
            raise Failed(f"{' '.join(command)}\n  ended with {child.returncode}: {last[0]}")
        return out

    def stop(self):
        with self.lock:
            self.stopped = True
            for child in self.children:
                child.terminate()


def in_order(cells):
    """All cells, and those they need, each once and behind what it needs."""
    seen, order = set(), []

    def visit(cell):
        if cell.name not in seen:
            seen.add(cell.name)
            for below in cell.needs:
                visit(below)
            order.append(cell)
    for cell in cells:
        visit(cell)
    return order


class Progress:
    def __init__(self, say, todo):
        self.say, self.left, self.done = say, {cell.name: cell.seconds for cell in todo}, 0
        self.count, self.expected, self.begin = len(todo), 0.0, time.monotonic()

    def finished(self, cell, seconds, failure):
        self.done += 1
        self.expected += self.left.pop(cell.name)
        took = time.monotonic() - self.begin
        remaining = sum(self.left.values()) * took / max(self.expected, 1e-9)
        self.say(f"{self.done} of {self.count} cells, {cell.name}: "
                 + (f"failed: {failure}" if failure else f"{seconds:.0f} s")
                 + (f"; about {remaining / 60:.0f} minutes to go" if self.left else ""))


def run_cells(cells, work, say, again=False, workers=None):
    """Runs what is not on record. Returns {name: message} of the cells that failed.

    Cells that only learn or answer run beside each other, one thread each; those that measure time or
    memory run behind them, one by one. What needs a cell that failed fails with it.
    """
    order = in_order(cells)
    todo = [cell for cell in order if again or work.stored(cell) is None]
    for cell in todo:
        work.record(cell).unlink(missing_ok=True)
    progress, failures, done = Progress(say, todo), {}, set()
    done.update(cell.name for cell in order if cell not in todo)

    def run(cell):
        begin = time.monotonic()
        result = cell.run(work, cell)
        seconds = time.monotonic() - begin
        work.store(cell, result, seconds)
        return seconds

    def broken(cell):
        return next((f"needs {below.name}" for below in cell.needs if below.name in failures), None)

    def settle(cell, future):
        try:
            seconds, failure = future.result(), None
        except (Failed, OSError, KeyError, ValueError, IndexError) as error:
            seconds, failure = 0.0, str(error) or type(error).__name__
            failures[cell.name] = failure
        done.add(cell.name)
        progress.finished(cell, seconds, failure)

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        running, waiting = {}, list(todo)
        try:
            while waiting or running:
                for cell in list(waiting):
                    if (failure := broken(cell)) is not None:
                        waiting.remove(cell)
                        failures[cell.name] = failure
                        done.add(cell.name)
                        progress.finished(cell, 0.0, failure)
                ready = [c for c in waiting if all(b.name in done for b in c.needs)]
                beside = [c for c in ready if not c.alone]
                room = (workers or os.cpu_count()) - len(running)
                start = beside[:room] if beside or running else ready[:1]
                for cell in start:
                    waiting.remove(cell)
                    running[pool.submit(run, cell)] = cell
                if running:
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        settle(running.pop(future), future)
        except BaseException:
            work.stop()
            raise
    return failures


def stop_on_signals():
    """SIGTERM ends a run as Ctrl-C does: what runs is stopped, what is finished stays."""
    def interrupt(number, frame):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, interrupt)
