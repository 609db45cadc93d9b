"""The ways to measure durable workloads: as in `families`, with the bytes that were written beside the time."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from benchmarks.families import IN_FLIGHT, Course, Rate, Sample

ROUNDS_A_SAMPLE = 10_000  # of a loop, short or long: means over unlike spans cannot be compared by their least
TRACED_EVENTS = 20
COUNTERS = Path("/proc/self/io")
BESIDE = ("-wal", "-shm", "-journal")  # how the names of SQLite's passing files end
MAGIC = b"SQLite format 3\0"


class Journal(Rate):
    """Measures durable events that follow one another (W6, W8d): microseconds an event, bytes written a step."""

    async def sample(self) -> Sample:
        """Return one measurement."""
        count = self.course.count
        settle_disk()
        before = bytes_written()
        microseconds = await self.course.microseconds()
        return {"event": microseconds, **since(before, "written", count * self.workload.agents)}

    async def trace(self) -> Sample:
        """Run some events between two marks that `calls` finds in what strace wrote."""
        mark()
        await self.course.seconds(TRACED_EVENTS)
        mark()
        return {"events": TRACED_EVENTS, "steps": TRACED_EVENTS * self.workload.agents}


class JournalBurst(Rate):
    """Measures many durable events in flight at once (W7d): microseconds for all, bytes written a step."""

    async def prepare(self, seconds: float) -> None:
        """Build, verify and warm up."""
        self.course = Course(self.make(), self.workload)
        await self.course.open()
        await self.course.burst()

    async def sample(self) -> Sample:
        """Return the time of one burst."""
        settle_disk()
        before = bytes_written()
        microseconds = await self.course.burst() * 1e6
        return {"burst": microseconds, **since(before, "written", IN_FLIGHT * self.workload.agents)}


class JournalRounds(Rate):
    """Measures durable loops (W9d): microseconds a round, and the bytes that a round writes and that are kept of it."""

    async def prepare(self, seconds: float) -> None:
        """Build, warm up on a short loop, then prove that the whole one does its work."""
        warm = Course(self.make(), replace(self.workload, agents=10))
        await warm.open()
        await warm.contender.close()
        self.course = Course(self.make(), self.workload)
        await self.course.open()

    async def sample(self) -> Sample:
        """Return one measurement, over as many rounds for a short loop as for a long one."""
        folder = self.course.contender.folder
        settle_disk()
        kept, before = bytes_kept(folder), bytes_written()
        seconds = await self.course.seconds(ROUNDS_A_SAMPLE // self.workload.agents)
        written = since(before, "written", ROUNDS_A_SAMPLE)
        return {
            "round": seconds / ROUNDS_A_SAMPLE * 1e6,
            **written,
            "kept": (bytes_kept(folder) - kept) / ROUNDS_A_SAMPLE,
        }


def settle_disk() -> None:
    """Write out what others have left in the cache: a file system may make the next fsync wait for all of it."""
    if hasattr(os, "sync"):
        os.sync()


def bytes_written() -> int | None:
    """Return how many bytes this process has handed to `write` and its kin so far; None where the kernel does not count."""
    if not COUNTERS.exists():
        return None
    return int(dict(line.split(": ") for line in COUNTERS.read_text().splitlines())["wchar"])


def since(before: int | None, name: str, parts: int) -> Sample:
    """Return the bytes written since `before` for each of some parts, under a name; nothing where they are not counted."""
    after = bytes_written()
    return {} if before is None or after is None else {name: (after - before) / parts}


def bytes_kept(folder: Path) -> int:
    """Return the size of the journals in a folder, that of a SQLite database as if its log were worked in."""
    return sum(_size(file) for file in folder.rglob("*") if file.is_file() and not file.name.endswith(BESIDE))


def _size(file: Path) -> int:
    with file.open("rb") as content:
        if content.read(len(MAGIC)) != MAGIC:
            return file.stat().st_size
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        (pages,), (size,) = connection.execute("PRAGMA page_count").fetchone(), connection.execute("PRAGMA page_size").fetchone()
        return int(pages * size)


def mark() -> None:
    """Write one byte to nowhere, which strace sees."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.write(nowhere, b"x")
    os.close(nowhere)


FAMILIES: dict[str, type[Rate]] = {
    "journal": Journal,
    "journal_size": Journal,
    "journal_burst": JournalBurst,
    "journal_rounds": JournalRounds,
}
