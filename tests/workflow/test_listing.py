"""A workflow in lists of runs: one run, with its steps below it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from agentflow import Runner, Workflow
from agentflow.cli import main
from agentflow.core.rules import Rule
from agentflow.core.run_row import RunFilter
from agentflow.engine.history import History
from agentflow.stores.memory import MemoryStore
from tests.workflow.conftest import Counting, spec


async def _two_workflows(store: Any, steps: int = 3) -> None:
    for root_id in ("w", "v"):
        async with Workflow(Counting(), root_id=root_id, store=store) as workflow:
            await workflow.parallel([spec(f"s{number}") for number in range(steps)])


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal with two workflows of 25 steps."""
    path = tmp_path / "journal.db"
    asyncio.run(_two_workflows(path, 25))
    return path


def _told(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert 0 == main(words)
    out = capsys.readouterr().out
    return json.loads(out) if "--json" in words else out


async def test_filters_tell_runs_from_their_children(store: MemoryStore) -> None:
    """`is_top` leaves out the steps of workflows or gives them alone; `root_id` gives those of one workflow."""
    await _two_workflows(store)
    top, below = [await store.rows(RunFilter(is_top=is_top, newest_first=False)) for is_top in (True, False)]
    assert ["w", "v"] == [row.run_id for row in top]
    assert 6 == len(below)
    assert {"w/s0", "w/s1", "w/s2"} == {row.run_id for row in await store.rows(RunFilter(root_id="w"))}
    assert 8 == len(await store.rows(RunFilter()))


def test_lists_have_one_row_a_workflow(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`runs list` shows the workflow's run alone, `--all` its steps too, `--root` its steps."""
    named = "--journal", str(journal), "--json"
    assert ["v", "w"] == [row["run_id"] for row in _told(capsys, "runs", "list", *named)]
    assert 52 == len(_told(capsys, "runs", "list", "--all", *named))
    assert ["w/s24", "w/s23"] == [row["run_id"] for row in _told(capsys, "runs", "list", "--root", "w", "--limit", "2", *named)]
    assert ["v"] == [row["run_id"] for row in _told(capsys, "runs", "list", "--limit", "1", *named)]


def test_a_workflow_is_shown_with_its_steps(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`runs show` lists the runs that belong to a run, the first twenty of them; a step has none."""
    told = _told(capsys, "runs", "show", "w", "--journal", str(journal))
    assert "runs that belong to it\n" in told
    assert 20 == told.count("  w/s")
    assert f"and 5 more: agentflow runs list --root w --journal {journal}" in told
    rows = _told(capsys, "runs", "show", "w", "--journal", str(journal), "--json")["children"]
    assert [f"w/s{number}" for number in range(25)] == [row["run_id"] for row in rows]
    assert "belong to it" not in _told(capsys, "runs", "show", "w/s1", "--journal", str(journal))


def test_a_runner_lists_children_when_asked(journal: Path) -> None:
    """`runner.runs()` gives runs that belong to no other, with `children` all, with `root` those of one."""

    async def listed() -> tuple[int, int, int]:
        config = {"orchestration": {"mode": "route", "default_agent": "a"}, "agents": {"a": {}}, "journal": {"url": f"sqlite:{journal}"}}
        runner = Runner.from_dict(config)
        runner.register_agent("a", lambda event, state: None)
        async with runner:
            return len(await runner.runs()), len(await runner.runs(children=True)), len(await runner.runs(root="v"))

    assert (2, 52, 25) == asyncio.run(listed())


async def test_steps_are_kept_as_long_as_their_workflow(store: MemoryStore) -> None:
    """However long ago a step has ended, it is not collected while its workflow may be resumed; then it goes with it."""
    history = History(store, Rule, lambda reference: sum)
    async with Workflow(Counting(), root_id="v", store=store) as workflow:
        await workflow.agent(spec("a"))
    workflow = Workflow(Counting(), root_id="w", store=store)
    await workflow.agent(spec("a"))
    assert {"v", "v/a"} == {row.run_id for row in await history.expired(1e12)}
    await workflow.finish()
    assert {"v", "v/a", "w", "w/a"} == {row.run_id for row in await history.expired(1e12)}
    await store.delete(["w"])
    assert {"v", "v/a", "w/a"} == {row.run_id for row in await history.expired(1e12)}
