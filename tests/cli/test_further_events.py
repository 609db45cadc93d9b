"""`agentflow run` of events that bring forth others: it waits for them, tells of them, and lists them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CONFIG = """
[agent_flow]
entrypoint = "handlers"

[orchestration]
mode = "route"

[agents.shop]
[agents.plain]
[agents.asks]
requires_approval = true
[agents.slow]
[agents.mailer]
subscribes = ["order.*"]
[agents.broken]
subscribes = ["order.bad"]
"""

HANDLERS = """
import asyncio

from agentflow import Event, agent


@agent("shop")
async def shop(event, state, ctx):
    for target in event.data["targets"]:
        ctx.emit(Event(target))
    if event.data.get("fails"):
        raise ValueError("shut")


@agent("plain")
async def plain(event, state):
    await asyncio.sleep(0.05)


@agent("slow")
async def slow(event, state):
    await asyncio.sleep(1000)


@agent("asks")
async def asks(event, state):
    pass


@agent("mailer")
async def mailer(event, state, ctx):
    ctx.emit(Event("plain"))
    return {"mailed": event.target}


@agent("broken")
async def broken(event, state):
    raise OSError("no mail today")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration with its handlers."""
    (tmp_path / "agentflow.toml").write_text(CONFIG)
    (tmp_path / "handlers.py").write_text(HANDLERS)
    return tmp_path


def run(folder: Path, targets: list[str], *words: str, **data: Any) -> subprocess.CompletedProcess[str]:
    """Run one event of the shop."""
    told = json.dumps({"targets": targets, **data})
    command = [sys.executable, "-m", "agentflow", "run", "--target", "shop", "--data", told, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def call(folder: Path, *words: str) -> Any:
    """Run another command, and return its JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "agentflow", *words, "--json"], cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )
    return json.loads(done.stdout)


def test_a_run_waits_for_all_that_comes_of_its_event(folder: Path) -> None:
    """Also for what comes of that; JSON lists them as children, in order of acceptance."""
    done = run(folder, ["order.new", "plain"], "--json")
    result = json.loads(done.stdout)
    assert (0, "completed") == (done.returncode, result["status"])
    assert ["completed"] * 4 == [child["status"] for child in result["children"]]
    assert {"mailed": "order.new"} == result["children"][1]["state"]["data"]
    assert f"{result['run_id']}: 4 further events ran\n" in done.stderr
    rows = call(folder, "runs", "list", "--root", result["run_id"])
    assert [child["run_id"] for child in result["children"]] == [row["run_id"] for row in reversed(rows)]
    assert [result["run_id"]] == [row["run_id"] for row in call(folder, "runs", "list")]


def test_an_event_that_brings_forth_nothing_has_no_children(folder: Path) -> None:
    """Its JSON is what it always was."""
    done = run(folder, [], "--json")
    assert "children" not in json.loads(done.stdout)
    assert "further" not in done.stderr


@pytest.mark.parametrize(("words", "code"), [((), 0), (("--strict",), 1)])
def test_a_further_event_that_fails_is_a_warning(folder: Path, words: tuple[str, ...], code: int) -> None:
    """It names the run and what was wrong; with --strict the command has failed."""
    done = run(folder, ["order.bad"], *words)
    assert code == done.returncode
    assert "warning: run-" in done.stderr
    assert "4 further events ran; failed: run-" in done.stderr
    assert "OSError: no mail today" in done.stderr
    quiet = run(folder, ["order.bad"], "--quiet")
    assert (0, False) == (quiet.returncode, "further events" in quiet.stderr)


def test_a_root_that_fails_has_brought_forth_nothing(folder: Path) -> None:
    """And the command has failed."""
    done = run(folder, ["order.new"], "--json", fails=True)
    assert (1, False) == (done.returncode, "children" in json.loads(done.stdout))


def test_a_further_event_that_waits_for_a_person_is_not_waited_for(folder: Path) -> None:
    """The command says how it goes on, and ends as for any run that waits."""
    done = run(folder, ["asks"])
    assert 3 == done.returncode
    assert "agentflow runs approve" in done.stderr
    (root,) = call(folder, "runs", "list")
    (waiting,) = call(folder, "runs", "list", "--root", root["run_id"])
    assert ("completed", "paused", ["0#1.2"]) == (root["state"], waiting["state"], waiting["waiting"])
    approved = [sys.executable, "-m", "agentflow", "runs", "approve", waiting["run_id"], "0#1.2", "--continue"]
    subprocess.run(approved, cwd=folder, check=True, timeout=60, capture_output=True)
    (waiting,) = call(folder, "runs", "list", "--root", root["run_id"])
    assert "completed" == waiting["state"]


def test_what_comes_of_an_event_ends_with_it_when_its_time_is_over(folder: Path) -> None:
    """All of it, not only the one that is waited for at the moment."""
    done = run(folder, ["plain", "slow", "slow"], "--timeout", "1", "--json")
    assert (5, "completed") == (done.returncode, json.loads(done.stdout)["status"])
    assert ["completed", "timed_out", "timed_out"] == [child["status"] for child in json.loads(done.stdout)["children"]]
