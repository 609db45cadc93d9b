"""The feed of every store: what of all runs somebody has not seen, and the announcement of what becomes durable."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from agentflow.core.append import Append
from agentflow.core.reach import Reach
from agentflow.errors import FencedError

Author = Any
Store = Any


async def read(store: Store, start: Reach, stop: Reach, most: int) -> list[tuple[str, int]]:
    """Read all between two places in pages, and return the run and the number of each record."""
    found: list[tuple[str, int]] = []
    while page := await store.news(start, stop, most=most):
        assert len(page) <= most
        for one in page:
            assert one.entry.seq == start.wanted(one.number)
            start.take(one.number, one.entry)
            found.append((one.run_id, one.entry.seq))
    return found


@pytest.mark.parametrize("seed", range(4))
async def test_what_lies_between_two_places_is_read_once(store: Store, author: Author, seed: int) -> None:
    """However runs are written side by side, and wherever somebody stopped: all pieces together are the journal."""
    rnd = random.Random(seed)
    going: list[Any] = []
    written: list[tuple[str, int]] = []
    seen: list[tuple[str, int]] = []
    place = await store.reach()
    for n in range(60):
        pick = rnd.random()
        run = author(f"r{n}") if not going or pick < 0.3 else rnd.choice(going)
        before = len(run.entries)
        if run not in going:
            going.append(run)
            await store.append(run.begin())
        elif pick < 0.5:
            going.remove(run)
            await store.append(run.end())
        else:
            await store.append(run.step(rnd.randint(1, 5)))
        written += [(run.run_id, seq) for seq in range(before, len(run.entries))]
        if rnd.random() < 0.2:
            stop = await store.reach()
            seen += await read(store, place.copy(), stop, rnd.randint(1, 7))
            place = stop
    seen += await read(store, place.copy(), await store.reach(), 3)
    assert sorted(written) == sorted(seen)
    assert len(set(seen)) == len(seen)
    assert await store.news(await store.reach(), await store.reach()) == []


async def test_reading_ends_where_it_is_told_to(store: Store, author: Author) -> None:
    """What was written after `stop` is not given, of runs that go on and of new ones."""
    run, other = author("r1"), author("r2")
    await store.append(run.begin())
    start, stop = Reach((await store.reach()).journal), await store.reach()
    await store.append(run.step(3))
    await store.append(other.begin())
    assert [("r1", seq) for seq in range(stop.next_seqs[1])] == await read(store, start.copy(), stop, 10)
    assert {("r1", 0), ("r2", 0)} <= set(await read(store, start.copy(), await store.reach(), 10))


async def test_a_page_ends_once_it_is_large(store: Store, author: Author) -> None:
    """With at least one record, however large."""
    run = author("r1")
    await store.append(run.begin())
    await store.append(run.step(5))
    assert 1 == len(await store.news(Reach(""), await store.reach(), most_bytes=1))


async def test_numbers_are_those_of_the_runs_there_are(store: Store, author: Author) -> None:
    """In order of acceptance; unknown runs have none, and a deleted one's is not given again."""
    for n in range(3):
        run = author(f"r{n}")
        await store.append(run.begin())
        await store.append(run.end())
    assert {"r0": 1, "r2": 3} == await store.numbers(["r0", "x", "r2"])
    await store.delete(["r1"])
    assert {"r0": 1, "r2": 3} == await store.numbers(["r0", "r1", "r2"])


async def test_each_commit_is_announced_once_it_can_be_read(store: Store, author: Author) -> None:
    """In order, after who waits for it; what was refused is not announced."""
    heard: list[Append] = []
    is_last = asyncio.Event()

    def listen(appends: Sequence[Append]) -> None:
        heard.extend(appends)
        if any(append.row is not None and not append.row.is_open for append in appends):
            is_last.set()

    store.listen(listen)
    run = author("r1")
    await asyncio.gather(store.append(run.begin()), *[store.append(run.step(1)) for _ in range(20)])
    with pytest.raises(FencedError):
        await store.append(author("r2").step())
    await store.append(run.end())
    async with asyncio.timeout(5):
        await is_last.wait()
    assert run.entries == [entry for append in heard for entry in append.entries]
    assert run.entries == await store.entries("r1")
