"""`agentflow runs list|show` and `dead-letters list|show`: recorded runs for a person, or as JSON."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from agentflow.cli import terminal
from agentflow.cli.hints import Hint
from agentflow.cli.journals import Place
from agentflow.cli.progress import duration
from agentflow.cli.results import shown
from agentflow.cli.tables import blocker_told, columns, moment, state_told
from agentflow.cli.usage import UsageError
from agentflow.cli.watching import line
from agentflow.core.records import Record
from agentflow.core.run_row import CORRUPT, RunFilter, RunRow
from agentflow.core.run_view import RunView, StepView
from agentflow.core.values import Json
from agentflow.engine.history import DEAD
from agentflow.engine.intake import PARALLEL
from agentflow.system import SystemClock

MOST_CHILDREN = 20  # of a run's own runs, shown with it
_ROW_TITLES = ("RUN", "STATE", "PATTERN", "SESSION", "STARTED", "TOOK", "FLAGS")
_AGO = re.compile(r"(\d{1,9})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def wanted(*, since: str | None = None, **asked: Any) -> RunFilter:
    """Return the filter for what the options ask.

    Raises:
        UsageError: `since` is no time.
    """
    return RunFilter(since=None if since is None else time_of(since), **asked)


def time_of(told: str) -> float:
    """Return a date, a date and time (in UTC unless it says otherwise), or a time ago such as 2h, in seconds since the epoch.

    Raises:
        UsageError: it is none of these.
    """
    ago = _AGO.fullmatch(told.strip())
    if ago is not None:
        return SystemClock().time() - int(ago[1]) * _SECONDS[ago[2]]
    try:
        given = datetime.fromisoformat(told.strip())
        return (given if given.tzinfo is not None else given.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise UsageError(f"--since {told[:80]!r} is no time", hint="e.g. 2026-07-30, 2026-07-30T09:00, 90s, 30m, 2h or 7d") from None


def show_runs(place: Place, rows: RunFilter, *, is_blocked: bool = False, is_json: bool) -> None:
    """Print the rows that fit; with `is_blocked` those that wait behind another run of their session.

    Raises:
        AgentflowError: the journal cannot be read.
    """
    found, holders = asyncio.run(_rows(place, rows, is_blocked=is_blocked))
    for row in found:
        if CORRUPT in row.flags:
            hint = Hint(place.config, place.journal).command(f"runs verify {row.run_id}")
            terminal.note(terminal.safe(f"warning: run {row.run_id} is damaged, and nothing goes on with it; what is wrong: {hint}"))
    if is_json:
        told = [row.to_dict() | (_blocked_by(holders[row.run_id]) if is_blocked else {}) for row in found]
        terminal.out(terminal.as_json(told, is_indented=True))
        return
    if not found:
        terminal.out("no runs")
        return
    titles = (*_ROW_TITLES, "BLOCKED BY" if is_blocked else "WAITING")
    last = {row.run_id: blocker_told(holders[row.run_id]) if is_blocked else ", ".join(row.waiting) for row in found}
    lines = columns(titles, [(*_cells(row), last[row.run_id]) for row in found])
    terminal.out("\n".join(lines))


def _blocked_by(row: RunRow) -> dict[str, Json]:
    return {"blocked_by": row.run_id, "blocked_by_state": row.state}


async def _rows(place: Place, rows: RunFilter, *, is_blocked: bool) -> tuple[list[RunRow], dict[str, RunRow]]:
    journal = place.found()
    async with journal.opened() as (_, history):
        if rows.root_id is not None:
            rows = replace(rows, root_id=(await history.find(rows.root_id)).run_id)
        if not is_blocked:
            return await history.runs(rows), {}
        found = await history.runs(replace(rows, limit=None))
        has_lines = journal.project is None or journal.project.config.orchestration.on_busy != PARALLEL
        holders = await history.blocked() if has_lines else {}
    return [row for row in found if row.run_id in holders][: rows.limit], holders


def _cells(row: RunRow) -> tuple[str, ...]:
    took = "" if row.ended_at is None else duration(max(0.0, row.ended_at - row.started_at))
    return row.run_id, state_told(row), row.pattern, row.session_id or "", moment(row.started_at), took, ", ".join(row.flags)


def show_run(place: Place, run_id: str, at: int | None, *, is_json: bool) -> None:
    """Print a run as it stands, or as it stood after a record, and the runs that belong to it, as they are now.

    Raises:
        AgentflowError: the journal cannot be read, or has no such run or record.
    """

    async def read() -> tuple[RunView, list[RunRow]]:
        async with place.found().opened() as (_, history):
            view = await history.view(run_id, at)
            return view, await history.runs(RunFilter(root_id=view.row.run_id, newest_first=False))

    view, children = asyncio.run(read())
    if is_json:
        terminal.out(terminal.as_json(view.to_dict() | {"children": [row.to_dict() for row in children]}, is_indented=True))
        return
    lines = [*_told(view), *_children_told(children)]
    if len(children) > MOST_CHILDREN:
        command = Hint(place.config, place.journal).command(f"runs list --root {view.row.run_id}")
        lines.append(f"  and {len(children) - MOST_CHILDREN} more: {command}")
    terminal.out(terminal.safe("\n".join(lines)))


def _children_told(rows: Sequence[RunRow]) -> Iterator[str]:
    if rows:
        yield "runs that belong to it"
        shown_rows = [_cells(row) for row in rows[:MOST_CHILDREN]]
        yield from (f"  {told}" for told in columns(_ROW_TITLES, shown_rows))


def _told(view: RunView) -> Iterator[str]:
    row, usage = view.row, view.usage
    yield f"{state_told(row)}  {row.pattern}  {row.run_id}"
    session = f", session {row.session_id}" if row.session_id is not None else ""
    ended = f", ended {moment(row.ended_at)}" if row.ended_at is not None else ""
    yield f"started {moment(row.started_at)}{ended}{session}; {usage.calls} call{'s' * (usage.calls != 1)}, {usage.total_tokens} tokens"
    if view.seq < view.last_seq:
        yield f"as it stood after record {view.seq} of {view.last_seq}"
    if row.flags:
        yield f"flags: {', '.join(row.flags)}"
    if view.error is not None:
        yield f"error: {view.error}"
    for approval in view.approvals:
        until = f" until {moment(approval.deadline_at)}" if approval.deadline_at is not None else ""
        yield f"waits for approval{until}: {approval.position}  {approval.agent}  {approval.digest}"
    for title, table in (("state", view.state["data"]), ("meta", view.state["meta"])):
        if table:
            yield title
        for key, value in table.items():
            yield f"  {key} = {shown(value)}"
    if view.steps:
        yield "steps"
        yield from (f"  {told}" for told in columns(_STEP_TITLES, [_step(step) for step in view.steps]))


_STEP_TITLES = ("POSITION", "AGENT", "STATUS", "ATTEMPTS", "TOOK", "ERROR")


def _step(step: StepView) -> tuple[str, ...]:
    took = "" if step.duration_s is None else duration(step.duration_s)
    error = "" if step.error is None else f"{step.error.type}: {step.error.message}"
    return step.position, step.agent, step.status, str(step.attempts), took, error


def show_dead_letter(place: Place, run_id: str, *, is_json: bool) -> None:
    """Print a dead letter: the run, its event, and all its records.

    Raises:
        UsageError: the run is none.
        AgentflowError: the journal cannot be read, or has no such run.
    """

    async def read() -> tuple[RunView, list[Record]]:
        async with place.found().opened() as (_, history):
            return await history.view(run_id), await history.events(run_id)

    view, records = asyncio.run(read())
    if DEAD not in view.row.flags:
        raise UsageError(f"run {view.row.run_id} is no dead letter", hint="`agentflow dead-letters list` shows those there are")
    if is_json:
        told = view.to_dict() | {"event": records[0].to_dict()["event"], "records": [record.to_dict() for record in records]}
        terminal.out(terminal.as_json(told, is_indented=True))
        return
    event = terminal.as_json(records[0].to_dict()["event"])
    terminal.out(terminal.safe("\n".join([*_told(view), f"event: {event}", "records", *_lines(records)])))


def _lines(records: Sequence[Record]) -> Iterator[str]:
    began = records[0].at
    yield from (f"  {line(record, began)}" for record in records)
