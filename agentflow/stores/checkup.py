"""Checkup: what can be seen of a journal's file from outside, beside whoever writes it. It changes nothing."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from agentflow.errors import AgentflowError, StorageError, StoreDamagedError
from agentflow.stores.journal_file import JournalFile, loose_files
from agentflow.stores.lock import Holder, holder_named_by, is_held
from agentflow.stores.mounts import network_filesystem

_STEP = 10_000  # instructions of SQLite between two looks at the clock
_MOST_DAMAGES = 5


@dataclass(frozen=True, slots=True)
class Checkup:
    """What was seen of a journal.

    Attributes:
        path: the journal.
        is_there: whether there is a file.
        fault: why it cannot be read, None when it can.
        loose: files and folders that others may read or write, each with its mode and the one that it should have.
        network: the kind of network filesystem that it is on, "" on a local disk.
        free_bytes: the room where it is, or would be.
        is_writable: whether this user may write it, or make it.
        wal_bytes: the size of its log.
        written_at: when it was last written to, in seconds since the epoch; None where it is not there.
        holder: who has its lock, or had it last.
        is_held: whether that one, or another process, has it now.
    """

    path: Path
    is_there: bool
    fault: AgentflowError | None
    loose: tuple[tuple[Path, int, int], ...]
    network: str
    free_bytes: int
    is_writable: bool
    wal_bytes: int
    written_at: float | None
    holder: Holder | None
    is_held: bool


def checkup(path: Path) -> Checkup:
    """Look at a journal.

    Raises:
        OSError: its folder cannot be looked into.
    """
    file = JournalFile(path, "full")
    folder = next(one for one in (path.parent, *path.parent.parents) if one.exists())
    room = os.statvfs(folder)
    wal = Path(f"{path}-wal")
    written = [found.stat() for found in (path, wal) if found.exists()]
    holder = holder_named_by(file.lock_path)
    return Checkup(
        path=path,
        is_there=path.exists(),
        fault=_fault(file) if path.exists() or wal.exists() or Path(f"{path}.id").exists() else None,
        loose=tuple(loose_files(path)),
        network=network_filesystem(folder),
        free_bytes=room.f_bavail * room.f_frsize,
        is_writable=all(os.access(one, os.W_OK) for one in (folder, path) if one.exists()),
        wal_bytes=wal.stat().st_size if wal.exists() else 0,
        written_at=max((one.st_mtime for one in written if one.st_size), default=None),  # a reader makes an empty log
        holder=holder,
        is_held=holder is not None and (holder.pid is None or holder.is_alive) and is_held(file.lock_path),
    )


def damages(path: Path, monotonic: Callable[[], float], within_s: float) -> list[str] | None:
    """Return what SQLite's quick check finds wrong with the pages of a journal, [] for nothing; None when the time was too short.

    Raises:
        StoreDamagedError: it cannot even be looked at.
    """
    until = monotonic() + within_s
    try:
        with closing(JournalFile(path, "full").connect_reader()) as connection:
            connection.set_progress_handler(lambda: monotonic() > until, _STEP)
            found = [str(row[0]) for row in connection.execute(f"PRAGMA quick_check({_MOST_DAMAGES})")]
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
            return None
        raise StoreDamagedError(f"{path} cannot be read: {error}", hint="restore a backup") from error
    return [] if found == ["ok"] else found


def _fault(file: JournalFile) -> AgentflowError | None:
    try:
        file.check_for_reading()
    except AgentflowError as error:
        return error
    except sqlite3.DatabaseError as error:
        return StoreDamagedError(f"{file.path} cannot be read: {error}", hint="restore a backup")
    except OSError as error:
        return StorageError(f"{file.path} cannot be read: {error.strerror}")
    return None
