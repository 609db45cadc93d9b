"""Feed: what a journal in SQLite has that somebody has not seen yet. Works on a connection that only reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator

from agentflow.core.reach import News, Reach
from agentflow.errors import StoreDamagedError
from agentflow.stores.columns import SEQ_BITS, entry_of, first_key

_OPEN_RUNS = (
    "SELECT number, (SELECT max(key) FROM records WHERE key >= number << ?1 AND key < (number + 1) << ?1) FROM runs"
    " WHERE state IN ('pending', 'running', 'paused', 'recovering')"
)
_RECORDS = "SELECT key, epoch, at, type, version, body, hash FROM records WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"
_NAME = "SELECT run_id FROM runs WHERE number = ?"
_NUMBER = "SELECT number FROM runs WHERE run_id = ?"


def reach_of(connection: sqlite3.Connection) -> Reach:
    """Return how far the journal goes, as of one moment."""
    connection.execute("BEGIN")
    try:
        (journal,) = connection.execute("SELECT id FROM about").fetchone()
        (last,) = connection.execute("SELECT max(number) FROM runs").fetchone()
        found = connection.execute(_OPEN_RUNS, (SEQ_BITS,)).fetchall()
    finally:
        connection.execute("ROLLBACK")
    return Reach(journal, last or 0, {number: key - first_key(number) + 1 for number, key in found if key is not None})


def numbers(connection: sqlite3.Connection, run_ids: Collection[str]) -> dict[str, int]:
    """Return the numbers of those of these runs that there are."""
    found = [(run_id, connection.execute(_NUMBER, (run_id,)).fetchone()) for run_id in run_ids]
    return {run_id: row[0] for run_id, row in found if row is not None}


def news(connection: sqlite3.Connection, start: Reach, stop: Reach, most: int, most_bytes: int) -> list[News]:
    """Return what is beyond `start` and not beyond `stop`, run by run in order, until it is enough.

    Raises:
        StoreDamagedError: an entry cannot be read, or is missing.
    """
    found: list[News] = []
    size = 0
    for one in _beyond(connection, start, stop, most):
        found.append(one)
        size += len(one.entry.body)
        if len(found) >= most or size >= most_bytes:
            break
    return found


def _beyond(connection: sqlite3.Connection, start: Reach, stop: Reach, most: int) -> Iterator[News]:
    for number in sorted(start.next_seqs):
        end = stop.next_seqs.get(number)
        key = first_key(number)
        yield from _read(connection, key + start.next_seqs[number], first_key(number + 1) if end is None else key + end, start, most)
    for one in _read(connection, first_key(start.last + 1), first_key(stop.last + 1), start, -1):
        end = stop.next_seqs.get(one.number)
        if end is None or one.entry.seq < end:
            yield one


def _read(connection: sqlite3.Connection, first: int, end: int, start: Reach, most: int) -> Iterator[News]:
    number, run_id, seq = -1, "", 0
    if first >= end:
        return
    for columns in connection.execute(_RECORDS, (first, end, most)):
        if columns[0] >> SEQ_BITS != number:
            number = columns[0] >> SEQ_BITS
            row = connection.execute(_NAME, (number,)).fetchone()
            if row is None:
                raise StoreDamagedError(f"run number {number} has records and no row")
            run_id, seq = str(row[0]), start.wanted(number) or 0
        try:
            entry = entry_of(columns)
        except TypeError as error:
            raise StoreDamagedError(f"run {run_id}: a record cannot be read", run_id=run_id) from error
        if entry.seq != seq:
            raise StoreDamagedError(f"run {run_id}: records are missing", run_id=run_id)
        seq += 1
        yield News(number, run_id, entry)
