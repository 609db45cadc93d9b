"""Runs the contenders' processes: all are prepared first, then measured in rounds, one at a time, in a new order each."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TextIO

from benchmarks.catalog import Entry
from benchmarks.workloads import WORKLOADS, Workload

ROOT = Path(__file__).resolve().parent.parent
REPLY_SECONDS = 180.0
SAMPLING_SECONDS = 10.0  # a contender that has used so many on one workload is not sampled again
DURABLE_SAMPLING_SECONDS = 6.0


@dataclass
class Line:
    """Holds what was measured of one contender on one workload; times in microseconds, memory in kilobytes."""

    failure: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    samples: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    spent: float = 0.0

    def add(self, sample: dict[str, float]) -> None:
        """Keep one measurement."""
        for name, value in sample.items():
            self.samples.setdefault(name, []).append(value)

    def least(self, name: str) -> float | None:
        """Return the smallest value measured, or None when there is none."""
        return min(self.samples[name]) if self.samples.get(name) else None

    def median(self, name: str) -> float | None:
        """Return the median of the values measured, or None when there is none."""
        return median(self.samples[name]) if self.samples.get(name) else None


Results = dict[str, dict[str, Line]]  # workload id -> label -> line


@dataclass(frozen=True)
class Settings:
    """Says how to measure: rounds, the core to pin to (None: not pinned), seconds a sample, where peers and journals are."""

    rounds: int
    seconds: float
    cpu: int | None
    peers: Path | None
    say: Callable[[str], None]
    journals: Path | None = None  # None: where the system keeps temporary files


@dataclass(frozen=True)
class Place:
    """Says where the workers of a group leave what they print, and their journals."""

    log: TextIO
    folder: Path


@contextlib.contextmanager
def pinned(cpu: int | None) -> Iterator[None]:
    """Pin processes started within to one core; the caller is set back afterwards."""
    if cpu is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class WorkerProcess:
    """Talks to one worker; see `benchmarks.worker` for the protocol. Its journals go into `folder`."""

    def __init__(self, entry: Entry, python: str, cpu: int | None, log: TextIO, folder: Path, prefix: tuple[str, ...] = ()) -> None:
        self.label = entry.label
        command = [*prefix, python, "-m", "benchmarks.worker", entry.module, entry.class_name]
        environment = {**os.environ, "PYTHONHASHSEED": "0", "TMPDIR": str(folder)}
        with pinned(cpu):
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                bufsize=1,
            )

    def reply(self) -> dict[str, Any]:
        """Wait for the next reply; one that does not come in time ends the worker."""
        output = self._process.stdout
        assert output is not None
        ready, _, _ = select.select([output], [], [], REPLY_SECONDS)
        if not ready:
            self._process.kill()
            return {"ok": False, "error": f"no reply within {REPLY_SECONDS:.0f} s"}
        line = output.readline()
        return dict(json.loads(line)) if line else {"ok": False, "error": "its process ended"}

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send one request and return its reply."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
        except BrokenPipeError:
            return {"ok": False, "error": "its process ended"}
        return self.reply()

    def quit(self) -> None:
        """End the worker."""
        with contextlib.suppress(BrokenPipeError):
            assert self._process.stdin is not None
            self._process.stdin.write('{"op": "quit"}\n')
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def run_group(workloads: list[Workload], entries: list[Entry], settings: Settings) -> Results:
    """Measure workloads that are reported together, so that their figures come from the same minutes."""
    results: Results = {workload.id: {} for workload in workloads}
    with tempfile.TemporaryFile("w+") as log, tempfile.TemporaryDirectory(dir=settings.journals) as folder:
        place = Place(log, Path(folder))
        workers = [worker for entry in entries if (worker := _prepared(entry, workloads, results, settings, place)) is not None]
        for number in range(settings.rounds):
            settings.say(f"{_names(workloads)}: round {number + 1} of {settings.rounds}")
            random.shuffle(workers)
            for worker in workers:
                for lines in results.values():
                    _sample(worker, lines, results)
        for worker in workers:
            for name, lines in results.items():
                if _measurable(lines.get(worker.label)):
                    reply = worker.ask(op="memory", workload=name)
                    lines[worker.label].memory = reply.get("sample", {})
            worker.quit()
    return results


def _names(workloads: list[Workload]) -> str:
    return ", ".join(workload.id for workload in workloads)


def _measurable(line: Line | None) -> bool:
    return line is not None and not line.failure


def _prepared(entry: Entry, workloads: list[Workload], results: Results, settings: Settings, place: Place) -> WorkerProcess | None:
    """Start the worker of one contender and prepare its workloads; None when it has nothing to measure."""
    python = entry.python(settings.peers)
    wanted = [workload for workload in workloads if entry.takes(workload)]
    if python is None or not wanted:
        return None
    settings.say(f"{_names(wanted)}: preparing {entry.label}")
    worker = WorkerProcess(entry, python, settings.cpu, place.log, place.folder)
    started = worker.reply()
    for workload in wanted:
        line = results[workload.id][entry.label] = Line()
        reply = started
        if started["ok"]:
            reply = worker.ask(op="prepare", workload=workload.id, seconds=settings.seconds)
        line.versions = reply.get("versions", {})
        if not reply["ok"]:
            line.failure = reply["error"]
            settings.say(f"{workload.id}: {entry.label}: {line.failure}")
    if any(_measurable(results[workload.id][entry.label]) for workload in wanted):
        return worker
    worker.quit()
    return None


def _sample(worker: WorkerProcess, lines: dict[str, Line], results: Results) -> None:
    """Take one measurement of one workload, unless the contender has used up its time."""
    line = lines.get(worker.label)
    name = next(name for name, held in results.items() if held is lines)
    most = DURABLE_SAMPLING_SECONDS if WORKLOADS[name].is_durable else SAMPLING_SECONDS
    if line is None or line.failure or line.spent > most:
        return
    start = time.perf_counter()
    reply = worker.ask(op="sample", workload=name)
    line.spent += time.perf_counter() - start
    if reply["ok"]:
        line.add(reply["sample"])
    else:
        line.failure = reply["error"]
