"""An opening that is killed, of a new journal or of a restored copy, which turns the file over to its write-ahead log."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentflow.errors import StoreForeignError, StoreMissingError, StoreVersionError
from agentflow.stores.sqlite import SqliteStore

Author = Any
MakeStore = Any

CALLS = ("fdatasync", "unlink")
ALL_CALLS = (*CALLS, "pwrite64", "ftruncate", "fsync", "rename", "openat", "close", "fcntl")
MOST = 200  # calls of one kind in an opening

OPEN = """
import asyncio, sys
from pathlib import Path
from agentflow.stores.sqlite import SqliteStore
async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    await store.close()
asyncio.run(main())
"""


def kill_opening(strace: str, journal: Path, call: str, number: int) -> bool:
    """Kill an opening when it makes its `number`-th call of this kind on the journal's files; say whether there was one."""
    suffixes = ("", "-wal", "-shm", "-journal", ".id", ".id.part", ".lock")
    paths = [word for path in (journal.parent, *(f"{journal}{suffix}" for suffix in suffixes)) for word in ("-P", str(path))]
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}"]
    command = [strace, "-f", "-qq", "-o", "/dev/null", *paths, *inject, sys.executable, "-c", OPEN, str(journal)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, -9), done.stderr
    return done.returncode != 0


async def read(journal: Path, *, is_reader: bool) -> list[Any]:
    """Open what is left in a copy of its folder, for the first time since the kill, and return the entries of r1."""
    look = journal.parent.parent / "look"
    shutil.rmtree(look, ignore_errors=True)
    shutil.copytree(journal.parent, look)
    store = SqliteStore(look / journal.name, is_reader=is_reader)
    try:
        await store.open()
        return await store.entries("r1")
    finally:
        await store.close()


@pytest.mark.parametrize("is_new", [True, False])
async def test_a_killed_opening_is_never_refused_afterwards(
    strace: str, make_sqlite: MakeStore, author: Author, tmp_path: Path, is_new: bool, is_proof: bool
) -> None:
    """At whichever call an opening is killed, the next one takes the journal up with all it has, and so does a reader."""
    run, copy = author("r1"), tmp_path / "copy.db"
    store = await make_sqlite()
    await store.append(run.begin())
    await store.backup(copy)
    kills = undone = 0
    for call in ALL_CALLS if is_proof else CALLS:
        for number in range(1, MOST):
            journal = tmp_path / f"{call}-{number}" / "journal.db"
            journal.parent.mkdir(0o700)
            if not is_new:
                shutil.copy(copy, journal)
            if not kill_opening(strace, journal, call, number):
                break
            kills += 1
            before = Path(f"{journal}-journal")
            undone += before.exists() and before.stat().st_size > 0 and journal.stat().st_size > 0
            assert await read(journal, is_reader=False) == ([] if is_new else run.entries), (call, number)
            try:
                assert await read(journal, is_reader=True) == ([] if is_new else run.entries), (call, number)
            except (StoreMissingError, StoreVersionError):
                assert is_new, (call, number)  # nothing is there yet
        else:
            pytest.fail(f"an opening has more than {MOST} {call}")
    print(f"{kills} openings killed, {undone} of them with half a write to undo")
    assert kills >= 4
    assert undone >= 2


@pytest.mark.parametrize("is_reader", [False, True])
async def test_what_was_half_written_is_not_undone_in_another_file(
    strace: str, make_sqlite: MakeStore, author: Author, tmp_path: Path, is_reader: bool
) -> None:
    """A copy put in the place of a file whose making was killed is refused untouched, and taken up as the hint says."""
    run, killed = author("r1"), tmp_path / "killed" / "journal.db"
    store = await make_sqlite()
    await store.append(run.begin())
    killed.parent.mkdir(0o700)
    assert kill_opening(strace, killed, "unlink", 1)
    left = Path(f"{killed}-journal")
    assert left.exists()
    killed.unlink()
    await store.backup(killed)
    before = killed.read_bytes(), left.read_bytes()
    with pytest.raises(StoreForeignError, match="left by another file") as told:
        await make_sqlite(killed, is_reader=is_reader)
    assert before == (killed.read_bytes(), left.read_bytes())
    assert f"delete {left}" in told.value.hint
    left.unlink()
    assert run.entries == await (await make_sqlite(killed, is_reader=is_reader)).entries("r1")
