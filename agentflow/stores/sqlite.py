"""SqliteStore: journals in one SQLite file, the embedded default."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Collection, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from agentflow.core.append import Append
from agentflow.core.entry import Entry
from agentflow.core.reach import News, Reach
from agentflow.core.run_row import CORRUPT, OPEN_STATES, TERMINAL_STATES, RunFilter, RunRow
from agentflow.errors import StorageError, StorageFullError, StoreDamagedError, StoreError
from agentflow.stores import feed
from agentflow.stores.columns import ROW_BY_EVENT, ROW_BY_ID, entry_of, first_key, number_of, row_of
from agentflow.stores.journal_file import SYNCHRONOUS, JournalFile, copy_to
from agentflow.stores.leases import Leases
from agentflow.stores.lock import FileLock
from agentflow.stores.plans import NAMING, unnamed
from agentflow.stores.reader import Reader
from agentflow.stores.salvage import rows_that_fit
from agentflow.stores.tables import Tables
from agentflow.stores.writer import Work, Writer

Result = TypeVar("Result")

_LEAST_ROOM = 128 * 1024  # bytes; what opening a journal writes at most
_SLICE = 50  # runs deleted in one transaction, so that appends need not wait long
MENDED = (3, 51, 3)
OLD = (
    f"SQLite {sqlite3.sqlite_version} has a bug when two connections write and checkpoint at once (mended in 3.51.3);"
    " agentflow writes through one connection; let no other program write this file"
)
_KNOWN = ", ".join(f"'{state}'" for state in sorted(OPEN_STATES | TERMINAL_STATES))
_STATES = f"SELECT CASE WHEN state IN ({_KNOWN}) THEN state ELSE '{CORRUPT}' END, count(*) FROM runs GROUP BY 1"  # noqa: S608 - constants
_UNWALKED = "SELECT hash FROM plans WHERE hash NOT IN (SELECT plan_hash FROM runs)"
_NAMING = f"SELECT CAST(body AS BLOB) FROM records WHERE type IN {NAMING}"  # noqa: S608 - constants
_RECORDS = "SELECT key, epoch, at, type, version, body, hash FROM records WHERE key >= ? AND key < ? ORDER BY key"


class SqliteStore:
    """Journals in one SQLite file, written by one thread of one process; others may read it meanwhile.

    Args:
        path: the file; it and its folder are made when missing, for this user only.
        durability: "full" (default): an append is done when it survives a power cut; "relaxed": when it survives the end of
            the process.
        is_reader: open for reading only: takes no lock, makes and migrates nothing, and refuses to write.
        control: where this process takes commands; the lock file says it to others.
        warn: is told what somebody should look at.
    """

    def __init__(
        self,
        path: Path,
        *,
        durability: str = "full",
        is_reader: bool = False,
        control: str = "",
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        if durability not in SYNCHRONOUS:
            raise StoreError(f"there is no durability {durability!r} of a file", hint=f"known: {', '.join(SYNCHRONOUS)}")
        self._file = JournalFile(path, durability)
        self._durability = durability
        self._is_reader = is_reader
        self._warn = warn
        self._lock = FileLock(self._file.lock_path, control)
        self._leases = Leases()
        self._loop: AbstractEventLoop
        self._reader: Reader | None = None
        self._writer: Writer | None = None

    @property
    def url(self) -> str:
        """`sqlite:` and the path."""
        return f"sqlite:{self._file.path}"

    @property
    def durability(self) -> str:
        """What a finished append means: full or relaxed."""
        return self._durability

    async def open(self) -> None:
        """Lock, check and migrate the journal, and start its threads.

        Raises:
            StoreError: it cannot be used; the kinds say why.
        """
        self._loop = asyncio.get_running_loop()
        try:
            await self._loop.run_in_executor(None, self._prepare)
            self._reader = Reader(self._file.connect_reader)
            if not self._is_reader:
                self._writer = Writer(self._file.connect_writer, self._reader.drop, self._warn)
                self._writer.start(self._loop)
                await self._writer.do(lambda tables: None)
        except BaseException:
            await self.close()
            raise

    def _prepare(self) -> None:
        try:
            if self._is_reader:
                self._file.check_for_reading()
                return
            self._file.prepare_folder()
            self._lock.acquire(str(self._file.path))
            self._file.make()
            self._file.bring_up_to_date()
        except OSError as error:
            raise StoreError(f"{self._file.path} cannot be used: {error.strerror}") from error
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise StoreDamagedError(f"{self._file.path} cannot be read: {error}", hint="restore a backup") from error
            if _is_full(self._file.path):
                raise StorageFullError(f"there is no room left for the journal {self._file.path}", hint="make room") from error
            raise StorageError(f"{self._file.path} cannot be opened: {error}") from error
        if sqlite3.sqlite_version_info < MENDED:
            self._warn(OLD)

    async def close(self) -> None:
        """Finish what was appended, close the file and give up the lock; twice is once."""
        reader, self._reader = self._reader, None
        writer, self._writer = self._writer, None
        if reader is not None:
            await reader.close()
        if writer is not None:
            await writer.stop()
        self._lock.release()

    def append(self, append: Append) -> Future[None]:
        """Queue an append; the future is done when its commit is durable. See `Store.append`."""
        if self._writer is None:
            raise self._no_writer()
        return self._writer.append(append)

    async def take(self, owner: str, *, lease_s: float, run_ids: Collection[str] | None = None, limit: int | None = None) -> list[RunRow]:
        """Take the open runs of owners that are dead: all but those that are alive in this process, for it has the lock."""

        def work(tables: Tables) -> list[RunRow]:
            return tables.take(owner, alive, run_ids, limit)

        alive = self._leases.living(self._loop.time())
        self._leases.renew(owner, lease_s, self._loop.time())
        return await self._write(work)

    async def renew(self, owner: str, lease_s: float) -> None:
        """Keep `owner` alive for `lease_s` more seconds."""
        self._leases.renew(owner, lease_s, self._loop.time())

    async def release(self, owner: str) -> None:
        """End the owner's lease and its holds."""
        self._leases.release(owner)

    async def hold(self, name: str, owner: str, lease_s: float) -> int | None:
        """Hold a named lease and return its epoch, or None when another living owner holds it."""
        now = self._loop.time()
        if self._leases.is_held(name, owner, now):
            return None
        epoch = self._leases.prolong(name, owner, lease_s, now)
        if not epoch:
            self._leases.hold(name, owner, 0, now + lease_s)  # before the wait, so that nobody else begins to hold it
            epoch = await self._write(lambda tables: tables.hold(name))
            self._leases.hold(name, owner, epoch, now + lease_s)
        return epoch

    async def row(self, run_id: str) -> RunRow | None:
        """Return the run's row."""
        return await self._one(ROW_BY_ID, run_id)

    async def row_of_event(self, event_id: str) -> RunRow | None:
        """Return the row of the run that serves this event."""
        return await self._one(ROW_BY_EVENT, event_id)

    async def rows(self, wanted: RunFilter) -> list[RunRow]:
        """Return the rows that fit."""
        return await self._read(lambda connection: rows_that_fit(connection, wanted))

    async def entries(self, run_id: str, start: int = 0, stop: int | None = None) -> list[Entry]:
        """Return the run's entries from seq `start` to before `stop`.

        Raises:
            StoreDamagedError: they cannot be read, or some are missing.
        """

        def work(connection: sqlite3.Connection) -> list[Entry]:
            number = number_of(connection, run_id)
            if number is None:
                return []
            end = first_key(number + 1) if stop is None else first_key(number) + max(stop, start)
            try:
                entries = [entry_of(found) for found in connection.execute(_RECORDS, (first_key(number) + start, end))]
            except TypeError as error:
                raise StoreDamagedError(f"run {run_id}: a record cannot be read", run_id=run_id) from error
            if any(entry.seq != seq for seq, entry in enumerate(entries, start)):
                raise StoreDamagedError(f"run {run_id}: records are missing", run_id=run_id)
            return entries

        return await self._read(work, run_id)

    async def snapshot(self, run_id: str) -> tuple[int, bytes] | None:
        """Return the run's newest snapshot as (seq, body)."""

        def work(connection: sqlite3.Connection) -> tuple[int, bytes] | None:
            number = number_of(connection, run_id)
            found = connection.execute("SELECT seq, body FROM snapshots WHERE number = ?", (number,)).fetchone()
            return found and (int(found[0]), bytes(found[1]))

        return await self._read(work, run_id)

    async def plan(self, plan_hash: str) -> bytes | None:
        """Return the plan kept under this hash."""

        def work(connection: sqlite3.Connection) -> bytes | None:
            found = connection.execute("SELECT body FROM plans WHERE hash = ?", (plan_hash,)).fetchone()
            return found and bytes(found[0])

        return await self._read(work)

    async def delete(self, run_ids: Collection[str]) -> int:
        """Delete those of these runs that have ended; return how many it were."""
        wanted = list(run_ids)
        count = 0
        for start in range(0, len(wanted), _SLICE):
            some = wanted[start : start + _SLICE]
            count += await self._write(lambda tables, some=some: tables.delete(some))  # type: ignore[misc]
        if count:
            with suppress(StoreDamagedError):  # what a record that cannot be read may name is kept
                await self._drop_plans()
        return count

    async def _drop_plans(self) -> None:
        unused = await self._read(_unused_plans)  # as of one moment; what comes to be used after that is in a row
        if unused:
            await self._write(lambda tables: tables.drop_plans(unused))

    async def counts(self) -> dict[str, int]:
        """Return how many runs there are in each state (`corrupt` where it is lost), `runs` in all, `records`, and `bytes` on disk."""

        def work(connection: sqlite3.Connection) -> dict[str, int]:
            counts = dict.fromkeys(sorted(OPEN_STATES | TERMINAL_STATES), 0)
            counts.update(connection.execute(_STATES).fetchall())
            counts["runs"] = sum(counts.values())
            (counts["records"],) = connection.execute("SELECT count(*) FROM records").fetchone()
            counts["bytes"] = self._file.bytes_on_disk()
            return counts

        return await self._read(work)

    def listen(self, listener: Callable[[Sequence[Append]], None]) -> None:
        """Call `listener` with what each commit has written. See `Feed.listen`."""
        if self._writer is None:
            raise self._no_writer()
        self._writer.listener = listener

    async def reach(self) -> Reach:
        """Return how far the journal goes."""
        return await self._read(feed.reach_of)

    async def news(self, start: Reach, stop: Reach, *, most: int = 256, most_bytes: int = 262_144) -> list[News]:
        """Return the entries beyond `start` and not beyond `stop`. See `Feed.news`."""
        return await self._read(lambda connection: feed.news(connection, start, stop, most, most_bytes))

    async def numbers(self, run_ids: Collection[str]) -> dict[str, int]:
        """Return the numbers of runs."""
        return await self._read(lambda connection: feed.numbers(connection, run_ids))

    async def backup(self, path: Path) -> None:
        """Write a consistent copy to a new file, on a connection and in a thread of its own.

        Raises:
            StoreError: there is a file at `path`, or it cannot be written.
        """

        def work() -> None:
            with closing(self._file.connect_reader()) as source:
                copy_to(source, path, replace=False)

        self._opened()
        await self._loop.run_in_executor(None, work)

    async def _one(self, query: str, key: str) -> RunRow | None:
        def work(connection: sqlite3.Connection) -> RunRow | None:
            found = connection.execute(query, (key,)).fetchone()
            return found and row_of(found)

        return await self._read(work, key if query is ROW_BY_ID else "")

    def _opened(self) -> Reader:
        if self._reader is None:
            raise StoreError(f"{self.url} is not open")
        return self._reader

    async def _read(self, work: Callable[[sqlite3.Connection], Result], run_id: str = "") -> Result:
        return await self._opened().read(work, run_id)

    async def _write(self, work: Work[Result]) -> Result:
        if self._writer is None:
            raise self._no_writer()
        return await self._writer.do(work)

    def _no_writer(self) -> StoreError:
        return StoreError(f"{self.url} is open for reading only" if self._reader is not None else f"{self.url} is not open")


def _is_full(path: Path) -> bool:
    """Say whether there is no room where a journal stands; SQLite has more than one error for that."""
    try:
        told = os.statvfs(path.parent)
    except OSError:
        return False
    return told.f_bavail * told.f_frsize < _LEAST_ROOM


def _unused_plans(connection: sqlite3.Connection) -> set[str]:
    """Return the plans that no run walks and no record names; reads all records, if there are plans that no run walks."""
    unwalked = [found[0] for found in connection.execute(_UNWALKED)]
    return unnamed(unwalked, (found[0] for found in connection.execute(_NAMING)))
