"""What only SQLite has: group commit, bytes and syncs a step, errors of the connection, damage, readers, backups."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import subprocess
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentflow.core.append import Append
from agentflow.core.run_row import RunFilter
from agentflow.errors import FencedError, StorageError, StorageFullError, StoreDamagedError, StoreError
from agentflow.stores import journal_file, writer
from agentflow.stores.columns import first_key

Author = Any
MakeStore = Any
Workload = Any


async def test_what_waits_shares_a_commit(make_sqlite: MakeStore, author: Author) -> None:
    """A thousand appends at once need a handful of commits; one by one, each has its own."""
    store = await make_sqlite()
    runs = [author(f"r{n}") for n in range(1000)]
    await asyncio.gather(*[store.append(run.begin()) for run in runs])
    together = store._writer.commits
    for _ in range(10):
        await store.append(runs[0].step())
    print(f"1000 appends in {together} commits, 10 in {store._writer.commits - together}")
    assert together <= 20
    assert 10 == store._writer.commits - together


def _traced(strace: str, workload: Workload, steps: int) -> tuple[int, int]:
    """Return the syncs and the bytes written by one run of so many steps."""
    command = workload.command("full", 1, steps)
    trace = workload.folder / "trace"
    call = [strace, "-f", "-qq", "-e", "trace=pwrite64,fdatasync,fsync", "-o", str(trace), "-E", "WORKLOAD_BACKLOG=1000", *command]
    subprocess.run(call, capture_output=True, timeout=120, check=True)
    text = trace.read_text()
    written = sum(int(count) for count in re.findall(r"pwrite64\(.*\) += (\d+)$", text, re.MULTILINE))
    return len(re.findall(r"^\d+ +(?:<... )?f(?:data)?sync.* = 0$", text, re.MULTILINE)), written


def test_a_step_costs_one_sync_and_two_pages(strace: str, workload: Workload) -> None:
    """A step, two records of 200 bytes, is one fdatasync and at most 9 KB, page splits included."""
    few, many = _traced(strace, workload, 50), _traced(strace, workload, 250)
    syncs, written = (many[0] - few[0]) / 200, (many[1] - few[1]) / 200
    print(f"{syncs} syncs and {written:.0f} bytes a step")
    assert syncs == 1.0
    assert 500 < written <= 9 * 1024


@pytest.mark.parametrize(("durability", "level"), [("full", 2), ("relaxed", 1)])
async def test_the_setting_is_read_back(make_sqlite: MakeStore, durability: str, level: int) -> None:
    """Full mode runs with `synchronous = FULL` and says so; relaxed mode with NORMAL."""
    store = await make_sqlite(durability=durability)
    (found,) = await store._writer.do(lambda tables: tables.connection.execute("PRAGMA synchronous").fetchone())
    assert (durability, level) == (store.durability, found)


async def test_a_weaker_setting_is_refused(make_sqlite: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that does not take the setting is not used."""
    monkeypatch.setitem(journal_file.SYNCHRONOUS, "full", ("PRAGMA synchronous = NORMAL", 2))
    with pytest.raises(StoreError, match="synchronous = 1"):
        await make_sqlite()
    with pytest.raises(StoreError, match="durability 'none'"):
        await make_sqlite(durability="none")


async def test_a_value_that_sqlite_cannot_take_hits_its_append_only(make_sqlite: MakeStore, author: Author) -> None:
    """Text that is no UTF-8, numbers that do not fit and NaN are refused with a coded error; the others of the commit go on."""
    store, good = await make_sqlite(), author("good")
    bad = [author(f"bad{n}") for n in range(3)]
    appends = [
        bad[0].begin(reason="\ud800"),
        replace(bad[1].begin(), entries=(replace(author("bad1").write(1)[0], version=2**63),)),
        bad[2].begin(started_at=float("nan")),
        good.begin(),
    ]
    outcomes = await asyncio.gather(*[store.append(append) for append in appends], return_exceptions=True)
    assert [StoreError, StoreError, StoreError, type(None)] == [type(outcome) for outcome in outcomes]
    assert ["good"] == [row.run_id for row in await store.rows(RunFilter())]
    assert good.entries == await store.entries("good")


async def test_no_room_refuses_and_goes_on_by_itself(make_sqlite: MakeStore, author: Author) -> None:
    """Without room each append of the commit is refused, reads work, and the next one after room was made succeeds."""
    store, run = await make_sqlite(), author("r1")
    await store.append(run.begin())

    async def room(pages: int) -> None:
        await store._writer.do(lambda tables: tables.connection.execute(f"PRAGMA max_page_count = {pages}").fetchone())

    await room(1)
    others = [author(f"o{n}") for n in range(5)]
    outcomes = await asyncio.gather(*[store.append(other.begin(reason="x" * 5000)) for other in others], return_exceptions=True)
    assert [StorageFullError] * 5 == [type(outcome) for outcome in outcomes]
    assert not any(outcome.is_unknown for outcome in outcomes)
    assert run.entries == await store.entries("r1")
    await room(10**6)
    await asyncio.gather(*[store.append(author(other.run_id).begin()) for other in others])
    await store.append(run.step())
    assert run.entries == await store.entries("r1")


async def test_a_stranger_s_lock_is_waited_for_and_then_reported(
    make_sqlite: MakeStore, author: Author, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another program has the file locked, reads work, an append fails after a bounded wait, and the next one succeeds."""
    monkeypatch.setattr(journal_file, "BUSY_S", 0.05)
    store, run = await make_sqlite(), author("r1")
    await store.append(run.begin())
    with closing(sqlite3.connect(journal, isolation_level=None)) as stranger:
        stranger.execute("BEGIN EXCLUSIVE")
        late = author("r1", entries=list(run.entries))
        with pytest.raises(StorageError, match="locked") as told:
            await store.append(late.step())
        assert not told.value.is_unknown
        assert run.entries == await store.entries("r1")
        stranger.execute("ROLLBACK")
        await store.append(run.step())
    assert run.entries == await store.entries("r1")


async def test_a_stranger_s_write_is_seen(make_sqlite: MakeStore, author: Author, journal: Path) -> None:
    """Should another program raise a run's epoch behind the lock's back, the next append is fenced all the same."""
    store, run = await make_sqlite(), author("r1")
    await store.append(run.begin())
    await store.append(run.step())
    with closing(sqlite3.connect(journal, isolation_level=None)) as stranger:
        stranger.execute("UPDATE runs SET epoch = epoch + 1")
    with pytest.raises(FencedError, match="epoch 2"):
        await store.append(run.step())


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE runs SET epoch = epoch + 1",
        "UPDATE runs SET run_id = 'another'",
        "DELETE FROM runs",
        "INSERT INTO records SELECT key + 2, epoch, at, type, version, body, hash FROM records WHERE key & 0xffffff = 2",
    ],
)
async def test_a_step_alone_is_compared_with_what_is_there(make_sqlite: MakeStore, author: Author, journal: Path, change: str) -> None:
    """A few records that come alone go in by one statement: it is refused, too, where a stranger has changed whom they are for."""
    store, run = await make_sqlite(), author("r1")
    await store.append(run.begin())
    await store.append(run.step())
    with closing(sqlite3.connect(journal, isolation_level=None)) as stranger:
        stranger.execute(change)
        before = stranger.execute("SELECT count(*) FROM records").fetchone()
        with pytest.raises(FencedError):
            await store.append(run.step())
        assert before == stranger.execute("SELECT count(*) FROM records").fetchone()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
async def test_records_that_come_alone_are_as_they_were(make_sqlite: MakeStore, author: Author, count: int) -> None:
    """However many they are, those that go in by one statement and those that do not."""
    store, run = await make_sqlite(), author("r1")
    await store.append(run.begin())
    for size in (0, 200, 5000):
        entries = run.write(count, size)
        await store.append(Append("r1", entries[0].seq, 1, entries))
    assert run.entries == await store.entries("r1")


class _BrokenTables:
    """Stands for a connection whose commit fails; `is_written` says whether it had happened all the same."""

    def __init__(self, tables: Any, is_written: bool) -> None:
        self.tables, self.is_written, self.connection = tables, is_written, tables.connection

    def write(self, appends: Any) -> Any:
        """Fail like a disk does."""
        if self.is_written:
            self.tables.write(appends)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error


@pytest.mark.parametrize("is_written", [True, False])
async def test_an_unknown_outcome_is_decided_by_what_is_there(make_sqlite: MakeStore, author: Author, is_written: bool) -> None:
    """After an I/O error: entries that are found count as appended, others fail for certain; the next append works."""
    store, run, other = await make_sqlite(), author("r1"), author("r2")
    await store.append(run.begin())
    assert run.entries == await store.entries("r1")
    store._writer._tables = _BrokenTables(store._writer._tables, is_written)
    before = list(run.entries)
    gate = threading.Event()
    held = asyncio.ensure_future(store._writer.do(lambda tables: gate.wait(10)))
    await asyncio.sleep(0)
    appends = store.append(run.step()), store.append(other.begin())  # both wait for the thread: they go into one commit
    gate.set()
    await held
    outcomes = await asyncio.gather(*appends, return_exceptions=True)
    if is_written:
        assert [None, None] == outcomes
    else:
        assert [False, False] == [outcome.is_unknown for outcome in outcomes if isinstance(outcome, StorageError)]
        run.entries, other.entries = before, []
        await store.append(other.begin())
    await store.append(run.step())
    assert run.entries == await store.entries("r1")
    assert other.entries == await store.entries("r2")


@pytest.mark.parametrize("hindrance", ["cannot be opened", "cannot be checkpointed"])
async def test_what_cannot_be_decided_is_told_as_unknown(
    make_sqlite: MakeStore, author: Author, monkeypatch: pytest.MonkeyPatch, hindrance: str
) -> None:
    """Where the journal cannot be opened anew, or what is found cannot be made durable, the outcome is unknown; later it heals."""
    store, run = await make_sqlite(), author("r1")
    await store.append(run.begin())
    store._writer._tables = _BrokenTables(store._writer._tables, True)
    with monkeypatch.context() as patch:
        if hindrance == "cannot be opened":
            patch.setattr(store._writer, "_connect", _unreachable)
        else:
            patch.setattr(writer, "_is_checkpointed", lambda connection: False)
        with pytest.raises(StorageError) as told:
            await store.append(run.step())
        assert told.value.is_unknown
        if hindrance == "cannot be opened":
            with pytest.raises(StorageError) as told:
                await store.append(author("r1", entries=list(run.entries)).step())
            assert not told.value.is_unknown  # it was never begun
    await store.append(run.step())
    assert run.entries == await store.entries("r1")


def _unreachable() -> Any:
    raise sqlite3.OperationalError("unable to open database file")


class _NoCheckpoint:
    """Stands for a connection that writes, and whose checkpoint fails."""

    def __init__(self, tables: Any) -> None:
        self.tables, self.write, self.connection, self.bytes = tables, tables.write, self, 0

    def execute(self, statement: str) -> Any:
        """Fail like a disk does."""
        error = sqlite3.OperationalError(statement)
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error

    def close(self) -> None:
        """Close what stands behind."""
        self.tables.connection.close()


async def test_a_failed_checkpoint_drops_the_connection(make_sqlite: MakeStore, author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while the log is worked off costs nothing but the connection."""
    monkeypatch.setattr(writer, "_BACKLOG", 1)
    store, run = await make_sqlite(), author("r1")
    await store.append(run.begin())
    for _ in range(3):
        broken = await store._writer.do(_NoCheckpoint)
        store._writer._tables = broken
        await store.append(run.step())
        await store.append(run.step())
        assert store._writer._tables is not broken
    assert run.entries == await store.entries("r1")


async def _damaged(make_sqlite: MakeStore, author: Author, journal: Path) -> tuple[Any, list[Any]]:
    """Return a store whose last run lies on zeroed pages from its second one on, far from the others, and its authors."""
    store = await make_sqlite()
    runs = [author(name) for name in ("r0", "r1", "r2", "between", "r3")]
    for run in runs:
        await store.append(run.begin())
        await store.append(run.step(40 if run.run_id != "between" else 400))
    await store.close()
    content = bytearray(journal.read_bytes())
    for entry in runs[4].entries[20:]:
        place = content.find(entry.body) // 2048 * 2048
        if place >= 0:
            content[place : place + 2048] = bytes(2048)
    journal.write_bytes(content)
    del runs[3]
    return await make_sqlite(), runs


async def test_a_damaged_page_hits_its_run_only(make_sqlite: MakeStore, author: Author, journal: Path) -> None:
    """Reading and writing the damaged run is refused, naming it; the others of the same commit go on; nothing is deleted."""
    store, runs = await _damaged(make_sqlite, author, journal)
    with pytest.raises(StoreDamagedError) as told:
        await store.entries("r3")
    assert told.value.run_id == "r3"
    outcomes = await asyncio.gather(*[store.append(run.step()) for run in reversed(runs)], return_exceptions=True)
    assert [StoreDamagedError, type(None), type(None), type(None)] == [type(outcome) for outcome in outcomes]
    assert outcomes[0].run_id == "r3"
    for run in runs[:3]:
        assert run.entries == await store.entries(run.run_id)
    assert 5 == len(await store.rows(RunFilter()))


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM records WHERE key = ?",
        "UPDATE records SET body = 'text' WHERE key = ?",
        "UPDATE records SET at = 'x' WHERE key = ?",
        "UPDATE records SET type = CAST(x'ff' AS TEXT) WHERE key = ?",
    ],
)
async def test_a_record_that_is_none_is_damage(make_sqlite: MakeStore, author: Author, journal: Path, damage: str) -> None:
    """A missing record or one of the wrong kind is found when the run is read, and the run is named."""
    store = await make_sqlite()
    for name in ("r1", "r2"):
        await store.append(author(name).begin())
    with closing(sqlite3.connect(journal, isolation_level=None)) as stranger:
        stranger.execute(damage, (first_key(1),))
    with pytest.raises(StoreDamagedError) as told:
        await store.entries("r1")
    assert told.value.run_id == "r1"
    assert 2 == len(await store.entries("r2"))


async def test_a_row_that_is_none_is_damage(make_sqlite: MakeStore, author: Author, journal: Path) -> None:
    """A row whose flags are no JSON is damage, not a traceback."""
    store = await make_sqlite()
    await store.append(author("r1").begin())
    with closing(sqlite3.connect(journal, isolation_level=None)) as stranger:
        stranger.execute("UPDATE runs SET flags = 'x'")
    with pytest.raises(StoreDamagedError, match="r1"):
        await store.row("r1")


async def test_a_reader_reads_while_another_writes(make_sqlite: MakeStore, author: Author) -> None:
    """A store that only reads takes no lock, sees each append once it is acknowledged, and writes nothing."""
    store, run = await make_sqlite(), author("r1")
    await store.append(run.begin())
    reader = await make_sqlite(is_reader=True)
    seen = []
    for _ in range(50):
        await store.append(run.step())
        seen.append(len(await reader.entries("r1")))
    assert list(range(4, 104, 2)) == seen
    with pytest.raises(StoreError, match="reading only"):
        reader.append(run.step())
    for refused in (reader.take("a", lease_s=1), reader.delete(["r1"]), reader.hold("x", "a", 1)):
        with pytest.raises(StoreError, match="reading only"):
            await refused


async def test_reads_go_on_beside_a_reader_that_never_ends(
    make_sqlite: MakeStore, author: Author, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that keeps its view makes the log grow: that is said once, appends go on, and afterwards the log is short again."""
    said: list[str] = []
    for name, value in (("_BACKLOG", 20), ("_LONG_LOG", 100), ("_TOO_LONG_LOG", 200)):
        monkeypatch.setattr(writer, name, value)
    monkeypatch.setattr(writer, "_PATIENCE", ("PRAGMA busy_timeout = 1", *writer._PATIENCE[1:]))
    store, run = await make_sqlite(warn=said.append), author("r1")
    await store.append(run.begin())
    said.clear()
    log = Path(f"{journal}-wal")
    with closing(sqlite3.connect(journal, isolation_level=None)) as stranger:
        stranger.execute("BEGIN")
        stranger.execute("SELECT count(*) FROM runs").fetchone()
        for _ in range(60):
            await store.append(run.step(20))
        assert 1 == len(said)
        longest = log.stat().st_size
        stranger.execute("ROLLBACK")
        for _ in range(20):
            await store.append(run.step(20))
    assert log.stat().st_size < longest / 2
    assert run.entries == await store.entries("r1")


async def test_the_log_stays_short(make_sqlite: MakeStore, author: Author, journal: Path) -> None:
    """However much is written, the log is worked off on the way."""
    store, run = await make_sqlite(), author("r1")
    await store.append(run.begin())
    longest = 0
    for _ in range(60):
        run.entries += (entry := author("r1", entries=run.entries).write(1, 500_000)) and ()
        await store.append(replace(run.step(0), expected_seq=len(run.entries) - 1, entries=entry))
        longest = max(longest, Path(f"{journal}-wal").stat().st_size)
    print(f"30 MB written, the log had {longest >> 20} MB at most")
    assert 0 < longest < 16 << 20
    assert len(run.entries) == len(await store.entries("r1"))


async def test_the_log_is_worked_off_when_nothing_happens(make_sqlite: MakeStore, author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a quiet moment the log is copied into the file, so that a restart has little to read."""
    monkeypatch.setattr(writer, "_IDLE_S", 0.01)
    monkeypatch.setattr(writer, "_IDLE_BACKLOG", 1)
    store = await make_sqlite()
    await store.append(author("r1").begin())
    for _ in range(100):
        await asyncio.sleep(0.01)
        if not store._writer._backlog:
            break
    assert 0 == store._writer._backlog


async def test_a_backup_is_consistent_while_the_store_goes_on(make_sqlite: MakeStore, author: Author, tmp_path: Path) -> None:
    """A backup taken under writes is private, opens as a journal, and has each run up to one moment."""
    store = await make_sqlite()
    runs = [author(f"r{n}") for n in range(20)]
    await asyncio.gather(*[store.append(run.begin()) for run in runs])
    copy = tmp_path / "copy.db"

    async def write() -> None:
        for _ in range(30):
            await asyncio.gather(*[store.append(run.step()) for run in runs])

    await asyncio.gather(write(), store.backup(copy))
    assert 0o600 == copy.stat().st_mode & 0o777
    assert [] == list(tmp_path.glob("*.part"))
    restored = await make_sqlite(copy)
    for run in runs:
        entries = await restored.entries(run.run_id)
        assert run.entries[: len(entries)] == entries
        assert len(entries) >= 2
    with pytest.raises(StoreError, match="exists"):
        await store.backup(copy)
    with pytest.raises(StoreError, match="cannot be written"):
        await store.backup(tmp_path / "nowhere" / "copy.db")


async def test_what_is_closed_refuses(make_sqlite: MakeStore, author: Author) -> None:
    """A closed store says so, whatever is asked; what was appended before is in it."""
    store, run = await make_sqlite(), author("r1")
    begun = store.append(run.begin())
    await store.close()
    await begun
    with pytest.raises(StoreError, match="not open"):
        store.append(run.step())
    with pytest.raises(StoreError, match="not open"):
        await store.entries("r1")
    again = await make_sqlite()
    assert 2 == len(await again.entries("r1"))


async def test_a_restart_takes_at_once_and_raises_holds(make_sqlite: MakeStore, author: Author) -> None:
    """Who opens the file knows that all former owners are dead, whatever their leases say; epochs outlive the process."""
    store = await make_sqlite()
    await store.take("a", lease_s=3600)
    await store.append(author("r1").begin(owner="a"))
    assert 1 == await store.hold("mqtt", "a", 3600)
    await store.close()
    store = await make_sqlite()
    assert [("r1", 2)] == [(row.run_id, row.epoch) for row in await store.take("b", lease_s=3600)]
    assert 2 == await store.hold("mqtt", "b", 3600)
