"""Writer: the one thread that writes a journal. What waits when it comes round shares one commit."""

from __future__ import annotations

import sqlite3
import threading
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeAlias, TypeVar

from agentflow.core.append import Append
from agentflow.errors import AgentflowError, StorageError, StorageFullError, StoreDamagedError, StoreError
from agentflow.stores.pledge import Pledge, settle_all
from agentflow.stores.tables import PAGE, Outcome, Tables

Result = TypeVar("Result")
Work: TypeAlias = Callable[[Tables], Result]
_Item: TypeAlias = tuple[Append | Work[object] | None, Pledge]

_PAGES = 3  # that an append adds to the log at the least, on average
_BACKLOG = 1000  # pages written since the last checkpoint, about 2 MB: time for the next one. A log that begins anew is faster to sync
_IDLE_BACKLOG = 256
_IDLE_S = 1.0
_LONG_LOG = 8000  # pages in the log, about 16 MB: wait a little for readers that keep it from beginning anew
_TOO_LONG_LOG = 32000  # about 64 MB: say so
_PATIENCE = ("PRAGMA busy_timeout = 200", "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA busy_timeout = 5000")


class Writer:
    """Takes appends and other work from the event loop, does them in a thread, and settles their futures in the loop.

    An error of the file as a whole (a failed write or fsync) is never met by trying again on the same connection: it is
    closed, the journal is opened anew, and what is found there decides.

    Args:
        connect: opens the writing connection; called in the thread.
        on_fault: called in the thread after an I/O error, so that readers drop their connections too.
        warn: is told what somebody should look at.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], on_fault: Callable[[], None], warn: Callable[[str], None]) -> None:
        self._connect = connect
        self._on_fault = on_fault
        self._warn = warn
        self._queue: SimpleQueue[_Item] = SimpleQueue()
        self._loop: AbstractEventLoop
        self._thread: threading.Thread | None = None
        self._tables: Tables | None = None
        self._backlog = 0
        self._has_warned = False
        self.commits = 0
        self.listener: Callable[[Sequence[Append]], None] | None = None  # hears what was committed, after those who wait for it

    def start(self, loop: AbstractEventLoop) -> None:
        """Begin; the connection is opened by the first work."""
        self._loop = loop
        self._thread = threading.Thread(target=self._run, name="agentflow-journal", daemon=True)
        self._thread.start()

    def append(self, append: Append) -> Future[None]:
        """Queue an append; the future is done when its commit is."""
        pledge = Pledge(self._loop)
        self._queue.put((append, pledge))
        return pledge  # type: ignore[return-value] # nobody reads what it gives, which is None

    async def do(self, work: Work[Result]) -> Result:
        """Do something else with the tables, in turn."""
        pledge = Pledge(self._loop)
        self._queue.put((work, pledge))
        return await pledge  # type: ignore[return-value]

    async def stop(self) -> None:
        """Do what is queued, then close the connection and end the thread."""
        if self._thread is not None:
            pledge = Pledge(self._loop)
            self._queue.put((None, pledge))
            self._thread = None
            await pledge

    def _run(self) -> None:
        while True:
            batch = self._gather()
            if batch:
                outcomes = self._outcomes(batch)
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    self._loop.call_soon_threadsafe(settle_all, self._loop, zip(batch, outcomes, strict=True))
                    if self.listener is not None:
                        self._announce(self.listener, batch, outcomes)
                if batch[-1][0] is None:
                    return
            if self._backlog >= (_BACKLOG if batch else _IDLE_BACKLOG):
                self._checkpoint()

    def _announce(self, listener: Callable[[Sequence[Append]], None], batch: list[_Item], outcomes: Sequence[object]) -> None:
        done = [item for (item, _), outcome in zip(batch, outcomes, strict=True) if isinstance(item, Append) and outcome is None]
        written = [part for item in done for part in (item, *item.also)]
        if written:
            self._loop.call_soon_threadsafe(listener, written)

    def _outcomes(self, batch: list[_Item]) -> Sequence[object]:
        """Do what waited, in turn, and return what came of each; appends that stand side by side share a commit."""
        outcomes: list[object] = []
        appends: list[Append] = []
        for item, _ in batch:
            if isinstance(item, Append):
                appends.append(item)
                continue
            if appends:
                outcomes += self._commit(appends)
                appends = []
            outcomes.append(self._do(item))
        if not outcomes:  # nothing but appends, as most often
            return self._commit(appends)
        return [*outcomes, *self._commit(appends)] if appends else outcomes

    def _gather(self) -> list[_Item]:
        """Return what waits; nothing when it was quiet for a second and the log should be worked off."""
        queue = self._queue
        try:
            batch = [queue.get(timeout=_IDLE_S if self._backlog >= _IDLE_BACKLOG else None)]
        except Empty:
            return []
        while queue.qsize() and batch[-1][0] is not None:  # nobody else takes from it
            batch.append(queue.get_nowait())
        return batch

    def _do(self, work: Work[object] | None) -> object:
        try:
            if work is None:
                self._close()
                return None
            return work(self._ready())
        except sqlite3.Error as error:
            return self._after_error(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, who asked must hear of it, and the thread must go on
            return error

    def _commit(self, group: Sequence[Append]) -> Sequence[Exception | None]:
        try:
            tables = self._ready()
            outcomes = tables.write(group)
        except sqlite3.Error as error:
            told = self._after_error(error)
            return self._decide(group, told) if isinstance(told, StorageError) and told.is_unknown else [told] * len(group)
        except Exception as error:  # noqa: BLE001 - as above
            return [error] * len(group)
        self.commits += 1
        self._backlog += _PAGES * len(group) + tables.bytes // PAGE
        tables.bytes = 0
        return outcomes

    def _ready(self) -> Tables:
        if self._tables is None:
            self._tables = Tables(self._connect())
        return self._tables

    def _after_error(self, error: sqlite3.Error) -> AgentflowError:
        """Say what a failed transaction means; after an I/O error the connection is gone."""
        kind = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if kind == sqlite3.SQLITE_FULL:
            return StorageFullError("there is no room left for the journal", hint="make room; it goes on by itself")
        if kind == sqlite3.SQLITE_BUSY:
            return StorageError("the journal is locked by another program", hint="end what has it open")
        was_ready = self._tables is not None
        self._close()
        self._on_fault()
        if kind in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return StoreDamagedError(f"the journal cannot be written: {error}")
        return StorageError(f"the journal could not be written: {error}", is_unknown=was_ready)

    def _decide(self, group: Sequence[Append], unknown: AgentflowError) -> Sequence[Outcome]:
        """After an I/O error: open the journal anew, and see which appends are in it.

        What is found may be in the system's memory only, for the failed fsync may have dropped it. So it counts once it
        was copied into the file proper by a checkpoint, whose own fsync is of what was written just now.
        """
        try:
            tables = self._ready()
            found = [tables.holds(append) for append in group]
            if any(found) and not _is_checkpointed(tables.connection):
                return [unknown] * len(group)
        except (sqlite3.Error, StoreError, OSError):
            self._close()
            return [unknown] * len(group)
        lost = StorageError(f"{unknown.message}; nothing of it was written")
        return [None if is_found else lost for is_found in found]

    def _checkpoint(self) -> None:
        """Copy the log into the file, as far as readers let it, so that the log begins anew."""
        if self._tables is None:
            return
        execute = self._tables.connection.execute
        try:
            _, length, _ = execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if length > _LONG_LOG:
                for pragma in _PATIENCE:
                    found = execute(pragma).fetchone()
                    length = found[1] if len(found) > 1 else length
            self._backlog = 0
        except sqlite3.Error as error:
            self._backlog = 0
            self._after_error(error)
            return
        if length > _TOO_LONG_LOG and not self._has_warned:
            self._has_warned = True
            self._warn(f"the journal's log has {length * PAGE >> 20} MB, because a reader keeps it open; end that reader")

    def _close(self) -> None:
        if self._tables is not None:
            with suppress(sqlite3.Error):  # it may be the connection that failed
                self._tables.connection.close()
            self._tables = None


def _is_checkpointed(connection: sqlite3.Connection) -> bool:
    is_busy, length, done = connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
    return not is_busy and length == done
