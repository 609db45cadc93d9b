"""The durable floors: the same handlers, and the least that writes down each step before the next one begins."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sqlite3
import threading
from asyncio import AbstractEventLoop, Future
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

from benchmarks.contender import Contender, Run
from benchmarks.workloads import Data, Workload, copying, handlers

Row: TypeAlias = tuple[int, int, str]  # run, step (-1: the event), JSON
Waiting: TypeAlias = "tuple[list[Row], Future[None]] | None"

INSERT = "INSERT INTO journal VALUES (?, ?, ?)"
ABSENT = object()
encode = json.JSONEncoder(separators=(",", ":")).encode


class Floor(Contender):
    """Runs the agents in turn, writes after each, and waits until that is on disk; nothing is checked or caught.

    `is_whole` writes the whole state, else what the step changed; `has_input` writes the event's data once, too; with
    `accepts` it does so in a commit of its own before the first step, else in that of the first step.
    """

    is_whole = False
    has_input = False
    accepts = False

    async def build(self, workload: Workload) -> Run:
        """Open the journal and return the workload as a person would write it."""
        await self.open(self.make_folder())
        agents = list(handlers(workload, copying).values())
        steps = agents * workload.agents if workload.mode == "loop" else agents
        numbers = itertools.count(1)
        write, is_whole, has_input, accepts = self.write, self.is_whole, self.has_input, self.accepts

        async def run(data: Data) -> Any:
            number = next(numbers)
            rows = [(number, -1, encode(data))] if has_input else []
            if accepts:
                await write(rows)
                rows = []
            state = data
            for step, handler in enumerate(steps):
                new = await handler(data, state)
                rows.append((number, step, encode(new if is_whole else changed(state, new))))
                await write(rows)
                rows = []
                state = new
            return state

        return run

    async def open(self, folder: Path) -> None:
        """Open the journal."""
        raise NotImplementedError

    async def write(self, rows: list[Row]) -> None:
        """Return when the rows are on disk."""
        raise NotImplementedError


def changed(old: Data, new: Data) -> Data:
    """Return the entries of a new state that the old one did not have; a handler's copy shares what it left alone."""
    return {key: value for key, value in new.items() if old.get(key, ABSENT) is not value}


def connect(folder: Path) -> sqlite3.Connection:
    """Make a journal in which a commit survives a power cut."""
    connection = sqlite3.connect(folder / "journal.db", isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE journal (run INTEGER, step INTEGER, body TEXT, PRIMARY KEY (run, step)) WITHOUT ROWID")
    return connection


def commit(connection: sqlite3.Connection, rows: list[Row]) -> None:
    """Write rows in one transaction; a single one needs no BEGIN."""
    if len(rows) == 1:
        connection.execute(INSERT, rows[0])
        return
    connection.execute("BEGIN")
    connection.executemany(INSERT, rows)
    connection.execute("COMMIT")


class SqliteFull(Floor):
    """Writes the whole state after each step, on the event loop itself: 4 commits for 4 steps."""

    is_whole = True

    async def open(self, folder: Path) -> None:
        """Open the journal."""
        self._connection = connect(folder)

    async def write(self, rows: list[Row]) -> None:
        """Commit on the loop, which stands still meanwhile."""
        commit(self._connection, rows)


class SqliteFullInputDelta(SqliteFull):
    """Writes the event's data with the first step, then what each step changed: 4 commits for 4 steps."""

    is_whole = False
    has_input = True


class SqliteFullThread(Floor):
    """Writes through one thread, a commit for the event and one for each step: 5 commits for 4 steps.

    The thread hands over by `call_soon_threadsafe`, so that the loop does not stand still. Each write is a commit.
    """

    has_input = True
    accepts = True

    async def open(self, folder: Path) -> None:
        """Open the journal and start the thread."""
        self._loop: AbstractEventLoop = asyncio.get_running_loop()
        self._connection = connect(folder)
        self._queue: SimpleQueue[Waiting] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    async def write(self, rows: list[Row]) -> None:
        """Hand the rows to the thread and wait for its answer."""
        done = self._loop.create_future()
        self._queue.put((rows, done))
        await done

    async def close(self) -> None:
        """End the thread."""
        self._queue.put(None)
        self._thread.join()
        self._connection.close()

    def _serve(self) -> None:
        while item := self._queue.get():
            commit(self._connection, item[0])
            self._loop.call_soon_threadsafe(item[1].set_result, None)


class SqliteFullGroup(SqliteFullThread):
    """Writes what each step changed; all writes that wait when the thread comes round share one commit."""

    has_input = False
    accepts = False

    def _serve(self) -> None:
        while item := self._queue.get():
            batch = [item]
            is_over = False
            try:
                while following := self._queue.get_nowait():
                    batch.append(following)
                is_over = True
            except Empty:
                pass
            commit(self._connection, [row for rows, _ in batch for row in rows])
            self._loop.call_soon_threadsafe(settle, [done for _, done in batch])
            if is_over:
                return


class SqliteFullGroupInput(SqliteFullGroup):
    """The same, with the event's data written before the first step."""

    has_input = True
    accepts = True


def settle(futures: list[Future[None]]) -> None:
    """Wake those whose rows are on disk."""
    for future in futures:
        future.set_result(None)


class FileFsync(Floor):
    """Appends the whole state after each step to a file, a line each, and syncs it: 4 syncs for 4 steps."""

    is_whole = True

    async def open(self, folder: Path) -> None:
        """Open the file."""
        self._file = os.open(folder / "journal.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)

    async def write(self, rows: list[Row]) -> None:
        """Append and sync."""
        os.write(self._file, "".join(f"{run} {step} {body}\n" for run, step, body in rows).encode())
        getattr(os, "fdatasync", os.fsync)(self._file)

    async def close(self) -> None:
        """Close the file."""
        os.close(self._file)
