"""Starting the examples as their READMEs say: from the repository's root, through the command line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from agentflow.cli import main

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Outcome:
    """What a program left: exit code and output."""

    code: int
    stdout: str
    stderr: str

    @property
    def result(self) -> Any:
        """The run's result, from stdout; a list of them when there were several events."""
        return json.loads(self.stdout)

    @property
    def data(self) -> dict[str, Any]:
        """The data of the final state."""
        return self.result["state"]["data"]

    @property
    def meta(self) -> dict[str, str]:
        """The metadata of the final state."""
        return self.result["state"]["meta"]


def start_cli(*words: str, environment: dict[str, str] | None = None) -> Outcome:
    """Run the command line in this process: a process of its own for each of these tests would take most of their time."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)]
    with (
        contextlib.chdir(ROOT),
        mock.patch.dict(os.environ, _variables(environment), clear=True),
        mock.patch("os._exit", side_effect=AssertionError("the command left work behind that does not end")),
        contextlib.redirect_stdout(streams[0]),
        contextlib.redirect_stderr(streams[1]),
        _no_modules_left(),
    ):
        code = main(words)
    stdout, stderr = (stream.buffer.getvalue().decode() for stream in streams)
    return Outcome(int(code), stdout, stderr)


def start_python(*words: str, environment: dict[str, str] | None = None) -> Outcome:
    """Run Python with these arguments in a process of its own."""
    variables = {**_variables(environment), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr)


def _variables(given: dict[str, str] | None) -> dict[str, str]:
    """Return the environment without what would configure agentflow, and with what the test gives."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AGENTFLOW") and name != "ENVIRONMENT"}
    return kept | (given or {})


@contextlib.contextmanager
def _no_modules_left() -> Iterator[None]:
    """Forget the example's modules afterwards: many examples have a `handlers`, each its own."""
    paths, modules = list(sys.path), set(sys.modules)
    try:
        yield
    finally:
        sys.path[:] = paths
        for name in set(sys.modules) - modules:
            if str(ROOT / "examples") in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]


@pytest.fixture(scope="session")
def run_cli() -> Callable[..., Outcome]:
    """`agentflow run <path> <options> --json`."""

    def run(path: str, *options: str, environment: dict[str, str] | None = None) -> Outcome:
        return start_cli("run", path, *options, "--json", environment=environment)

    return run


@pytest.fixture(scope="session")
def agentflow() -> Callable[..., Outcome]:
    """`agentflow <words>`."""
    return start_cli


@pytest.fixture(scope="session")
def run_python() -> Callable[..., Outcome]:
    """`python <words>`."""
    return start_python
