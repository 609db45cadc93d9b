"""A project whose steps leave a ledger outside the journal, and processes that run it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.cli.conftest import environment

CONFIG = """
[agent_flow]
name = "desk"
entrypoint = "handlers"

[orchestration]
mode = "sequential"
sequential_agents = ["write", "publish", "tell"]

[agents.write]
[agents.publish]
requires_approval = true
[agents.tell]
[agents.slow]
[agents.deadly]
"""

HANDLERS = """
import asyncio
import os
import signal
from pathlib import Path

from agentflow import agent


def note(name):
    with Path("ledger").open("a") as ledger:
        ledger.write(name + "\\n")


@agent("write")
async def write(event, state):
    note("write")
    return {"text": "tea"}


@agent("publish")
async def publish(event, state):
    note("publish")
    return {"published": True}


@agent("tell")
async def tell(event, state):
    note("tell")
    if state.get("is_failing"):
        raise ValueError("no way")
    return {"told": True}


@agent("slow")
async def slow(event, state):
    note("slow")
    for _ in range(600):
        if Path("go").exists():
            break
        await asyncio.sleep(0.05)
    return {"slept": True}


@agent("deadly")
async def deadly(event, state):
    note("deadly")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def steps(*agents: str, mode: str = "sequential") -> tuple[str, ...]:
    """Return the options that make these agents the plan."""
    listed = "[" + ", ".join(f'"{agent}"' for agent in agents) + "]"
    return "--config-set", f"orchestration.mode={mode}", "--config-set", f"orchestration.{mode}_agents={listed}"


def ledger(project: Path) -> list[str]:
    """Return what the handlers have noted."""
    path = project / "ledger"
    return path.read_text(encoding="utf-8").split() if path.exists() else []


class Running:
    """`agentflow run` in a process of its own; `run_id` is the run that it has accepted first."""

    def __init__(self, process: subprocess.Popen[str], run_id: str) -> None:
        self.process = process
        self.run_id = run_id

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; return exit code, stdout and stderr."""
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


@contextmanager
def running(project: Path, *words: str) -> Iterator[Running]:
    """Start `agentflow run` and go on once its run is accepted, and in the handler of `slow`; end it at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "agentflow", "run", *words],
        cwd=project,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        run_id = _accepted(process.stderr)
        until = time.monotonic() + 10
        while "slow" not in ledger(project):
            assert time.monotonic() < until
            time.sleep(0.01)
        yield Running(process, run_id)
    finally:
        process.kill()
        process.communicate()


def _accepted(stream: IO[str] | None) -> str:
    assert stream is not None
    seen = ""
    while not seen.endswith("accepted\n"):
        line = stream.readline()
        assert line, f"ended before a run was accepted: {seen}"
        seen += line
    return seen.splitlines()[-1].split()[0]
