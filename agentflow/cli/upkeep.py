"""`agentflow journal verify|backup|migrate|stats` and `runs verify|gc`: the upkeep of a journal."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agentflow.cli import terminal
from agentflow.cli.exits import Exit
from agentflow.cli.journals import Place
from agentflow.cli.tables import moment
from agentflow.core.run_row import OPEN_STATES, TERMINAL_STATES
from agentflow.engine.verification import Problem
from agentflow.errors import StoreVersionError
from agentflow.system import SystemClock

DAY_S = 86_400


def verify(place: Place, run_id: str | None, *, is_json: bool) -> Exit:
    """Print what is wrong with a run, or with the whole journal; return the exit code.

    Raises:
        AgentflowError: the journal cannot be opened, or has no such run.
    """

    async def read() -> tuple[list[Problem], dict[str, int]]:
        async with place.found().opened() as (store, history):
            return await history.verify(run_id), await store.counts()

    problems, counts = asyncio.run(read())
    looked_at = {"runs": counts["runs"], "records": counts["records"]} if run_id is None else {"run_id": run_id}
    if is_json:
        row = {**looked_at, "problems": [problem.to_dict() for problem in problems]}
        terminal.out(terminal.as_json(row, is_indented=True))
    else:
        told = f"{counts['runs']} runs with {counts['records']} records" if run_id is None else f"run {run_id}"
        for problem in problems:
            terminal.out(terminal.safe(str(problem)))
        terminal.out(f"{told}: {len(problems)} problem{'s' * (len(problems) != 1)}" if problems else f"{told}: sound")
    return Exit.FAILED if problems else Exit.DONE


def collect(place: Place, *, is_dry: bool, is_json: bool) -> None:
    """Delete the runs that ended more than `retention_days` ago, or only list them.

    Raises:
        AgentflowError: the journal cannot be opened, or another process writes it.
    """
    found = place.found()
    before = SystemClock().time() - found.choice.retention_days * DAY_S

    async def work() -> list[str]:
        async with found.opened() as (_, history):  # first, for it makes no journal where there is none
            run_ids = [row.run_id for row in await history.expired(before)]
        if run_ids and not is_dry:
            async with found.opened(is_reader=False) as (store, _):
                await store.delete(run_ids)
        return run_ids

    run_ids = asyncio.run(work())
    if is_json:
        row = {"run_ids": run_ids, "deleted": 0 if is_dry else len(run_ids), "before": before, "is_dry_run": is_dry}
        terminal.out(terminal.as_json(row, is_indented=True))
        return
    for run_id in run_ids:
        terminal.out(terminal.safe(run_id))
    many = f"{len(run_ids)} run{'s' * (len(run_ids) != 1)} that ended before {moment(before)}"
    terminal.out(f"would delete {many}" if is_dry else f"deleted {many}")


def back_up(place: Place, path: Path, *, is_json: bool) -> None:
    """Copy the journal to a new file.

    Raises:
        AgentflowError: the journal cannot be opened, or the copy not be written.
    """

    async def work() -> None:
        async with place.found().opened() as (store, _):
            await store.backup(path)

    asyncio.run(work())
    terminal.out(terminal.as_json({"path": str(path.absolute())}) if is_json else terminal.safe(f"wrote {path}"))


def migrate(place: Place, *, is_json: bool) -> None:
    """Bring the journal's schema up to date.

    Raises:
        AgentflowError: there is no journal, another process writes it, or it is of a later release.
    """
    found = place.found()

    async def work() -> int | None:
        old: int | None = None
        try:
            async with found.opened():
                pass
        except StoreVersionError as error:
            if error.found > error.known:
                raise
            old = error.found
            async with found.opened(is_reader=False):
                pass
        return old

    old = asyncio.run(work())
    if is_json:
        terminal.out(terminal.as_json({"url": found.choice.url, "is_migrated": old is not None, "from_schema": old}))
    elif old is None:
        terminal.out(terminal.safe(f"{found.choice.url} is up to date"))
    else:
        terminal.out(terminal.safe(f"{found.choice.url} is up to date now; its copy of before: {found.choice.path}.schema-{old}"))


def show_counts(place: Place, *, is_json: bool) -> None:
    """Print how many runs there are in each state, how many records, and how large the journal is.

    Raises:
        AgentflowError: the journal cannot be opened.
    """
    found = place.found()

    async def read() -> dict[str, int]:
        async with found.opened() as (store, _):
            return await store.counts()

    counts = asyncio.run(read())
    if is_json:
        terminal.out(terminal.as_json({"url": found.choice.url, "durability": found.choice.durability, **counts}, is_indented=True))
        return
    terminal.out(terminal.safe(f"{found.choice.url} ({found.choice.durability})"))
    states = ", ".join(f"{counts[state]} {state}" for state in sorted(OPEN_STATES | TERMINAL_STATES) if counts[state])
    terminal.out(f"{counts['runs']} runs{f': {states}' if states else ''}")
    terminal.out(f"{counts['records']} records, {counts['bytes']:,} bytes")
