"""Counts what a durable step asks of the kernel: syncs and bytes written, under strace."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.catalog import Entry
from benchmarks.driver import Settings, WorkerProcess
from benchmarks.workloads import WORKLOADS

WORKLOAD = "W6"
SYNCS = ("fsync", "fdatasync", "sync_file_range", "msync")
WRITES = ("write", "pwrite64", "writev", "pwritev", "pwritev2")
# "4427  pwrite64(4</tmp/x/j.db-wal>, ""..., 24, 32) = 24", where another thread came between in two lines.
BEGUN = re.compile(r"^(\d+) +(\w+)\(\d+<([^>]*)>")
RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>")
RETURNED = re.compile(r"= (\d+)$")


@dataclass(frozen=True)
class Calls:
    """Holds what one contender's steps asked for: syncs an event, bytes written a step; or why it was not counted."""

    syncs: float = 0.0
    written: float = 0.0
    failure: str = ""


@dataclass
class Traced:
    """Holds the counts of all contenders; `reason` says why there are none."""

    lines: dict[str, Calls] = field(default_factory=dict)
    reason: str = ""


def count_calls(entries: list[Entry], settings: Settings) -> Traced:
    """Run W6 of each contender once under strace."""
    if reason := unavailable():
        settings.say(f"{WORKLOAD}: calls are not counted: {reason}")
        return Traced(reason=reason)
    traced = Traced()
    for entry in entries:
        python = entry.python(settings.peers)
        if python is None or not entry.takes(WORKLOADS[WORKLOAD]):
            continue
        settings.say(f"{WORKLOAD}: counting the calls of {entry.label}")
        with tempfile.TemporaryDirectory(dir=settings.journals) as folder:
            traced.lines[entry.label] = _counted(entry, python, settings.cpu, Path(folder).resolve())
    return traced


def unavailable() -> str:
    """Say why nothing can be traced here; "" when it can."""
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed"
    tried = subprocess.run([strace, "-f", "-qq", "-o", "/dev/null", "true"], capture_output=True, text=True)
    return f"strace does not work here: {tried.stderr.strip()[:120]}" if tried.returncode else ""


def _counted(entry: Entry, python: str, cpu: int | None, folder: Path) -> Calls:
    trace = folder / "trace"
    journals = folder / "journals"
    journals.mkdir()
    prefix = ("strace", "-f", "-qq", "-y", "-s", "0", "-o", str(trace), "-e", f"trace={','.join((*SYNCS, *WRITES))}")
    with tempfile.TemporaryFile("w+") as log:
        worker = WorkerProcess(entry, python, cpu, log, journals, prefix)
        reply = worker.reply()
        for operation in ("prepare", "trace"):
            if reply["ok"]:
                reply = worker.ask(op=operation, workload=WORKLOAD, seconds=0.0)
        worker.quit()
    if not reply["ok"]:
        return Calls(failure=reply["error"])
    syncs, written = tally(trace.read_text().splitlines(), str(journals))
    return Calls(syncs / reply["sample"]["events"], written / reply["sample"]["steps"])


def tally(lines: Iterable[str], folder: str) -> tuple[int, int]:
    """Return how many syncs there are between the two marks in what strace wrote, and how many bytes went into a folder."""
    syncs = written = marks = 0
    pending: dict[str, str] = {}  # thread -> the file of the call it is in
    for line in lines:
        if begun := BEGUN.match(line):
            thread, call, file = begun.groups()
            if line.endswith("<unfinished ...>"):
                pending[thread] = file
                continue
        elif resumed := RESUMED.match(line):
            thread, call = resumed.groups()
            file = pending.pop(thread, "")
        else:
            continue
        marks += file.startswith("/dev/null")
        if marks != 1 or not file.startswith(folder):
            continue
        if call in SYNCS:
            syncs += 1
        elif returned := RETURNED.search(line):
            written += int(returned[1])
    return syncs, written
