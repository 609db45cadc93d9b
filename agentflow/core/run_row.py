"""RunRow: what a store knows of a run without reading its records, and the filter that lists such rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from operator import attrgetter

from agentflow.core.values import Json

OPEN_STATES = frozenset({"pending", "running", "paused", "recovering"})
TERMINAL_STATES = frozenset({"completed", "failed", "cancelled"})
CORRUPT = "corrupt"  # the flag of a run whose row or records cannot be read


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run, as lists show it and as owners take it.

    Attributes:
        run_id: the run's id.
        event_id: the id of the event it serves; unique in a store.
        event_hash: hex digest of that event's canonical body, to tell a repeated event from another one under its id.
        state: pending, running, paused, recovering, completed, failed or cancelled.
        status: completed, partial, failed, timed_out or cancelled; None while the run is open.
        reason: why it stands where it stands, e.g. "condition_met"; "" when there is nothing to say.
        flags: e.g. "dead_lettered", "corrupt".
        pattern: the mode of its main flow.
        session_id: its session, if it has one.
        plan_hash: which plan it walks.
        epoch: how often it was taken; whoever writes with an older one is refused.
        owner: who took it last ("" for nobody).
        started_at: seconds since the epoch.
        ended_at: seconds since the epoch; None while it is open.
        due_at: the next deadline of a run that waits, in seconds since the epoch.
        waiting: the positions that wait for a person or a signal.
        parent_id: the run that emitted its event.
        root_id: the run at the top of that line.
    """

    run_id: str
    event_id: str
    event_hash: str
    state: str = "pending"
    status: str | None = None
    reason: str = ""
    flags: tuple[str, ...] = ()
    pattern: str = ""
    session_id: str | None = None
    plan_hash: str = ""
    epoch: int = 1
    owner: str = ""
    started_at: float = 0.0
    ended_at: float | None = None
    due_at: float | None = None
    waiting: tuple[str, ...] = ()
    parent_id: str | None = None
    root_id: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether the run has not ended."""
        return self.state in OPEN_STATES

    @property
    def holds_session(self) -> bool:
        """Whether it has a place in its session. One that cannot be read has none: nothing could ever end it."""
        return self.session_id is not None and self.is_open and CORRUPT not in self.flags

    def to_dict(self) -> dict[str, Json]:
        """Return the row as JSON, under its fields' names."""
        row = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in row.items()}


_NAMES = tuple(RunRow.__slots__)
_values = attrgetter(*_NAMES)


def changed(row: RunRow, fields: Mapping[str, object]) -> RunRow:
    """Return a row with other values in some of its fields: `replace` at half the cost."""
    return RunRow(**{**dict(zip(_NAMES, _values(row), strict=True)), **fields})


def taken_over(row: RunRow, owner: str) -> RunRow:
    """Return the row of an open run once `owner` has taken it: one that was running is recovering until it goes on."""
    return replace(row, epoch=row.epoch + 1, owner=owner, state="recovering" if row.state == "running" else row.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which rows are wanted; what is None is not asked about.

    Attributes:
        state: exactly this state.
        status: exactly this status.
        pattern: exactly this mode.
        session_id: exactly this session.
        has_session: has one (True) or has none (False).
        since: started at this time or later, in seconds since the epoch.
        flag: has this flag.
        is_open: has not ended (True) or has (False).
        is_top: belongs to no other run (True) or does (False), as a workflow's steps do.
        root_id: belongs to this run, however far below it.
        beyond: stands behind the row of this run, in the order that is asked for; nothing does when there is no such run.
        limit: at most so many rows; None gives all.
        newest_first: in the reverse order of acceptance (default), else in that order.
    """

    state: str | None = None
    status: str | None = None
    pattern: str | None = None
    session_id: str | None = None
    has_session: bool | None = None
    since: float | None = None
    flag: str | None = None
    is_open: bool | None = None
    is_top: bool | None = None
    root_id: str | None = None
    beyond: str | None = None
    limit: int | None = None
    newest_first: bool = True

    def fits(self, row: RunRow) -> bool:
        """Say whether `row` is wanted; `beyond`, `limit` and the order are the caller's."""
        return (
            self.state in (None, row.state)
            and self.status in (None, row.status)
            and self.pattern in (None, row.pattern)
            and self.session_id in (None, row.session_id)
            and self.has_session in (None, row.session_id is not None)
            and (self.since is None or row.started_at >= self.since)
            and (self.flag is None or self.flag in row.flags)
            and self.is_open in (None, row.is_open)
            and self.is_top in (None, row.parent_id is None)
            and self.root_id in (None, row.root_id)
        )


def behind(rows: list[RunRow], run_id: str | None) -> list[RunRow]:
    """Return the rows behind that of a run; all of them when none is named, [] when it is not among them."""
    if run_id is None:
        return rows
    place = next((place for place, row in enumerate(rows, 1) if row.run_id == run_id), len(rows))
    return rows[place:]
