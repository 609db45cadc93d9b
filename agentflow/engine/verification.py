"""Verification: whether a journal says what a journal can say. It reads, reports and mends nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentflow.core.codec import first_fault
from agentflow.core.plan import Call
from agentflow.core.replay import event_of
from agentflow.core.row import Row
from agentflow.core.run_row import OPEN_STATES, TERMINAL_STATES, RunFilter, RunRow
from agentflow.core.run_view import row_after
from agentflow.core.snapshot import thaw_standing
from agentflow.core.standing import Standing
from agentflow.core.values import Json
from agentflow.errors import EntrypointError, JournalDamagedError, JournalVersionError, RuleError, RunNotFoundError, StoreDamagedError
from agentflow.ports import Store

if TYPE_CHECKING:
    from agentflow.engine.history import History, Recorded

STATUSES = {
    "completed": frozenset({"completed", "partial"}),
    "failed": frozenset({"failed", "timed_out"}),
    "cancelled": frozenset({"cancelled"}),
}


@dataclass(frozen=True, slots=True)
class Problem(Row):
    """Something wrong with a run ("" for the journal as a whole), at one of its records (None: with all of it)."""

    run_id: str
    seq: int | None
    message: str

    def to_dict(self) -> dict[str, Json]:
        """Return the problem as JSON."""
        return {"run_id": self.run_id, "seq": self.seq, "message": self.message}

    def __str__(self) -> str:
        run = f"run {self.run_id}" if self.run_id else "the journal"
        return f"{run}{'' if self.seq is None else f', record {self.seq}'}: {self.message}"


class Verification:
    """Looks through a store that may be written meanwhile: what was written between two looks is no problem.

    Args:
        store: where the runs are.
        history: reads them.
    """

    def __init__(self, store: Store, history: History) -> None:
        self._store = store
        self._history = history

    async def problems(self, run_id: str | None) -> list[Problem]:
        """Return what is wrong with one run, or with all and with the journal as a whole.

        Raises:
            RunNotFoundError: there is no such run.
        """
        if run_id is not None:
            return (await self._look_at((await self._history.find(run_id)).run_id))[0]
        everything = RunFilter(newest_first=False)
        try:
            before = await self._store.counts()
            rows = await self._store.rows(everything)
        except StoreDamagedError as error:
            return [Problem(error.run_id, None, error.message)]
        found: list[Problem] = []
        lengths: list[int | None] = []
        for row in rows:
            wrong, length = await self._look_at(row.run_id)
            found += wrong
            lengths.append(length)
        if before == await self._store.counts() and rows == await self._store.rows(everything):  # nobody wrote meanwhile
            found += _identity(before, rows, None if None in lengths else sum(length or 0 for length in lengths))
        return found

    async def _look_at(self, run_id: str) -> tuple[list[Problem], int | None]:
        """Return what is wrong with a run, and how many records it has (None where nobody can tell)."""
        try:
            entries = await self._store.entries(run_id)
            fault = first_fault(run_id, entries)
            if fault is not None:
                return [Problem(run_id, *fault)], len(entries)
            return await self._problems_of(run_id), len(entries)
        except StoreDamagedError as error:
            return [Problem(run_id, None, error.message)], None

    async def _problems_of(self, run_id: str) -> list[Problem]:
        try:
            recorded = await self._history.recorded(run_id)
            standing = await self._history.standing(recorded, is_whole=True)
        except RunNotFoundError:
            return []  # deleted meanwhile
        except (JournalDamagedError, JournalVersionError) as error:
            return [Problem(run_id, error.seq, error.message.partition(": ")[2])]
        except (RuleError, EntrypointError) as error:  # a condition or a merge function of its plan
            return [Problem(run_id, None, f"cannot be replayed here: {error}")]
        wrong = [Problem(run_id, None, told) for told in _differences(recorded, standing)]
        return wrong + await self._problems_of_snapshot(recorded, standing)

    async def _problems_of_snapshot(self, recorded: Recorded, standing: Standing) -> list[Problem]:
        snapshot = await self._store.snapshot(standing.run_id)
        if snapshot is None or not recorded.moved_at <= snapshot[0] <= standing.seq:
            return []
        seq, body = snapshot
        try:
            kept = thaw_standing(standing.run_id, standing.walk.plan, event_of(standing.run_id, recorded.created), body)
        except (JournalDamagedError, JournalVersionError) as error:
            return [Problem(standing.run_id, None, error.message.partition(": ")[2])]
        if (kept.seq, kept.hash) != (seq, recorded.entries[seq].hash):
            return [Problem(standing.run_id, seq, "its snapshot stands after another record")]
        return []


def _differences(recorded: Recorded, standing: Standing) -> Iterator[str]:
    """Yield where a run's row says something else than its records."""
    row, created = recorded.row, recorded.created
    told = row_after(row, standing, recorded.records[-1].at)
    pairs: list[tuple[str, object, object]] = [
        ("status", row.status, told.status),
        ("plan_hash", row.plan_hash, told.plan_hash),
        ("event", row.event_id, created.event_id),
        ("session", row.session_id, created.session_id),
        ("pattern", row.pattern, _pattern_of(standing) if recorded.moved_at else created.pattern),
        ("whether it has ended", row.ended_at is not None, told.ended_at is not None),
    ]
    if not _is_same_state(row.state, told.state):
        pairs.append(("state", row.state, told.state))
    for name, listed, recorded_as in pairs:
        if listed != recorded_as:
            yield f"its row says {listed!r} for its {name}, its records say {recorded_as!r}"
    if missing := sorted(set(told.flags) - set(row.flags)):
        yield f"its row lacks the flags {', '.join(missing)}"
    if standing.epoch > row.epoch:
        yield f"its row has epoch {row.epoch}, its records have {standing.epoch}"


def _pattern_of(standing: Standing) -> str:
    plan = standing.walk.plan
    return "" if isinstance(plan, Call) or plan.flow is None else plan.flow.mode


def _is_same_state(listed: str, recorded: str) -> bool:
    """Say whether a row's state fits: an owner that begins or takes over says so before it has recorded anything."""
    if recorded in TERMINAL_STATES or listed in TERMINAL_STATES:
        return listed == recorded
    return listed in {recorded, "recovering"} or {listed, recorded} == {"pending", "running"}


def _identity(counts: dict[str, int], rows: list[RunRow], records: int | None) -> Iterator[Problem]:
    """Yield where accepted = pending + running + recovering + paused + terminal does not hold, or records have no run."""
    states = Counter(row.state for row in rows)
    known = sum(counts.get(state, 0) for state in OPEN_STATES | TERMINAL_STATES)
    if not len(rows) == known == counts["runs"]:
        yield Problem("", None, f"{len(rows)} runs were accepted, and {known} are in a state that there is")
    if unknown := sorted(states.keys() - OPEN_STATES - TERMINAL_STATES):
        yield Problem("", None, f"no run can be {', '.join(unknown)}")
    for row in rows:
        if row.state in TERMINAL_STATES and row.status not in STATUSES[row.state]:
            yield Problem(row.run_id, None, f"it is {row.state} with status {row.status}")
    if records not in (None, counts["records"]):
        yield Problem("", None, f"there are {counts['records']} records, and {records} of them belong to runs that can be read")
