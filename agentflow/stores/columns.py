"""Columns: how rows and entries lie in SQLite's tables, and back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any, TypeAlias

from agentflow.core.entry import Entry
from agentflow.core.run_row import CORRUPT, OPEN_STATES, TERMINAL_STATES, RunFilter, RunRow
from agentflow.errors import StoreDamagedError

Column: TypeAlias = str | int | float | bytes | None

SEQ_BITS = 24  # of a record's key; the others are the run's number
MOST_ENTRIES = 1 << SEQ_BITS
_SEQ_MASK = MOST_ENTRIES - 1

_STATES = OPEN_STATES | TERMINAL_STATES
_LAST_MOMENT = 253_402_300_800.0  # the end of the year 9999
_TEXTS = ("run_id", "event_id", "event_hash", "state", "reason", "flags", "pattern", "plan_hash", "owner", "waiting")
_MOMENT_OR_NONE = (float, type(None))
_KINDS: dict[str, tuple[type, ...]] = {"epoch": (int,), "started_at": (float,), "ended_at": _MOMENT_OR_NONE, "due_at": _MOMENT_OR_NONE}
_TYPES = {name: (str,) if name in _TEXTS else _KINDS.get(name, (str, type(None))) for name in RunRow.__slots__}
_FIT_SHAPES: set[tuple[type, ...]] = set()  # the columns' types as they were in rows that could be read: few, and seen again and again

# The columns of `runs` lie in the order of RunRow's fields, behind the run's number.
_EVERY = "SELECT * FROM runs WHERE"
_OPEN = "SELECT * FROM runs WHERE state IN ('pending', 'running', 'paused', 'recovering') AND"  # by the index of open runs
_WANTED = (
    " (?1 IS NULL OR state = ?1) AND (?2 IS NULL OR status = ?2) AND (?3 IS NULL OR pattern = ?3)"
    " AND (?4 IS NULL OR session_id = ?4) AND (?5 IS NULL OR started_at >= ?5) AND (?6 IS NULL OR instr(flags, ?6))"
    " AND (?7 IS NULL OR (state IN ('pending', 'running', 'paused', 'recovering')) = ?7)"
    " AND (?8 IS NULL OR (session_id IS NOT NULL) = ?8)"
    " AND (?9 IS NULL OR (parent_id IS NULL) = ?9) AND (?10 IS NULL OR root_id = ?10)"
)
_UP = " AND (?12 IS NULL OR number > (SELECT number FROM runs WHERE run_id = ?12)) ORDER BY number LIMIT ?11"
_DOWN = " AND (?12 IS NULL OR number < (SELECT number FROM runs WHERE run_id = ?12)) ORDER BY number DESC LIMIT ?11"

INSERT_RUN = "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
ROW_BY_ID = "SELECT * FROM runs WHERE run_id = ?"
ROW_BY_EVENT = "SELECT * FROM runs WHERE event_id = ?"
OPEN_ROWS = _OPEN + " TRUE ORDER BY number"


def first_key(number: int) -> int:
    """Return the key of a run's first record; the keys of run `number` end before `first_key(number + 1)`."""
    return number << SEQ_BITS


def columns_of(row: RunRow) -> tuple[Column, ...]:
    """Return a row as the columns of `runs`, without the number."""
    return (
        row.run_id,
        row.event_id,
        row.event_hash,
        row.state,
        row.status,
        row.reason,
        _json(row.flags),
        row.pattern,
        row.session_id,
        row.plan_hash,
        row.epoch,
        row.owner,
        row.started_at,
        row.ended_at,
        row.due_at,
        _json(row.waiting),
        row.parent_id,
        row.root_id,
    )


def row_of(columns: Sequence[Column]) -> RunRow:
    """Return the row that stands in the columns of `runs`.

    Raises:
        StoreDamagedError: what stands there is no row.
    """
    row, damaged = remains_of(columns)
    if damaged:
        raise StoreDamagedError(f"the row of run {row.run_id} cannot be read: {', '.join(damaged)}", run_id=row.run_id)
    return row


def remains_of(columns: Sequence[Column]) -> tuple[RunRow, tuple[str, ...]]:
    """Return the row that stands in the columns of `runs`, and the names of the columns that cannot be read.

    When there are any the row is flagged `corrupt`, and has the defaults in their place; a run whose state is lost is paused.
    """
    fields: dict[str, Any] = dict(zip(_TYPES, columns[1:], strict=True))
    shape = tuple(map(type, columns))
    damaged = [] if shape in _FIT_SHAPES else [name for name, kinds in _TYPES.items() if not isinstance(fields[name], kinds)]
    for name in ("flags", "waiting"):
        words = () if fields[name] == "[]" else _words(fields[name])
        if words is None:
            damaged.append(name)
        fields[name] = words
    if fields["state"] not in _STATES:
        damaged.append("state")
    damaged += [name for name in ("started_at", "ended_at", "due_at") if not _is_moment(fields[name])]
    if not damaged:
        _FIT_SHAPES.add(shape)
        return RunRow(**fields), ()
    run_id = fields["run_id"]
    known = {name: value for name, value in fields.items() if name not in damaged}
    known |= {"run_id": run_id.decode(errors="replace") if isinstance(run_id, bytes) else str(run_id)}
    known = {"event_id": "", "event_hash": "", "state": "paused", **known}
    known["flags"] = tuple(dict.fromkeys((*known.get("flags", ()), CORRUPT)))
    return RunRow(**known), tuple(dict.fromkeys(damaged))


def _words(text: object) -> tuple[str, ...] | None:
    try:
        words = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    return tuple(words) if isinstance(words, list) and all(isinstance(word, str) for word in words) else None


def _is_moment(at: object) -> bool:
    """Say whether something is a time that a calendar has, in seconds since the epoch, or none."""
    return at is None or (isinstance(at, float) and -_LAST_MOMENT < at < _LAST_MOMENT)


def rows_query(wanted: RunFilter) -> tuple[str, tuple[Column, ...]]:
    """Return the statement and its parameters for a filter."""
    flag = None if wanted.flag is None else json.dumps(wanted.flag)
    limit = -1 if wanted.limit is None else wanted.limit
    told = (wanted.state, wanted.status, wanted.pattern, wanted.session_id, wanted.since, flag, wanted.is_open)
    values = (*told, wanted.has_session, wanted.is_top, wanted.root_id, limit, wanted.beyond)
    return (_OPEN if wanted.is_open else _EVERY) + _WANTED + (_DOWN if wanted.newest_first else _UP), values


def entry_of(columns: Sequence[Column]) -> Entry:
    """Return the entry of a row of `records`; what is no entry raises TypeError."""
    key, epoch, at, kind, version, body, digest = columns
    if not (
        isinstance(key, int)
        and isinstance(epoch, int)
        and isinstance(at, float)
        and isinstance(kind, str)
        and isinstance(version, int)
        and isinstance(body, bytes)
        and isinstance(digest, bytes)
    ):
        raise TypeError("not an entry")
    return Entry(key & _SEQ_MASK, epoch, at, kind, version, body, digest)


def number_of(connection: sqlite3.Connection, run_id: str) -> int | None:
    """Return the number of a run, None when there is no such run."""
    found = connection.execute("SELECT number FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    return found and int(found[0])


def _json(words: tuple[str, ...]) -> str:
    return json.dumps(words) if words else "[]"
