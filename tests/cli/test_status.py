"""`agentflow status`: how the process that has the journal stands, and what the journal says without one."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.cli.durable import CONFIG, HANDLERS, running, steps

Call = Callable[..., Any]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a pool, whose handler may be held up."""
    (tmp_path / "agentflow.toml").write_text(CONFIG + "[workers.slow]\ncount = 2\n", encoding="utf-8")
    (tmp_path / "handlers.py").write_text(HANDLERS, encoding="utf-8")
    return tmp_path


def test_a_process_tells_how_it_stands(call: Call, project: Path) -> None:
    """Its id, version and start, whether it is ready and well, what is open, its workers; and when the journal was last written."""
    with running(project, *steps("slow"), "--session", "one") as process:
        told = call("status", "--json").json
        lines = call("status").out.splitlines()
        (project / "go").touch()
        process.end()
    live = told["process"]
    assert (process.process.pid, version("agentflow"), True, "") == tuple(live[key] for key in ("pid", "version", "is_ready", "fault"))
    assert ({"open": 1, "queued": 0, "running": 1, "paused": 0}, 0, 1) == (live["runs"], live["queue_depth"], live["sessions"])
    assert ("ok", [True]) == (live["health"]["status"], [store["is_writable"] for store in live["health"]["stores"]])
    assert [("slow", 1, 1)] == [(pool["specialty"], pool["busy"], pool["idle"]) for pool in live["workers"]]
    assert (1, 1, []) == (told["recorded"]["runs"], told["recorded"]["running"], live["breakers"])
    assert live["since"] - 1 <= told["last_commit"] <= live["since"] + 20
    assert [f"process {live['pid']} since", "health: ok", "now: 1 running, 0 paused, 0 queued; 1 session"] == [
        lines[0][: len(f"process {live['pid']} since")],
        *lines[1:3],
    ]
    assert lines[-1].startswith("recorded: 1 run, 2 records; open: 1 running; last commit 2")


def test_without_a_process_the_journal_is_told(call: Call, project: Path) -> None:
    """What is recorded, what is open, and how to go on with it."""
    told = call("status", "--json").json
    assert (None, None, None) == (told["process"], told["recorded"], told["last_commit"])
    assert "nothing was recorded here yet" in call("status").out
    call("run", "--quiet")
    told, text = call("status", "--json").json, call("status").out
    assert (None, 1, 1) == (told["process"], told["recorded"]["runs"], told["recorded"]["paused"])
    assert "no process that answers has the journal" in text
    assert text.endswith("to go on with them: agentflow resume\n")


def test_a_journal_in_memory_has_no_status(call: Call, project: Path) -> None:
    """No other process could tell."""
    with (project / "agentflow.toml").open("a") as file:
        file.write('[journal]\nurl = "memory:"\n')
    assert {"journal": "memory:", "last_commit": None, "recorded": None, "process": None} == call("status", "--json").json


def test_a_configuration_that_cannot_be_read_exits_2(call: Call) -> None:
    """As for all commands that read a journal."""
    assert 2 == call("status", "--config", "nowhere.toml").code
