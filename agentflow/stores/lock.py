"""Lock: one process writes a journal. The operating system keeps the lock, so it ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from agentflow.errors import StoreLockedError

_PRIVATE = 0o600

# The system's locks belong to a process: a second opening in this one would get the lock too, and by closing the file would
# give up the first one's. So a process knows which lock files it has, by device and inode.
_held: set[tuple[int, int]] = set()
_guard = threading.Lock()


class FileLock:
    """The lock on `<journal>.lock`, which says who has it: process id, start time and control address. The file stays.

    Args:
        path: the lock file; it is made when missing.
        control: where the holder takes commands ("": nowhere).
    """

    def __init__(self, path: Path, control: str = "") -> None:
        self._path = path
        self._control = control
        self._file: int | None = None
        self._identity = (0, 0)

    def acquire(self, journal: str) -> None:
        """Take the lock or refuse; never waits.

        Raises:
            StoreLockedError: this or another process has it.
        """
        with _guard:
            if self._path.exists() and _identity(self._path) in _held:
                raise StoreLockedError(journal, pid=os.getpid(), control=self._control)
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                holder = _holder(file)
                os.close(file)
                raise StoreLockedError(journal, pid=holder[0], control=holder[1]) from None
            self._file = file
            self._identity = _identity(self._path)
            _held.add(self._identity)
        with contextlib.suppress(OSError):  # on a full disk the lock holds all the same, and only says less
            os.ftruncate(file, 0)
            os.pwrite(file, b"\n", 0)
            who = {"pid": os.getpid(), "started_at": os.fstat(file).st_mtime, "control": self._control}
            os.pwrite(file, json.dumps(who).encode() + b"\n", 0)

    def release(self) -> None:
        """Give the lock up, if it is held."""
        if self._file is not None:
            with _guard:
                _held.discard(self._identity)
                os.close(self._file)
            self._file = None


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a lock, or had it last.

    Attributes:
        pid: its process id; None while that is being written.
        started_at: when it took the lock, in seconds since the epoch.
        control: where it takes commands, "" for nowhere.
    """

    pid: int | None
    started_at: float
    control: str

    @property
    def is_alive(self) -> bool:
        """Whether there is a process of this id; after a restart of the machine it may be another one."""
        try:
            os.kill(self.pid or 0, 0)
        except PermissionError:
            return True
        except OSError:
            return False
        return self.pid is not None


def holder_named_by(path: Path) -> Holder | None:
    """Return who has or had a lock by what its file says; None where nobody ever had it."""
    if _is_own(path):
        return Holder(os.getpid(), path.stat().st_mtime, "")
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        pid, control = _holder(file)
        return Holder(pid, os.fstat(file).st_mtime, control)
    finally:
        os.close(file)


def is_held(path: Path) -> bool:
    """Say whether a process has the lock, by asking for it: it is given back at once, and nothing is written.

    For that moment nobody else gets it, so this is only for where it is likely to be held.
    """
    if _is_own(path):
        return True
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def _is_own(path: Path) -> bool:
    """Say whether this process has the lock: then the file may not be opened, for closing it would give the lock up."""
    with _guard:
        return path.exists() and _identity(path) in _held


def control_named_by(path: Path) -> str:
    """Return where the last holder of a lock file took commands, "" when that is not known. It may be gone by now."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return _holder(file)[1]
    finally:
        os.close(file)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _holder(file: int) -> tuple[int | None, str]:
    """Return the process id and control address that the lock file names; (None, "") while it is being written."""
    try:
        said = json.loads(os.pread(file, 4096, 0))
        return int(said["pid"]), str(said["control"])
    except (ValueError, KeyError, TypeError):
        return None, ""
