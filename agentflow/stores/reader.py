"""Reader: the thread that reads a journal, on a connection of its own, so that reading never waits for writing."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from agentflow.errors import StorageError, StoreDamagedError, StoreError
from agentflow.stores.salvage import is_unreadable

Result = TypeVar("Result")


class Reader:
    """Reads in one thread; its connection is opened on first use, and anew after an I/O error.

    Args:
        connect: opens a connection that only reads; called in the thread.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(1, thread_name_prefix="agentflow-journal-reader")
        self._connection: sqlite3.Connection | None = None
        self._is_stale = False

    async def read(self, work: Callable[[sqlite3.Connection], Result], run_id: str = "") -> Result:
        """Read in the thread; `run_id` is the run that is named where the place is damaged.

        Raises:
            StoreDamagedError: what was asked for cannot be read.
            StorageError: the system reported an error.
            StoreError: the journal is not open.
        """
        if self._pool is None:
            raise StoreError("the journal is closed")
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, work, run_id)

    def drop(self) -> None:
        """Let the next read open a fresh connection."""
        self._is_stale = True

    async def close(self) -> None:
        """Close the connection and end the thread."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.get_running_loop().run_in_executor(pool, self._disconnect)
            pool.shutdown()

    def _read(self, work: Callable[[sqlite3.Connection], Result], run_id: str) -> Result:
        if self._is_stale:
            self._disconnect()
        try:
            if self._connection is None:
                self._connection = self._connect()
            return work(self._connection)
        except sqlite3.DatabaseError as error:
            what = f"run {run_id}" if run_id else "the journal"
            if is_unreadable(error):
                raise StoreDamagedError(f"{what} cannot be read: {error}", run_id=run_id) from error
            self._disconnect()
            raise StorageError(f"{what} cannot be read: {error}") from error

    def _disconnect(self) -> None:
        self._is_stale = False
        if self._connection is not None:
            with suppress(sqlite3.Error):  # it may be the connection that failed
                self._connection.close()
            self._connection = None
