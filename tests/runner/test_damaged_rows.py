"""A recorded run whose row cannot be read: the runner lists it, and resumes the others."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agentflow import Event, Runner, State
from agentflow.errors import StoreDamagedError


async def _stand(event: Event, state: State) -> None:
    state["n"] = 1


def _made(folder: Path) -> Runner:
    runner = Runner.from_dict(
        {
            "orchestration": {"mode": "sequential", "sequential_agents": ["a"]},
            "agents": {"a": {"requires_approval": True}},
            "journal": {"url": f"sqlite:{folder / 'journal.db'}"},
        }
    )
    runner.register_agent("a", _stand)
    return runner


async def _begun(folder: Path) -> list[str]:
    async with _made(folder) as runner:
        runs = [await runner.emit(Event("x", {"n": number})) for number in range(3)]
        assert ["paused"] * 3 == [await run.wait() for run in runs]
    return [run.run_id for run in runs]


async def _resumed(folder: Path, whole: list[str], damaged: str) -> None:
    async with _made(folder) as runner:
        assert {whole[0]: (), damaged: ("corrupt",), whole[1]: ()} == {row.run_id: row.flags for row in await runner.runs()}
        handles = {handle.run_id: handle for handle in await runner.resume()}
        with pytest.raises(StoreDamagedError, match=damaged):
            await handles[damaged].result()
        for run_id in whole:
            assert await handles[run_id].approve("a")
            assert "completed" == (await handles[run_id].result()).status
        for plan in (None, "current"):
            with pytest.raises(StoreDamagedError, match=damaged):
                await runner.resume(damaged, plan=plan, accept=plan is not None)
        assert 3 == len(await runner.events(damaged))


@pytest.mark.parametrize("damage", ["flags = 'x'", "epoch = 'x'", "session_id = x'ff'"])
def test_one_damaged_row_hits_its_run_only(tmp_path: Path, damage: str) -> None:
    """`runs` lists it with the flag `corrupt`; `resume` goes on with the others, and the damaged run's handle raises."""
    runs = asyncio.run(_begun(tmp_path))
    with closing(sqlite3.connect(tmp_path / "journal.db")) as journal, journal:
        journal.execute(f"UPDATE runs SET {damage} WHERE run_id = ?", (runs[1],))  # noqa: S608 - a constant
    asyncio.run(_resumed(tmp_path, [runs[0], runs[2]], runs[1]))
