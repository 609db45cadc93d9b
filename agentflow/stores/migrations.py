"""Migrations: numbered .sql files that bring a journal's schema up to date, in one transaction after a backup."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

FOLDER: Traversable = files("agentflow.stores") / "sql"


def scripts() -> list[str]:
    """Return the migrations in order; number n brings a journal from schema n - 1 to n."""
    named = sorted((file.name, file) for file in FOLDER.iterdir() if file.name.endswith(".sql"))
    return [file.read_text(encoding="utf-8") for _, file in named]


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring the journal from schema `version` to the newest; killed anywhere, it leaves the one or the other."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for script in scripts()[version:]:
            for statement in _statements(script):
                connection.execute(statement)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
