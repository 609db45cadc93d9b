"""Opening a journal: lock, marker, foreign files, permissions, versions and migrations."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentflow.errors import (
    StoreDamagedError,
    StoreError,
    StoreForeignError,
    StoreLockedError,
    StoreMissingError,
    StoreVersionError,
)
from agentflow.stores import journal_file, migrations
from agentflow.stores.mounts import network_filesystem
from agentflow.stores.sqlite import SqliteStore

Author = Any
MakeStore = Any

MORE = """
CREATE TABLE more (n INTEGER PRIMARY KEY, text TEXT NOT NULL);
WITH RECURSIVE some (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM some WHERE n < 300)
INSERT INTO more SELECT n, hex(zeroblob(100)) FROM some;
"""

OPEN = """
import asyncio, sys
from pathlib import Path
from agentflow.stores import migrations
from agentflow.stores.sqlite import SqliteStore
async def main():
    if len(sys.argv) > 2:
        migrations.FOLDER = Path(sys.argv[2])
    store = SqliteStore(Path(sys.argv[1]), control="there")
    await store.open()
    print("open", flush=True)
    if len(sys.argv) == 2:
        await asyncio.sleep(60)
    await store.close()
asyncio.run(main())
"""


async def test_a_second_process_is_refused_and_told_who(make_sqlite: MakeStore, journal: Path) -> None:
    """One process writes a journal: the next is refused and told the first one's pid; when that is killed, the lock is free."""
    process = subprocess.Popen([sys.executable, "-c", OPEN, str(journal)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(StoreLockedError, match=str(process.pid)) as told:
            await make_sqlite()
        assert (told.value.pid, told.value.control) == (process.pid, "there")
        reader = await make_sqlite(is_reader=True)
        assert 0 == (await reader.counts())["runs"]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    await make_sqlite()


async def test_a_second_opening_in_one_process_is_refused(make_sqlite: MakeStore, journal: Path) -> None:
    """The lock also holds within a process, and being refused does not take it from the first opening."""
    await make_sqlite()
    for _ in range(2):
        with pytest.raises(StoreLockedError, match=str(os.getpid())):
            await make_sqlite()
    done = subprocess.run([sys.executable, "-c", OPEN, str(journal), "x"], capture_output=True, text=True, check=False)
    assert "StoreLockedError" in done.stderr


async def test_the_lock_file_says_who(make_sqlite: MakeStore, journal: Path) -> None:
    """The lock file has the process id, the start time and the control address; an unreadable one still locks."""
    store = await make_sqlite(control="unix:/x")
    text = Path(f"{journal}.lock").read_text()
    assert f'"pid": {os.getpid()}' in text
    assert '"started_at": ' in text
    assert '"control": "unix:/x"' in text
    await store.close()
    process = subprocess.Popen([sys.executable, "-c", OPEN, str(journal)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        Path(f"{journal}.lock").write_text("?")
        with pytest.raises(StoreLockedError, match="another process") as told:
            await make_sqlite()
        assert told.value.pid is None
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def test_what_is_made_is_private(make_sqlite: MakeStore, author: Author, journal: Path) -> None:
    """The folder is 0700 and each file 0600, whatever the umask."""
    before = os.umask(0)
    try:
        store = await make_sqlite()
        await store.append(author("r1").begin())
        modes = {path.name: path.stat().st_mode & 0o777 for path in journal.parent.iterdir()}
    finally:
        os.umask(before)
    assert {"journal.db", "journal.db-wal", "journal.db-shm", "journal.db.id", "journal.db.lock"} == modes.keys()
    assert {0o600} == set(modes.values())
    assert 0o700 == journal.parent.stat().st_mode & 0o777


@pytest.mark.parametrize("name", ["journal.db", "journal.db.id", "journal.db.lock", ""])
async def test_looser_modes_are_refused_with_the_cure(make_sqlite: MakeStore, journal: Path, name: str) -> None:
    """What agentflow made and others may read is refused, with the chmod to run."""
    store = await make_sqlite()
    await store.close()
    path = journal.parent / name if name else journal.parent
    path.chmod(0o755)
    with pytest.raises(StoreError, match=f"chmod {'600' if name else '700'} {path}"):
        await make_sqlite()


@pytest.mark.parametrize("is_reader", [False, True])
@pytest.mark.parametrize("loss", ["gone", "empty", "log only"])
async def test_a_journal_that_is_gone_is_not_begun_anew(make_sqlite: MakeStore, journal: Path, loss: str, is_reader: bool) -> None:
    """A missing or emptied journal next to its marker or its log is refused, naming the file; nothing is made."""
    store = await make_sqlite()
    await store.close()
    journal.unlink()
    if loss == "empty":
        journal.touch(0o600)
    if loss == "log only":
        Path(f"{journal}.id").unlink()
        Path(f"{journal}-wal").write_bytes(b"x" * 100)
    before = {path.name: path.read_bytes() for path in journal.parent.iterdir() if path.suffix != ".lock"}
    with pytest.raises(StoreMissingError, match=str(journal)):
        await make_sqlite(is_reader=is_reader)
    assert before == {path.name: path.read_bytes() for path in journal.parent.iterdir() if path.suffix != ".lock"}


async def test_an_emptied_database_is_not_begun_anew(make_sqlite: MakeStore, journal: Path) -> None:
    """A file without tables next to a marker is refused too."""
    store = await make_sqlite()
    await store.close()
    journal.unlink()
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute("DROP TABLE t")
    journal.chmod(0o600)
    with pytest.raises(StoreMissingError, match="is empty"):
        await make_sqlite()


async def test_a_reader_needs_a_journal(make_sqlite: MakeStore, journal: Path) -> None:
    """Opening for reading makes nothing."""
    with pytest.raises(StoreMissingError, match="no journal"):
        await make_sqlite(is_reader=True)
    assert not journal.parent.exists()


@pytest.mark.parametrize("is_reader", [False, True])
@pytest.mark.parametrize("kind", ["text", "other application", "other tables"])
async def test_a_foreign_file_is_refused_and_not_touched(make_sqlite: MakeStore, journal: Path, kind: str, is_reader: bool) -> None:
    """A file that is not ours is refused, and is the same afterwards."""
    journal.parent.mkdir(0o700)
    if kind == "text":
        journal.write_text("dear diary, " * 1000)
    else:
        with closing(sqlite3.connect(journal)) as connection:
            connection.execute("PRAGMA application_id = 7" if kind == "other application" else "CREATE TABLE diary (day)")
    journal.chmod(0o600)
    before = journal.read_bytes()
    with pytest.raises(StoreForeignError, match=str(journal)):
        await make_sqlite(is_reader=is_reader)
    assert before == journal.read_bytes()


async def test_another_journal_under_the_marker_is_refused(make_sqlite: MakeStore, journal: Path, tmp_path: Path) -> None:
    """A journal that was put in another one's place is refused; a copy of the same one is taken, and gets its marker back."""
    store = await make_sqlite()
    copy = tmp_path / "copy.db"
    await store.backup(copy)
    await store.close()
    other = await make_sqlite(tmp_path / "other.db")
    await other.close()
    (tmp_path / "other.db").replace(journal)
    with pytest.raises(StoreForeignError, match="marker"):
        await make_sqlite()
    copy.replace(journal)
    await (await make_sqlite()).close()
    marker = Path(f"{journal}.id")
    identity = marker.read_bytes()
    marker.unlink()
    await make_sqlite()
    assert identity == marker.read_bytes()


async def test_a_broken_header_is_damage(make_sqlite: MakeStore, journal: Path) -> None:
    """A journal whose first pages are zeros is refused: it is neither empty nor ours."""
    store = await make_sqlite()
    await store.close()
    content = bytearray(journal.read_bytes())
    content[100:2048] = bytes(1948)
    journal.write_bytes(content)
    with pytest.raises((StoreDamagedError, StoreForeignError, StoreMissingError)):
        await make_sqlite()


async def test_network_filesystems_are_refused(make_sqlite: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system says that a folder is on a network filesystem, the journal is refused."""
    monkeypatch.setattr(journal_file, "network_filesystem", lambda folder: "nfs4")
    with pytest.raises(StoreError, match="nfs4"):
        await make_sqlite()


def test_the_nearest_mount_counts(tmp_path: Path) -> None:
    """The longest mount point above a path says its filesystem; without a table nothing is known."""
    table = tmp_path / "mounts"
    deep = tmp_path / "a b"
    table.write_text(f"/dev/sda / ext4 rw 0 0\nhost:/x {tmp_path} nfs4 rw 0 0\nnone {tmp_path}/a\\040b tmpfs rw 0 0\nbroken\n")
    assert network_filesystem(tmp_path / "x", table) == "nfs4"
    assert network_filesystem(deep / "x", table) == ""
    assert network_filesystem(Path("/"), table) == ""
    assert network_filesystem(tmp_path, tmp_path / "none") == ""


async def test_a_folder_that_cannot_be_used_is_told(make_sqlite: MakeStore, tmp_path: Path) -> None:
    """A path below a file, or a folder in the journal's place, is a coded error."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        await make_sqlite(tmp_path / "file" / "deep" / "journal.db")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="folder"):
        await make_sqlite(tmp_path / "folder")


async def test_an_old_sqlite_is_mentioned_once(make_sqlite: MakeStore) -> None:
    """An SQLite with the checkpoint bug is named when the journal is opened, and a mended one is not."""
    said: list[str] = []
    await make_sqlite(warn=said.append)
    assert int(sqlite3.sqlite_version_info < (3, 51, 3)) == len([line for line in said if sqlite3.sqlite_version in line])


def _more(folder: Path) -> Path:
    """Make a folder with our migrations and one more, which writes many pages."""
    folder.mkdir()
    for number, script in enumerate(migrations.scripts(), 1):
        (folder / f"{number:04}_old.sql").write_text(script)
    (folder / f"{number + 1:04}_more.sql").write_text(
        MORE + f"PRAGMA user_version = {number + 1};\n",
        encoding="utf-8",
    )
    return folder


async def test_a_newer_schema_is_refused_and_not_touched(make_sqlite: MakeStore, journal: Path, tmp_path: Path) -> None:
    """An older release refuses a newer journal, for writing and for reading, and leaves it as it was."""
    store = await make_sqlite()
    await store.close()
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = journal.read_bytes()
    for is_reader in (False, True):
        with pytest.raises(StoreVersionError, match="newer agentflow") as told:
            await make_sqlite(is_reader=is_reader)
        assert (told.value.found, told.value.known) == (99, len(migrations.scripts()))
    assert before == journal.read_bytes()


async def test_an_older_schema_is_migrated_after_a_backup(
    make_sqlite: MakeStore, author: Author, journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening for writing migrates and leaves the old file beside it; a reader refuses; the old release refuses the new file."""
    store, run = await make_sqlite(), author("r1")
    await store.append(run.begin())
    await store.close()
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "FOLDER", _more(tmp_path / "sql"))
        with pytest.raises(StoreVersionError, match="journal migrate"):
            await make_sqlite(is_reader=True)
        store = await make_sqlite()
        assert run.entries == await store.entries("r1")
        await store.close()
    with pytest.raises(StoreVersionError):
        await make_sqlite()
    old = journal.parent / "journal.db.schema-1"
    assert 0o600 == old.stat().st_mode & 0o777
    restored = await make_sqlite(old)
    assert run.entries == await restored.entries("r1")


async def test_a_failing_migration_changes_nothing(
    make_sqlite: MakeStore, journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration that fails is rolled back as a whole."""
    store = await make_sqlite()
    await store.close()
    folder = _more(tmp_path / "sql")
    with (folder / "0002_more.sql").open("a") as script:
        script.write("CREATE TABLE runs (a);\n")
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "FOLDER", folder)
        with pytest.raises(StoreError, match="runs"):
            await make_sqlite()
    await make_sqlite()
    with closing(sqlite3.connect(journal)) as connection:
        assert [] == connection.execute("SELECT * FROM sqlite_master WHERE name = 'more'").fetchall()


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_migration_killed_anywhere_leaves_old_or_new(
    strace: str, tmp_path: Path, author: Author, is_first: bool, is_proof: bool
) -> None:
    """Killed at its Nth write, an opening that makes or migrates a journal leaves the old schema or the new one, and goes on."""
    folder = _more(tmp_path / "sql")
    kills = killed = 0
    left = set()
    for number in range(1, 131, 1 if is_proof else 13):
        journal = tmp_path / f"j{number}" / "journal.db"
        run = author("r1")
        if not is_first:
            store = SqliteStore(journal)
            await store.open()
            await store.append(run.begin())
            await store.close()
        kills += 1
        inject = ["-e", "trace=pwrite64", "-e", f"inject=pwrite64:signal=KILL:when={number}"]
        paths = [word for suffix in ("", "-wal", ".schema-1.part") for word in ("-P", f"{journal}{suffix}")]
        command = [strace, "-f", "-qq", "-o", "/dev/null", *paths, *inject, sys.executable, "-c", OPEN, str(journal), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        killed += done.returncode != 0
        look = Path(shutil.copytree(journal.parent, tmp_path / f"look{number}"))  # else what is left would be mended by looking at it
        with closing(sqlite3.connect(look / journal.name)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            assert [("ok",)] == connection.execute("PRAGMA integrity_check").fetchall()
        assert {0: set(), 1: tables - {"more"}, 2: tables | {"more", "runs"}}[version] == tables
        left.add(version)
        command = [sys.executable, "-c", OPEN, str(journal), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout == "open\n", done.stderr
        if not is_first:
            with closing(sqlite3.connect(journal)) as connection:
                assert [(2,)] == connection.execute("SELECT count(*) FROM records").fetchall()
    print(f"{kills} openings, {killed} killed, schemas left: {left}")
    assert killed >= 4
    assert left == ({0, 2} if is_first else {1, 2})
