"""Measures W10: what starting costs, in CPU seconds of whole processes, and how much has to be installed."""

from __future__ import annotations

import importlib.metadata
import os
import random
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.catalog import Entry
from benchmarks.driver import ROOT, Settings, pinned

ROUNDS = 7
TOOLS = {"pip", "setuptools", "wheel"}
COUNT = f"import importlib.metadata as m; print(len({{d.name.lower() for d in m.distributions()}} - {TOOLS!r}))"


@dataclass
class Start:
    """Holds what starting one command costs; CPU is user and system time together, in seconds."""

    title: str
    command: list[str]
    distributions: int | None = None
    failure: str = ""
    seconds: list[float] = field(default_factory=list)

    @property
    def least(self) -> float | None:
        """The smallest cost measured."""
        return min(self.seconds, default=None)

    @property
    def median(self) -> float | None:
        """The median cost."""
        return median(self.seconds) if self.seconds else None


def measure(entries: list[Entry], settings: Settings) -> list[Start]:
    """Start each command a few times, in a new order each round; the first round only fills the bytecode caches."""
    starts = [*own_starts(), *peer_starts(entries, settings.peers)]
    for number in range(ROUNDS + 1):
        settings.say(f"W10: round {number} of {ROUNDS}")
        random.shuffle(order := list(starts))
        for start in order:
            if start.failure:
                continue
            seconds, start.failure = cpu_seconds(start.command, settings.cpu)
            if number and not start.failure:
                start.seconds.append(seconds)
    return starts


def own_starts() -> list[Start]:
    """Return the commands of agentflow, and the bare import they are compared with."""
    script = Path(sys.executable).parent / "agentflow"
    command = [str(script)] if script.exists() else [sys.executable, "-m", "agentflow"]
    imports = ("import asyncio", "import agentflow", "from agentflow import Runner, Event")
    starts = [Start(text, [sys.executable, "-c", text]) for text in imports]
    starts[-1].distributions = core_distributions("agentflow")
    return [*starts, *(Start(f"agentflow {word}", [*command, word]) for word in ("version", "--help"))]


def peer_starts(entries: list[Entry], peers: Path | None) -> list[Start]:
    """Return the import of each peer; what is installed is counted where the peer has an environment of its own."""
    starts = []
    for entry in entries:
        python = entry.python(peers)
        if not entry.statement or python is None:
            continue
        start = Start(f"{entry.label}: {entry.statement}", [python, "-W", "ignore", "-c", entry.statement])
        if python != sys.executable:
            start.distributions = int(subprocess.check_output([python, "-c", COUNT], text=True))
        starts.append(start)
    return starts


def cpu_seconds(command: list[str], cpu: int | None) -> tuple[float, str]:
    """Run a command to its end; return its CPU seconds, children included, and why it failed (empty: it did not)."""
    with pinned(cpu):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    complaint = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        return 0.0, (complaint.strip().splitlines() or [f"exit code {process.returncode}"])[-1][:120]
    return usage.ru_utime + usage.ru_stime, ""


def core_distributions(name: str) -> int | None:
    """Count a distribution and all that it requires without extras; None when that cannot be told here."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return None
    found: set[str] = set()
    waiting = [(name, frozenset({""}))]
    while waiting:
        current, extras = waiting.pop()
        try:
            requires = importlib.metadata.requires(current) or []
        except importlib.metadata.PackageNotFoundError:
            return None
        found.add(re.sub(r"[-_.]+", "-", current).lower())
        for requirement in map(Requirement, requires):
            marker = requirement.marker
            wanted = marker is None or any(marker.evaluate({"extra": extra}) for extra in extras)
            if wanted and re.sub(r"[-_.]+", "-", requirement.name).lower() not in found:
                waiting.append((requirement.name, frozenset({"", *requirement.extras})))
    return len(found)
