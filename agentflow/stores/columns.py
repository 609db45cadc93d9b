"""Columns: how rows and entries lie in SQLite's tables, and back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import TypeAlias

from agentflow.core.entry import Entry
from agentflow.core.run_row import RunFilter, RunRow
from agentflow.errors import StoreDamagedError

Column: TypeAlias = str | int | float | bytes | None

SEQ_BITS = 24  # of a record's key; the others are the run's number
MOST_ENTRIES = 1 << SEQ_BITS
_SEQ_MASK = MOST_ENTRIES - 1

# The columns of `runs` lie in the order of RunRow's fields, behind the run's number.
_EVERY = "SELECT * FROM runs WHERE"
_OPEN = "SELECT * FROM runs WHERE state IN ('pending', 'running', 'paused', 'recovering') AND"  # by the index of open runs
_WANTED = (
    " (?1 IS NULL OR state = ?1) AND (?2 IS NULL OR status = ?2) AND (?3 IS NULL OR pattern = ?3)"
    " AND (?4 IS NULL OR session_id = ?4) AND (?5 IS NULL OR started_at >= ?5) AND (?6 IS NULL OR instr(flags, ?6))"
    " AND (?7 IS NULL OR (state IN ('pending', 'running', 'paused', 'recovering')) = ?7)"
)
_UP, _DOWN = " ORDER BY number LIMIT ?8", " ORDER BY number DESC LIMIT ?8"

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
    try:
        names = RunRow.__slots__
        fields: dict[str, object] = dict(zip(names, columns[1:], strict=True))
        for name in ("flags", "waiting"):
            text = fields[name]
            fields[name] = () if text == "[]" else tuple(json.loads(str(text)))
        return RunRow(**fields)  # type: ignore[arg-type]
    except ValueError as error:
        run_id = str(columns[1])
        raise StoreDamagedError(f"the row of run {run_id} cannot be read", run_id=run_id) from error


def rows_query(wanted: RunFilter) -> tuple[str, tuple[Column, ...]]:
    """Return the statement and its parameters for a filter."""
    flag = None if wanted.flag is None else json.dumps(wanted.flag)
    limit = -1 if wanted.limit is None else wanted.limit
    values = (wanted.state, wanted.status, wanted.pattern, wanted.session_id, wanted.since, flag, wanted.is_open, limit)
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
