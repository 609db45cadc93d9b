"""Calling the command line: in this process where that shows the same, in one of its own for signals, streams and exits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentflow.cli import main

ROOT = Path(__file__).parents[2]

CONFIG = """
[agent_flow]
name = "desk"
entrypoint = "handlers"

[orchestration]
mode = "route"
default_agent = "greeter"

[runner]
cancel_grace_seconds = 0.1

[agents.greeter]
role = "greeter"
description = "Says hello."
capabilities = ["greeting"]

[agents.waiter]
[agents.failing]
[agents.printing]
[agents.stubborn]
[agents.threaded]
[agents.signalling]
[agents.busy]
[agents.sleepy]
[agents.deep]
"""

HANDLERS = """
import asyncio
import json
import signal
import time

from agentflow import agent


@agent("greeter")
async def greet(event, state):
    return {"greeting": f"hello {state.get('name', 'you')}"}


@agent("waiter")
async def wait(event, state):
    await asyncio.sleep(state["seconds"])
    return {"waited": True}


@agent("failing")
async def fail(event, state):
    raise ValueError(state.get("text", "no way"))


@agent("printing")
async def say(event, state):
    print("a handler prints")
    return {"printed": True}


@agent("stubborn")
async def never_ends(event, state):
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass


@agent("signalling")
async def interrupt(event, state):
    for _ in range(state["times"]):
        signal.raise_signal(signal.Signals[state.get("signal", "SIGINT")])
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)
    return {"interrupted": True}


@agent("busy")
async def spin(event, state):
    while True:
        pass


@agent("sleepy")
async def hold(event, state):
    time.sleep(30)


@agent("deep")
async def fall(event, state):
    return inner(state.to_dict())


def inner(table):
    return json.loads("{" + str(len(table)))


@agent("threaded")
async def in_thread(event, state):
    await asyncio.to_thread(time.sleep, 60)
"""


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout as JSON."""
        return json.loads(self.out)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Stdout as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


Call = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("AGENTFLOW") or name == "ENVIRONMENT"]:
        monkeypatch.delenv(name)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with an agent of each kind, in mode route."""
    (tmp_path / "agentflow.toml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "handlers.py").write_text(HANDLERS, encoding="utf-8")
    return tmp_path


@pytest.fixture
def call(project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Call the command line in this process, in the project's folder."""
    monkeypatch.chdir(project)

    def run(*words: str) -> Outcome:
        code = main(words)
        streams = capsys.readouterr()
        return Outcome(code, streams.out, streams.err)

    return run


def environment(**variables: str) -> dict[str, str]:
    """Return an environment for a process of our own."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **variables}


@pytest.fixture
def start(project: Path) -> Callable[..., Outcome]:
    """Call the command line in a process of its own, in the project's folder."""

    def run(*words: str, text: str | None = None, **variables: str) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "agentflow", *words],
            cwd=project,
            env=environment(**variables),
            input=text,
            capture_output=True,
            encoding="utf-8",
            timeout=20,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run
