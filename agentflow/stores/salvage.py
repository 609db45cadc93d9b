"""Salvage: the rows of `runs` when some of them are damaged. One row that cannot be read must not hide the others."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from agentflow.core.run_row import CORRUPT, RunFilter, RunRow, behind
from agentflow.stores.columns import Column, remains_of, rows_query

# The ids of all runs stand in an index too, which can be read where the table cannot.
_NAMES = "SELECT number, run_id FROM runs INDEXED BY sqlite_autoindex_runs_1 ORDER BY number"
_ONE = "SELECT * FROM runs WHERE number = ?"
_UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)  # the last one: text that is no UTF-8


class Found(NamedTuple):
    """A row of `runs` with its number; one that is damaged has what could be read of it, and the flag `corrupt`."""

    number: int
    row: RunRow
    is_damaged: bool


def is_unreadable(error: sqlite3.Error) -> bool:
    """Say whether an error is about what stands in the file, and not about reading it."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _UNREADABLE


def rows_that_fit(connection: sqlite3.Connection, wanted: RunFilter) -> list[RunRow]:
    """Return the rows that a filter asks for, damaged ones too as far as they can be told to fit."""
    is_seeking = wanted.flag == CORRUPT  # which damaged rows do not have in their column
    query, values = rows_query(RunFilter(newest_first=wanted.newest_first) if is_seeking else wanted)
    found = found_together(connection, query, values)
    if found is None:
        found = found_singly(connection)
        if wanted.newest_first:
            found.reverse()
    elif not is_seeking:
        return [one.row for one in found]
    return [row for row in behind([one.row for one in found], wanted.beyond) if wanted.fits(row)][: wanted.limit]


def found_together(connection: sqlite3.Connection, query: str, values: Sequence[Column] = ()) -> list[Found] | None:
    """Return what a query for whole rows finds; None where something stops it: then they have to be read one by one.

    Raises:
        sqlite3.Error: they cannot be read at this time.
    """
    try:
        return [_found(columns) for columns in connection.execute(query, values)]
    except sqlite3.DatabaseError as error:
        if not is_unreadable(error):
            raise
        return None


def found_singly(connection: sqlite3.Connection) -> list[Found]:
    """Return all rows in order of acceptance, each read by itself.

    Raises:
        sqlite3.Error: not even their names can be read.
    """
    is_alone = not connection.in_transaction
    if is_alone:
        connection.execute("BEGIN")  # so that nobody deletes a run between two looks
    kept, connection.text_factory = connection.text_factory, _text_or_bytes
    try:
        return [_read(connection, number, run_id) for number, run_id in connection.execute(_NAMES).fetchall()]
    finally:
        connection.text_factory = kept
        if is_alone:
            connection.execute("ROLLBACK")


def _read(connection: sqlite3.Connection, number: int, run_id: Column) -> Found:
    columns: Sequence[Column] | None = None
    try:
        columns = connection.execute(_ONE, (number,)).fetchone()
    except sqlite3.DatabaseError as error:
        if not is_unreadable(error):
            raise
    return _found(columns or (number, run_id, *[None] * (len(RunRow.__slots__) - 1)))


def _found(columns: Sequence[Column]) -> Found:
    row, damaged = remains_of(columns)
    return Found(columns[0], row, bool(damaged))  # type: ignore[arg-type] # a table's own number is one


def _text_or_bytes(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw  # no text, as whoever looks at the column sees
