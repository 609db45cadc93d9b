"""JournalFile: one SQLite file with its marker: finding, making, checking and connecting to it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from agentflow.errors import StoreError, StoreForeignError, StoreMissingError, StoreVersionError
from agentflow.stores.migrations import migrate, scripts
from agentflow.stores.mounts import network_filesystem

BUSY_S = 5.0  # how long a write waits for a stranger who has the file locked
SYNCHRONOUS = {"full": ("PRAGMA synchronous = FULL", 2), "relaxed": ("PRAGMA synchronous = NORMAL", 1)}

_APPLICATION = 1634166390  # "agfv"
_ROLLBACK = bytes.fromhex("d9d505f920a163d7")  # how a rollback journal of SQLite begins
_PRIVATE_FILE = 0o600
_PRIVATE_FOLDER = 0o700
_OWN_FOLDER = ".agentflow"
_SUFFIXES = ("", "-wal", "-shm", ".id", ".lock")


class JournalFile:
    """A journal's place on disk.

    Beside the journal lie `-wal` and `-shm` (SQLite's), `.lock`, and the marker `.id`, which repeats the journal's id: where
    it lies without its journal, or beside another one, nothing is opened.

    SQLite's own locks would be lost if this process opened and closed the file by other means, so only SQLite opens it.

    Args:
        path: the journal.
        durability: "full" or "relaxed".
    """

    def __init__(self, path: Path, durability: str) -> None:
        self.path = path
        self._durability = durability
        self._marker = Path(f"{path}.id")

    @property
    def lock_path(self) -> Path:
        """The file that whoever writes the journal has locked."""
        return Path(f"{self.path}.lock")

    def bytes_on_disk(self) -> int:
        """Return the size of the journal and its log."""
        return sum(_size(Path(f"{self.path}{suffix}")) for suffix in ("", "-wal"))

    def prepare_folder(self) -> None:
        """Make the journal's folder, for this user only, where there is none.

        Raises:
            StoreError: the folder cannot be used.
        """
        folder = self.path.parent
        try:
            if not folder.exists():
                folder.mkdir(parents=True, mode=_PRIVATE_FOLDER)
        except OSError as error:
            raise StoreError(f"{folder} cannot be made: {error.strerror}") from error
        kind = network_filesystem(folder)
        if kind:
            hint = "put the journal on a local disk, e.g. with --journal PATH"
            raise StoreError(f"{folder} is on a network filesystem ({kind}), whose locks cannot be trusted", hint=hint)
        if folder.name == _OWN_FOLDER:
            _check_private(folder, _PRIVATE_FOLDER)

    def make(self) -> None:
        """Make an empty file, which nobody else may read, unless there is a journal.

        Raises:
            StoreMissingError: there was one, and it is gone.
            StoreError: others may read what there is.
        """
        self._check_missing()
        if not self.path.exists():
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, _PRIVATE_FILE))
        for suffix in _SUFFIXES:
            file = Path(f"{self.path}{suffix}")
            if file.exists():
                _check_private(file, _PRIVATE_FILE)

    def bring_up_to_date(self) -> None:
        """Check whose the file is and migrate it, after a backup where there is something to lose.

        Raises:
            StoreForeignError: it is not ours.
            StoreVersionError: its schema is newer than this release.
        """
        version = self._version()
        newest = len(scripts())
        if version > newest:
            raise StoreVersionError(str(self.path), found=version, known=newest)
        if version == 0 and self._marker.exists():
            raise self._missing("is empty", [self._marker])
        if 0 < version < newest:
            with closing(self.connect_reader()) as source:
                copy_to(source, Path(f"{self.path}.schema-{version}"), replace=True)
        if version < newest:
            with closing(self._connect("rw")) as connection:
                if version == 0:
                    connection.execute("PRAGMA page_size = 2048")  # a step dirties one page or two, whatever their size
                _set_log_mode(connection)
                migrate(connection, version)
        with closing(self.connect_reader()) as connection:
            self._check_marker(connection, may_write=True)

    def check_for_reading(self) -> None:
        """Check that there is a journal which this release can read; changes nothing, but undoes what a kill left half written.

        Raises:
            StoreMissingError, StoreForeignError, StoreVersionError: there is none.
        """
        self._check_missing()
        if not self.path.exists():
            raise StoreMissingError(f"there is no journal at {self.path}", hint="nothing was recorded here yet")
        version, newest = self._version(), len(scripts())
        if version != newest:
            raise StoreVersionError(str(self.path), found=version, known=newest)
        with closing(self.connect_reader()) as connection:
            self._check_marker(connection, may_write=False)

    def connect_writer(self) -> sqlite3.Connection:
        """Open the one connection that writes, and read back that it is as durable as it was asked to be.

        Raises:
            StoreError: it is not.
            StoreMissingError: the file is gone.
        """
        self._check_missing()
        connection = self._connect("rw")
        try:
            self._set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        _set_log_mode(connection)
        statement, level = SYNCHRONOUS[self._durability]
        connection.execute(statement)
        (found,) = connection.execute("PRAGMA synchronous").fetchone()
        if found != level:
            raise StoreError(f"{self.path} has synchronous = {found} where {level} was asked for")
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # the writer says when
        connection.execute("PRAGMA cache_size = -16384")
        connection.execute("PRAGMA secure_delete = OFF")  # else what a new snapshot replaces would be written once more, as zeros

    def connect_reader(self) -> sqlite3.Connection:
        """Open a connection that can only read and never checkpoints."""
        connection = self._connect("ro")
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        return connection

    def _connect(self, mode: str) -> sqlite3.Connection:
        address = f"{self.path.absolute().as_uri()}?mode={mode}"
        return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_S)

    def _check_missing(self) -> None:
        left = [file for file in (self._marker, Path(f"{self.path}-wal")) if _size(file)]
        if left and not _size(self.path) and (self._marker.exists() or not self.path.exists()):
            raise self._missing("is empty" if self.path.exists() else "is gone", left)

    def _missing(self, what: str, left: list[Path]) -> StoreMissingError:
        hint = f"put it or a backup back; to begin anew, delete {' and '.join(map(str, left))}"
        return StoreMissingError(f"the journal {self.path} {what}", hint=hint)

    def _version(self) -> int:
        """Return the version of the file's schema; 0 when it is empty."""
        try:
            application, version, tables = self._header()
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_NOTADB:
                raise StoreForeignError(f"{self.path} is no SQLite file", hint="name another path") from error
            raise
        is_ours = application == _APPLICATION and version > 0
        if not is_ours and (application or version or tables):
            raise StoreForeignError(f"{self.path} belongs to another program", hint="name another path")
        return int(version)

    def _header(self) -> tuple[int, int, int]:
        """Return the file's application, the version of its schema, and how many entries its schema has.

        A new file and a restored copy have no write-ahead log yet: what begins one goes through SQLite's rollback journal
        (`-journal`). Whoever is killed meanwhile leaves it to be undone, which only a connection that may write can do.
        """
        try:
            return _read_header(self.connect_reader())
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
        self._check_undoing()
        return _read_header(self._connect("rw"))

    def _check_undoing(self) -> None:
        """Refuse to undo what was half written into another file than this one, which was put in its place since.

        Undoing would overwrite it, or even empty it. Beginning a log keeps a file's length, or makes the first page of an empty
        one; the rollback journal begins with the length that its file had.
        """
        left = Path(f"{self.path}-journal")
        try:
            head = left.read_bytes()[:28]
        except FileNotFoundError:  # somebody else has just undone it
            return
        if len(head) < 28 or not head.startswith(_ROLLBACK):  # SQLite finds nothing to undo in it
            return
        pages, page = int.from_bytes(head[16:20], "big"), int.from_bytes(head[24:28], "big")
        if _size(self.path) not in (pages * page, max(pages, 1) * page):
            hint = f"put the right one back, or delete {left} where this one is meant"
            raise StoreForeignError(f"{left} was left by another file than {self.path}", hint=hint)

    def _check_marker(self, connection: sqlite3.Connection, *, may_write: bool) -> None:
        (identity,) = connection.execute("SELECT id FROM about").fetchone()
        said = self._marker.read_text(encoding="utf-8").strip() if self._marker.exists() else ""
        if said and said != identity:
            hint = f"put the right one back, or delete {self._marker} where this one is meant"
            raise StoreForeignError(f"{self.path} is not the journal that its marker names", hint=hint)
        if not said and may_write:
            write_private(self._marker, f"{identity}\n".encode())


def _read_header(opened: sqlite3.Connection) -> tuple[int, int, int]:
    with closing(opened) as connection:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return application, version, tables


def copy_to(source: sqlite3.Connection, path: Path, *, replace: bool) -> None:
    """Copy a journal to a new private file, consistent as of now; the file is whole or not there.

    Raises:
        StoreError: there is a file already and it is not to be replaced, or it cannot be written.
    """
    if path.exists() and not replace:
        raise StoreError(f"{path} exists", hint="name a file that does not")
    draft = Path(f"{path}.part")
    try:
        draft.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, _PRIVATE_FILE))
        with closing(sqlite3.connect(draft, isolation_level=None)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")
        _sync(draft)
        draft.replace(path)
        _sync(path.parent)
    except (OSError, sqlite3.Error) as error:
        draft.unlink(missing_ok=True)
        raise StoreError(f"{path} cannot be written: {error}") from error


def write_private(path: Path, content: bytes) -> None:
    """Write a small file that only its owner can read, durable and whole."""
    draft = Path(f"{path}.part")
    file = os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, _PRIVATE_FILE)
    try:
        os.write(file, content)
        os.fsync(file)
    finally:
        os.close(file)
    draft.replace(path)
    _sync(path.parent)


def loose_files(path: Path) -> Iterator[tuple[Path, int, int]]:
    """Yield what belongs to a journal and may be read or written by others, with its mode and the one that it should have."""
    own = [(path.parent, _PRIVATE_FOLDER)] if path.parent.name == _OWN_FOLDER else []
    for file, wanted in [*own, *((Path(f"{path}{suffix}"), _PRIVATE_FILE) for suffix in (*_SUFFIXES, ".sock"))]:
        with suppress(OSError):
            mode = file.stat().st_mode & 0o777
            if mode & 0o077:
                yield file, mode, wanted


def _set_log_mode(connection: sqlite3.Connection) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreError(f"SQLite gives journal_mode = {mode} where a write-ahead log is needed")


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _check_private(path: Path, mode: int) -> None:
    found = path.stat().st_mode & 0o777
    if found & 0o077:
        raise StoreError(f"{path} may be read by others (mode {found:o})", hint=f"chmod {mode:o} {path}")
