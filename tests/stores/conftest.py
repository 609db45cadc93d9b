"""Makes stores, and writes runs into them the way an engine does: seq after seq, each entry chained to the one before."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from agentflow.core.append import Append
from agentflow.core.entry import Entry
from agentflow.core.run_row import RunRow
from agentflow.stores.memory import MemoryStore
from agentflow.stores.sqlite import SqliteStore

WORKLOAD = Path(__file__).with_name("workload.py")
IS_PROOF = bool(os.environ.get("AGENTFLOW_PROOF"))


@dataclass
class Author:
    """Writes one run: knows its epoch, where its journal ends and the last hash."""

    run_id: str
    epoch: int = 1
    entries: list[Entry] = field(default_factory=list)

    def row(self, **changes: Any) -> RunRow:
        """Return the run's row, with changes."""
        row = RunRow(
            run_id=self.run_id, event_id=f"event-{self.run_id}", event_hash="aa", state="running", plan_hash="plan", started_at=1.0
        )
        return replace(row, epoch=self.epoch, **changes)

    def write(self, count: int = 2, size: int = 200) -> tuple[Entry, ...]:
        """Return the next entries and count them as written."""
        written = []
        for _ in range(count):
            seq, body = len(self.entries), os.urandom(size // 2).hex().encode()
            previous = self.entries[-1].hash if self.entries else b""
            digest = hashlib.blake2b(previous + f"{self.run_id} {seq} {self.epoch}".encode() + body, digest_size=16).digest()
            entry = Entry(seq, self.epoch, 1.5 + seq, "StepCompleted", 1, body, digest)
            self.entries.append(entry)
            written.append(entry)
        return tuple(written)

    def begin(self, **changes: Any) -> Append:
        """Return the append that makes the run."""
        row = self.row(**changes)
        return Append(self.run_id, 0, self.epoch, self.write(), row=row, plan=(row.plan_hash, b'{"plan":1}'), is_new=True)

    def step(self, count: int = 2, **rest: Any) -> Append:
        """Return the append of the next entries; `rest` goes with it."""
        seq = len(self.entries)
        return Append(self.run_id, seq, self.epoch, self.write(count), **rest)

    def end(self, state: str = "completed") -> Append:
        """Return the append that ends the run."""
        return self.step(1, row=self.row(state=state, status=state, ended_at=9.0))


MakeStore = Callable[..., Awaitable[Any]]


@pytest.fixture
def author() -> type[Author]:
    """Who writes a run."""
    return Author


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Where the journal of a test is."""
    return tmp_path / ".agentflow" / "journal.db"


@pytest.fixture
async def make_sqlite(journal: Path) -> AsyncIterator[MakeStore]:
    """Open SQLite stores; what is still open at the end is closed."""
    opened: list[SqliteStore] = []

    async def make(path: Path = journal, **options: Any) -> SqliteStore:
        store = SqliteStore(path, **options)
        await store.open()
        opened.append(store)
        return store

    yield make
    for store in opened:
        await store.close()


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, make_sqlite: MakeStore) -> AsyncIterator[Any]:
    """Each store in turn, open."""
    if request.param == "sqlite":
        yield await make_sqlite()
        return
    memory = MemoryStore()
    await memory.open()
    yield memory
    await memory.close()


@pytest.fixture
def is_proof() -> bool:
    """Whether the full counts are asked for, with AGENTFLOW_PROOF=1."""
    return IS_PROOF


@dataclass(frozen=True)
class Workload:
    """Starts workload.py in a process of its own, and judges the journal by the ledger afterwards."""

    folder: Path

    def command(self, durability: str, runs: int, steps: int, *rest: str) -> list[str]:
        """Return the command of one workload with a fresh journal."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        return [sys.executable, str(WORKLOAD), str(self.journal), str(self.ledger), durability, str(runs), str(steps), *rest]

    @property
    def journal(self) -> Path:
        """Where the workload's journal is."""
        return self.folder / "journal.db"

    @property
    def ledger(self) -> Path:
        """Where the workload says what was acknowledged."""
        return self.folder / "ledger"

    def acknowledged(self) -> dict[str, int]:
        """Return how many entries of each run were acknowledged."""
        lines = [line.split() for line in self.ledger.read_text().splitlines() if line.startswith("ACK")]
        return {run_id: int(count) for _, run_id, count in lines}

    @staticmethod
    def faults(journal: Path, acknowledged: dict[str, int]) -> list[str]:
        """Read a journal with plain SQLite and return what is wrong with it; [] when all that was acknowledged is there."""
        with closing(sqlite3.connect(journal)) as connection:
            try:
                (told,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
                number_of = dict(connection.execute("SELECT run_id, number FROM runs").fetchall())
                rows = connection.execute("SELECT key >> 24, key & 0xffffff, body, hash FROM records ORDER BY key").fetchall()
            except sqlite3.DatabaseError as error:
                if "no such table" in str(error):
                    return [f"lost: {error}"] if acknowledged else []
                return [f"corrupt: {error}"]
        faults = [] if told == "ok" else [f"corrupt: {told}"]
        found: dict[int, list[tuple[int, bytes, bytes]]] = {}
        for number, *rest in rows:
            found.setdefault(number, []).append(tuple(rest))
        for number, entries in found.items():
            previous = b""
            for n, (seq, body, digest) in enumerate(entries):
                if seq != n or not body or digest != hashlib.blake2b(previous + body, digest_size=16).digest():
                    faults.append(f"corrupt: run number {number} at seq {seq}")
                    break
                previous = digest
        for run_id, count in acknowledged.items():
            there = len(found.get(number_of.get(run_id, -1), []))
            if there < count:
                faults.append(f"lost: {run_id} has {there} entries of {count}")
        return faults


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    """A workload with its journal and ledger."""
    return Workload(tmp_path / "work")


@pytest.fixture(scope="session")
def strace(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of an strace that can inject faults, or a skip that says what is missing."""
    found = shutil.which("strace")
    if found is None:
        pytest.skip("strace is not installed")
    trial = [found, "-qq", "-o", "/dev/null", "-e", "inject=fsync:error=EIO", sys.executable, "-c", "print(1)"]
    done = subprocess.run(trial, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"strace cannot trace here: {done.stderr.strip()[:200]}")
    return found
