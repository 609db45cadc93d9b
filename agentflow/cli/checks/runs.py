"""Recorded runs that do not get on by themselves: who waits for whom, for what, and since when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from shlex import quote

from agentflow.cli.checks.finding import Finding
from agentflow.cli.hints import Hint
from agentflow.cli.tables import blocker_told, moment
from agentflow.core.records import ApprovalRequested, Record
from agentflow.core.run_row import CORRUPT, RunFilter, RunRow
from agentflow.engine.history import DEAD, History
from agentflow.errors import AgentflowError

MOST_OPEN = 1000  # open runs that are looked at
MOST_READ = 20  # of those that wait: whose records are read
MOST_NAMED = 5
UNKNOWN = "?"  # the owner where a process has the journal and does not say under which name
LATE_S = 60.0  # a deadline that has been over for longer is seen to by nobody
_LATEST = 20  # rows that are asked how late it was


@dataclass(frozen=True)
class Seen:
    """What was read of a journal's runs.

    Attributes:
        open_rows: those that have not ended, in order of acceptance.
        dead: how many dead letters there are, `MOST_OPEN` at most.
        holders: the runs that wait behind another one of their session, by id, each with the one whose turn it is.
        records: of the first ones that wait for something.
        recorded_at: the latest time that is recorded, None for none.
    """

    open_rows: Sequence[RunRow] = ()
    dead: int = 0
    holders: Mapping[str, RunRow] = field(default_factory=dict)
    records: Mapping[str, Sequence[Record]] = field(default_factory=dict)
    recorded_at: float | None = None


async def seen(history: History, *, has_lines: bool) -> Seen:
    """Read what the checks need; `has_lines` says that a session holds up its other events.

    Raises:
        AgentflowError: the journal cannot be read.
    """
    rows = await history.runs(RunFilter(is_open=True, newest_first=False, limit=MOST_OPEN))
    newest = await history.runs(RunFilter(limit=_LATEST))
    records: dict[str, Sequence[Record]] = {}
    for row in [row for row in rows if row.state == "paused" and CORRUPT not in row.flags][:MOST_READ]:
        try:
            records[row.run_id] = await history.events(row.run_id)
        except AgentflowError:
            records[row.run_id] = ()  # `runs verify` says what is wrong with it
    times = [at for row in newest for at in (row.started_at, row.ended_at) if at is not None]
    times += [told[-1].at for told in records.values() if told]
    return Seen(
        rows,
        len(await history.runs(RunFilter(flag=DEAD, limit=MOST_OPEN))),
        await history.blocked() if has_lines else {},
        records,
        max(times, default=None),
    )


def stuck(found: Seen, owner: str | None, now: float, hint: Hint) -> Iterator[Finding]:
    """Yield the runs that do not get on.

    Args:
        found: what was read.
        owner: the name under which the living process takes runs, or UNKNOWN; None where there is no process.
        now: seconds since the epoch.
        hint: writes commands.
    """
    corrupt = [row for row in found.open_rows if CORRUPT in row.flags]
    whole = [row for row in found.open_rows if CORRUPT not in row.flags]
    if corrupt:
        told = f"{_many(corrupt)} damaged, and nothing goes on with {_them(corrupt)}: {_named(corrupt)}"
        yield Finding("runs", "problem", told, hint.command("runs verify"), _ids(corrupt))
    left = [row for row in whole if row.state != "paused" and owner not in (UNKNOWN, row.owner) and row.run_id not in found.holders]
    if left:
        who = "no process goes" if owner is None else "the process that has the journal does not go"
        told = f"{_many(left)} unfinished, and {who} on with {_them(left)}, the oldest since {moment(left[0].started_at)}: {_named(left)}"
        advice = hint.command("resume") + (" or `agentflow serve`" if owner is None else ", once that process has ended")
        yield Finding("runs", "problem", told, advice, _ids(left))
    paused = [row for row in whole if row.state == "paused"]
    for row in paused[:MOST_READ]:
        yield from _paused(row, found.records.get(row.run_id, ()), now, hint)
    if len(paused) > MOST_READ:
        told = f"{len(paused) - MOST_READ} more runs are paused"
        yield Finding("runs", "advice", told, hint.command("runs list --state paused"), _ids(paused[MOST_READ:]))
    yield from _blocked(found, owner, hint)
    if found.dead:
        many = f"over {MOST_OPEN - 1}" if found.dead >= MOST_OPEN else str(found.dead)
        told = f"{many} dead letter{'s' * (found.dead != 1)}: runs that failed, and whose failure nobody has handled"
        yield Finding("dead letters", "advice", told, hint.command("dead-letters list"))
    if not found.open_rows:
        yield Finding("runs", "ok", "no run is open")
    elif not corrupt and not left and not paused:
        yield Finding("runs", "ok", f"{_many(whole)} open, and a process goes on with {_them(whole)}")


def _paused(row: RunRow, records: Sequence[Record], now: float, hint: Hint) -> Iterator[Finding]:
    ids = (row.run_id,)
    if row.waiting:
        asked = {record.fact.position: record for record in records if isinstance(record.fact, ApprovalRequested)}
        for position in row.waiting:
            yield _waiting(row, position, asked.get(position), now, hint)
    elif row.reason.startswith("missing_agent"):
        told = f"run {row.run_id} waits for an agent that is not there any more ({row.reason}){_since(records)}"
        advice = f"register it and start again, or {hint.command(f'resume {row.run_id} --plan current')}"
        yield Finding("runs", "problem", told, advice, ids)
    else:
        why = f" ({row.reason})" if row.reason else ""
        told = f"run {row.run_id} is paused{why}{_since(records)}"
        yield Finding("runs", "advice", told, f"to go on: {hint.command(f'resume {row.run_id}')}", ids)


def _waiting(row: RunRow, position: str, asked: Record | None, now: float, hint: Hint) -> Finding:
    fact = None if asked is None else asked.fact
    agent, since, until = "", "", ""
    if asked is not None and isinstance(fact, ApprovalRequested):
        agent, since = f" of {fact.agent}", f" since {moment(asked.at)}"
        until = "" if fact.deadline_at is None else f", until {moment(fact.deadline_at)}"
    told = f"run {row.run_id} waits for approval{agent} at {position}{since}{until}"
    if row.due_at is not None and row.due_at < now - LATE_S:
        return Finding("runs", "problem", f"{told}; nobody has seen to the deadline", hint.command("resume"), (row.run_id,))
    advice = f"{hint.command(f'runs approve {row.run_id} {quote(position)}')}, or reject in the place of approve"
    return Finding("runs", "advice", told, advice, (row.run_id,))


def _since(records: Sequence[Record]) -> str:
    return f" since {moment(records[-1].at)}" if records else ""


def _blocked(found: Seen, owner: str | None, hint: Hint) -> Iterator[Finding]:
    """Yield each run that others of its session wait for; while it goes on that is as it should be."""
    behind: dict[str, list[str]] = {}
    holders = {holder.run_id: holder for holder in found.holders.values()}
    for run_id, holder in found.holders.items():
        behind.setdefault(holder.run_id, []).append(run_id)
    for holder_id, run_ids in behind.items():
        holder = holders[holder_id]
        others = f"{len(run_ids)} run{'s' * (len(run_ids) != 1)}"
        told = f"run {blocker_told(holder)} of session {holder.session_id} holds up {others}: {_few(run_ids)}"
        if holder.state == "running" and owner in (UNKNOWN, holder.owner):
            yield Finding("sessions", "ok", told, "", (holder_id, *run_ids))
            continue
        advice = (
            f'let it go on, or end it: {hint.command(f"runs cancel {holder_id}")}; or let sessions run several, with on_busy = "parallel"'
        )
        yield Finding("sessions", "advice", told, advice, (holder_id, *run_ids))


def _many(rows: Sequence[RunRow]) -> str:
    return "one run is" if len(rows) == 1 else f"{len(rows)} runs are"


def _them(rows: Sequence[RunRow]) -> str:
    return "it" if len(rows) == 1 else "them"


def _ids(rows: Sequence[RunRow]) -> tuple[str, ...]:
    return tuple(row.run_id for row in rows)


def _named(rows: Sequence[RunRow]) -> str:
    return _few([row.run_id for row in rows])


def _few(run_ids: Sequence[str]) -> str:
    more = f" and {len(run_ids) - MOST_NAMED} more" if len(run_ids) > MOST_NAMED else ""
    return ", ".join(run_ids[:MOST_NAMED]) + more
