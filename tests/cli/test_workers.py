"""`agentflow workers`: the pools of a project, and how they stand where it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.durable import CONFIG, HANDLERS, running, steps

Call = Callable[..., Any]
POOLS = """
[workers.slow]
count = 2
max = 4

[workers.tell]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with two pools."""
    (tmp_path / "agentflow.toml").write_text(CONFIG + POOLS, encoding="utf-8")
    (tmp_path / "handlers.py").write_text(HANDLERS, encoding="utf-8")
    return tmp_path


def test_pools_are_listed_without_a_process(call: Call) -> None:
    """Where nobody runs the project the pools are shown as configured, and that is said on stderr."""
    outcome = call("workers")
    assert outcome.code == 0
    assert [line.split() for line in outcome.out.splitlines()] == [
        ["POOL", "COUNT", "MAX", "MAX", "FAILURES", "IDLE", "DRAIN"],
        ["slow", "2", "4", "3", "120"],
        ["tell", "1", "1", "3", "120"],
    ]
    assert "no process has the journal open" in outcome.err
    rows = call("workers", "--json").json
    assert (rows["is_live"], rows["workers"], rows["pools"][0]) == (
        False,
        [],
        {"specialty": "slow", "count": 2, "max": 4, "max_failures": 3, "idle_drain_seconds": 120.0, "now": None},
    )


def test_live_figures_come_from_the_process_that_runs(call: Call, project: Path) -> None:
    """While a run is open its process tells how many workers are idle and busy, and each worker's status."""
    with running(project, *steps("write", "slow", "tell")) as process:
        row = call("workers", "--json").json
        told = call("workers")
        (project / "go").touch()
        code, _, _ = process.end()
    assert code == 0
    assert row["is_live"]
    slow = {key: row["pools"][0]["now"][key] for key in ("idle", "busy", "failed", "draining", "waiting")}
    assert slow == {"idle": 1, "busy": 1, "failed": 0, "draining": 0, "waiting": 0}
    assert sorted((worker["worker_id"], worker["status"]) for worker in row["workers"]) == [
        ("slow-1", "idle"),
        ("slow-2", "busy"),
        ("tell-1", "idle"),
    ]
    assert ["slow", "2", "4", "1", "1", "0", "0", "0", "0", "0", "0"] in [line.split() for line in told.out.splitlines()]
    assert told.err == ""
    assert call("workers", "--json").json["is_live"] is False


def test_project_without_pools_says_how_to_have_one(call: Call, project: Path) -> None:
    """Without a pool the command says what would make one."""
    (project / "agentflow.toml").write_text(CONFIG, encoding="utf-8")
    assert call("workers").out.startswith("no pools: add [workers.NAME]")
    assert call("workers", "--json").json == {"is_live": False, "pools": [], "more_pools": 0, "workers": []}


def test_mistakes_of_the_configuration_are_told(call: Call, project: Path) -> None:
    """A pool that cannot be is an error, as in every command."""
    (project / "agentflow.toml").write_text(CONFIG + "[workers.slow]\ncount = 3\nmax = 1\n", encoding="utf-8")
    outcome = call("workers")
    assert (outcome.code, "`max` must be at least `count`, which is 3, not 1" in outcome.err) == (2, True)
