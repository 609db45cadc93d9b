"""The real `agentflow serve` in a process of its own, and what a client needs to ask it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import httpx2

CONFIG = """
[agent_flow]
name = "served"
entrypoint = "handlers"
[orchestration]
mode = "sequential"
sequential_agents = ["first", "second"]
[agents.first]
[agents.second]
[runner]
drain_timeout_seconds = 5
cancel_grace_seconds = 0.2
[serve]
port = 0
"""

HANDLERS = """
import asyncio, time
from pathlib import Path
from agentflow import agent

def note(text):
    with Path("ledger").open("a") as ledger:
        ledger.write(text + "\\n")

@agent("first")
async def first(event, state, ctx):
    note(f"first {event.data.get('n')} {ctx.idempotency_key}")
    return {"one": 1}

@agent("second")
async def second(event, state, ctx):
    if event.data.get("block"):
        while True:
            time.sleep(0.1)
    await asyncio.sleep(event.data.get("sleep", 0))
    note(f"second {event.data.get('n')} {ctx.idempotency_key}")
    return {"two": 2}
"""
WAIT_S = 30.0


class Serving:
    """A process that serves.

    Attributes:
        url: where.
        token: what its clients need.
        told: the lines that it has said on stderr until it served.
    """

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self.told: list[str] = []
        assert process.stderr is not None
        self._stderr: IO[str] = process.stderr
        self.url = ""
        for line in self._stderr:
            self.told.append(line)
            found = re.match(r"serving at (\S+); the token is in (\S+?)(, made just now)?$", line)
            if found:
                self.url = found[1]
                self.token = Path(found[2]).read_text().strip()
                break
        assert self.url, "".join(self.told)
        self.folder = folder
        self.client = self.new_client()

    def new_client(self, **options: Any) -> httpx2.Client:
        """Return a client with the token."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx2.Client(base_url=self.url, headers=headers, trust_env=False, timeout=WAIT_S, **options)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for the end, and return the exit code."""
        return self.process.wait(WAIT_S)

    def next_line(self) -> str:
        """Return the next line that it says on stderr."""
        return self._stderr.readline()

    def rest(self) -> str:
        """Return what else it has said on stderr."""
        return self._stderr.read()


def project(folder: Path, config: str = CONFIG) -> Path:
    """Write a project, and return its folder."""
    (folder / "agentflow.toml").write_text(config)
    (folder / "handlers.py").write_text(HANDLERS)
    (folder / "handlers.py").chmod(0o644)
    return folder


def command(*words: str) -> list[str]:
    """Return the command that serves."""
    return [sys.executable, "-m", "agentflow", "serve", *words]


@contextmanager
def serving(folder: Path, *words: str) -> Iterator[Serving]:
    """Serve a project until the end of the block, where the process is killed if it has not ended."""
    environ = {name: text for name, text in os.environ.items() if not name.startswith("AGENTFLOW")}
    environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    process = subprocess.Popen(command(*words), cwd=folder, stderr=subprocess.PIPE, text=True, env=environ)
    try:
        running = Serving(process, folder)
        try:
            yield running
        finally:
            running.client.close()
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
