"""Staging: rows on their way into the tables of a journal, put in with one statement for each table."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from agentflow.stores.columns import INSERT_RUN, Column

Rows = list[tuple[Column, ...]]

_INSERT_RECORD = "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)"
_INSERT_PLAN = "INSERT OR IGNORE INTO plans VALUES (?, ?)"
_REPLACE_SNAPSHOT = "REPLACE INTO snapshots VALUES (?, ?, ?)"
_CHANGE_RUN = (
    "UPDATE runs SET state = ?, status = ?, reason = ?, flags = ?, pattern = ?, session_id = ?, plan_hash = ?, started_at = ?,"
    " ended_at = ?, due_at = ?, waiting = ?, parent_id = ?, root_id = ? WHERE number = ?"
)


@dataclass(slots=True)
class Staged:
    """Rows that are ready to go into the tables together."""

    plans: Rows = field(default_factory=list)
    runs: Rows = field(default_factory=list)
    records: Rows = field(default_factory=list)
    changes: Rows = field(default_factory=list)
    snapshots: Rows = field(default_factory=list)

    def clear(self) -> None:
        """Drop all rows."""
        for rows in (self.plans, self.runs, self.records, self.changes, self.snapshots):
            rows.clear()

    def insert(self, connection: sqlite3.Connection) -> None:
        """Put the rows into the tables.

        Raises:
            sqlite3.Error: one of them has no place there.
        """
        if self.plans:
            connection.executemany(_INSERT_PLAN, self.plans)
        if self.runs:
            connection.executemany(INSERT_RUN, self.runs)
        if self.records:
            connection.executemany(_INSERT_RECORD, self.records)
        if self.changes:
            connection.executemany(_CHANGE_RUN, self.changes)
        if self.snapshots:
            connection.executemany(_REPLACE_SNAPSHOT, self.snapshots)
