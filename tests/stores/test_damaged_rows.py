"""A row of the table of runs that cannot be read: it hides no other run, and nothing of it is changed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentflow.core.run_row import RunFilter
from agentflow.errors import StoreDamagedError

Author = Any
MakeStore = Any

LEAF = 13  # how a page of a table begins that has rows
LOOK = "SELECT number, CAST(flags AS BLOB), CAST(waiting AS BLOB), epoch, owner, state FROM runs WHERE number = 2"
DAMAGES = (
    "flags = 'x'",
    "flags = '{}'",
    "waiting = '[1]'",
    "waiting = CAST(x'ff' AS TEXT)",
    "reason = x'00'",
    "session_id = CAST(x'c328' AS TEXT)",
    "started_at = 'soon'",
    "due_at = 1e300",
    "epoch = 'first'",
    "event_hash = x'ff'",
)


def _damage(journal: Path, change: str, run_id: str = "r1") -> None:
    with closing(sqlite3.connect(journal, isolation_level=None)) as stranger:
        stranger.execute(f"UPDATE runs SET {change} WHERE run_id = ?", (run_id,))  # noqa: S608 - constants


async def _three(make_sqlite: MakeStore, author: Author) -> Any:
    store = await make_sqlite()
    for name in ("r0", "r1", "r2"):
        await store.append(author(name).begin(owner="gone"))
    return store


@pytest.mark.parametrize("damage", [*DAMAGES, "state = 'x'", "state = CAST(x'ff' AS TEXT)"])
async def test_a_damaged_row_is_listed_as_such(make_sqlite: MakeStore, author: Author, journal: Path, damage: str) -> None:
    """Whatever column is damaged, all runs are listed, that one with the flag `corrupt`, and looking at it alone is refused."""
    store = await _three(make_sqlite, author)
    _damage(journal, damage)
    rows = await store.rows(RunFilter(newest_first=False))
    assert [(row.run_id, row.flags) for row in rows] == [("r0", ()), ("r1", ("corrupt",)), ("r2", ())]
    assert [row.run_id for row in await store.rows(RunFilter(limit=2))] == ["r2", "r1"]
    assert [row.run_id for row in await store.rows(RunFilter(flag="corrupt"))] == ["r1"]
    with pytest.raises(StoreDamagedError, match="run r1 cannot be read"):
        await store.row("r1")
    assert 2 == len(await store.entries("r1"))
    assert 3 == (await store.counts())["runs"]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_taking_leaves_a_damaged_row_as_it_is(make_sqlite: MakeStore, author: Author, journal: Path, damage: str) -> None:
    """The others are taken; the damaged one comes back flagged, without having been taken, and counts for no limit."""
    store = await _three(make_sqlite, author)
    _damage(journal, damage)
    with closing(sqlite3.connect(journal)) as stranger:
        before = stranger.execute(LOOK).fetchall()
        taken = await store.take("me", lease_s=9.0)
        assert [(row.run_id, row.owner, row.flags) for row in taken] == [("r0", "me", ()), ("r1", "gone", ("corrupt",)), ("r2", "me", ())]
        assert before == stranger.execute(LOOK).fetchall()
    assert [row.run_id for row in await store.take("you", lease_s=9.0, run_ids=["r1"])] == ["r1"]
    await store.release("me")
    assert [row.run_id for row in await store.take("you", lease_s=9.0, limit=1)] == ["r0"]
    assert [row.run_id for row in await store.take("you", lease_s=9.0, limit=1)] == ["r1", "r2"]


async def test_rows_on_a_damaged_page(make_sqlite: MakeStore, author: Author, journal: Path) -> None:
    """Where a page of the table is lost its runs are still named; those on other pages are whole, and are taken."""
    store = await make_sqlite()
    for number in range(120):
        await store.append(author(f"r{number}").begin(reason=f"place-{number}"))
    await store.close()
    content = bytearray(journal.read_bytes())
    pages = range(0, len(content), 2048)
    (place,) = [page for page in pages if content[page] == LEAF and b"place-30" in content[page : page + 2048]]
    content[place : place + 2048] = bytes(2048)
    journal.write_bytes(content)
    store = await make_sqlite()
    rows = await store.rows(RunFilter(newest_first=False))
    assert [f"r{number}" for number in range(120)] == [row.run_id for row in rows]
    lost = [row.run_id for row in rows if "corrupt" in row.flags]
    assert "r30" in lost
    assert 2 <= len(lost) <= 60
    assert all(row.reason == f"place-{row.run_id[1:]}" for row in rows if row.run_id not in lost)
    taken = await store.take("me", lease_s=9.0)
    mine = {row.run_id for row in taken if row.owner == "me"}
    assert [row.run_id for row in taken] == [row.run_id for row in rows]
    assert mine == {row.run_id for row in taken if "corrupt" not in row.flags}  # but for neighbours that cannot be written
    assert len(mine) > 20
    assert mine.isdisjoint(lost)
    assert {2} == {len(await store.entries(run_id)) for run_id in lost}


async def test_what_is_no_damage(make_sqlite: MakeStore, author: Author) -> None:
    """A quarantined run, whose row says so, is taken like any other."""
    store = await make_sqlite()
    await store.append(author("r1").begin(flags=("corrupt",), reason="corrupt", state="paused"))
    (row,) = await store.take("me", lease_s=9.0)
    assert (row.owner, row.epoch, row.flags) == ("me", 2, ("corrupt",))
