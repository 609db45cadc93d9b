"""`agentflow events` and `agentflow runs watch`: records as they were written, or as they are being written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from agentflow.cli import terminal
from agentflow.cli.exits import Exit, code_of
from agentflow.cli.journals import Place
from agentflow.cli.progress import choice_of, line_of
from agentflow.cli.tables import state_told
from agentflow.core.records import Record, WorkflowCancelled, WorkflowCompleted, WorkflowFailed
from agentflow.core.run_row import RunFilter, RunRow
from agentflow.engine.history import History
from agentflow.errors import RunNotFoundError

POLL_S = 0.2
NEWEST = 200
_ENDINGS = (WorkflowCompleted, WorkflowFailed, WorkflowCancelled)


def show_events(place: Place, run_id: str, *, is_following: bool, is_json: bool) -> None:
    """Print a run's records; following it, until it ends.

    Raises:
        AgentflowError: the journal cannot be read, or has no such run.
    """
    asyncio.run(_follow(place, run_id, is_json=is_json) if is_following else _list(place, run_id, is_json=is_json))


async def _list(place: Place, run_id: str, *, is_json: bool) -> None:
    async with place.found().opened() as (_, history):
        records = await history.events(run_id)
    if is_json:
        terminal.out(terminal.as_json([record.to_dict() for record in records], is_indented=True))
    else:
        terminal.out(terminal.safe("\n".join(line(record, records[0].at) for record in records)))


async def _follow(place: Place, run_id: str, *, is_json: bool) -> str:
    """Print records as they come; return what the run came to."""
    began: float | None = None
    async with place.found().opened() as (_, history):
        async for record in following(history, run_id):
            began = record.at if began is None else began
            terminal.out(terminal.as_json(record.to_dict()) if is_json else terminal.safe(line(record, began)))
            terminal.flush()
        return (await history.find(run_id)).status or "failed"


async def following(history: History, run_id: str) -> AsyncIterator[Record]:
    """Yield a run's records, and wait for more until it has ended.

    Raises:
        AgentflowError: the journal cannot be read, or has no such run.
    """
    run_id = (await history.find(run_id)).run_id
    seq = 0
    while True:
        for record in await history.events(run_id, seq):
            yield record
            if isinstance(record.fact, _ENDINGS):
                return
            seq += 1
        await asyncio.sleep(POLL_S)


def line(record: Record, began: float) -> str:
    """Return a record on one line: its number, when it was written after the first one, and what it says."""
    told = line_of(record) or choice_of(record.fact) or " ".join(filter(None, (record.type, str(getattr(record.fact, "position", "")))))
    return f"{record.seq:>5}  {f'+{record.at - began:.3f}':>10} s  {told}".replace("\n", " ")


def watch(place: Place, run_id: str | None, *, is_json: bool) -> int:
    """Follow one run and return the exit code for what it came to; or tell of all runs until interrupted.

    Raises:
        AgentflowError: the journal cannot be read, or has no such run.
    """
    if run_id is not None:
        return code_of(asyncio.run(_follow(place, run_id, is_json=is_json)))
    asyncio.run(_watch_all(place, is_json=is_json))
    return Exit.DONE


async def _watch_all(place: Place, *, is_json: bool) -> None:
    async with place.found().opened() as (_, history):
        async for row in changes(history):
            told = terminal.as_json(row.to_dict()) if is_json else terminal.safe(f"{row.run_id}  {row.pattern}  {state_told(row)}")
            terminal.out(told)
            terminal.flush()


async def changes(history: History) -> AsyncIterator[RunRow]:
    """Yield the row of each open run, and from then on each row that is new or has changed."""
    known: dict[str, RunRow] | None = None
    while True:
        newest = await history.runs(RunFilter(limit=NEWEST))  # what began and ended between two looks is among them
        rows = {row.run_id: row for row in (*await history.runs(RunFilter(is_open=True)), *newest)}
        for run_id in [row.run_id for row in (known or {}).values() if row.is_open and row.run_id not in rows]:
            with suppress(RunNotFoundError):  # deleted since
                rows[run_id] = await history.find(run_id)
        for row in reversed(rows.values()):
            if row.is_open if known is None else known.get(row.run_id) != row:
                yield row
        known = rows
        await asyncio.sleep(POLL_S)
