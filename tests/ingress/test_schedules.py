"""Schedules: one event for each due time, through restarts, set clocks, rivals and reloads, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agentflow import Event, Runner
from agentflow.engine.due import due_times, event_id, next_due
from agentflow.ingress.marks import read_marks
from agentflow.ingress.schedules import LEASE, Schedules
from agentflow.testing import run_virtual

START = datetime(2026, 10, 24, 12, tzinfo=ZoneInfo("UTC")).timestamp()
PATIENCE_S = 0.05  # for the threads that read and write files, while the clock stands still
CONFIG = """
[orchestration]
mode = "sequential"
sequential_agents = ["a"]
[agents.a]
"""
HOURLY = '[[schedules]]\nname = "hourly"\ncron = "0 * * * *"\ntarget = "a"\ndata = { n = 1 }\nmetadata = { who = "me" }\n'


class Clock:
    """A wall clock that goes on with the loop's, and may be set."""

    def __init__(self, at: float = START) -> None:
        self.at = at

    def __call__(self) -> float:
        """Return seconds since the epoch."""
        return self.at + asyncio.get_running_loop().time()


class Place:
    """A folder with a configuration, and processes that serve it one after another."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "agentflow.toml"
        self.journal = folder / "journal.db"
        self.clock = Clock()
        self.seen: list[dict[str, str]] = []
        self.handle: Callable[[Any], Coroutine[Any, Any, None]] | None = None

    def write(self, schedules: str, rest: str = "") -> None:
        """Write the configuration."""
        self.file.write_text(CONFIG + rest + schedules, encoding="utf-8")

    @asynccontextmanager
    async def served(self, *, is_kept: bool = False) -> AsyncIterator[Runner]:
        """Serve as long as the block lasts; with `is_kept` the journal is on disk."""
        url = f"sqlite:{self.journal}" if is_kept else "memory:"
        runner = Runner.from_config(self.file, environ={}, overrides={"journal.url": url})

        async def a(event: Event, state: Any) -> None:
            self.seen.append(event.metadata)
            if self.handle is not None:
                await self.handle(event)

        runner.register_agent("a", a)
        ready = asyncio.Event()
        schedules = Schedules(runner, ready, self.clock)
        async with runner:
            await schedules.start()
            ready.set()
            yield runner
            schedules.close()
        await schedules.stop()

    @property
    def dues(self) -> list[str]:
        """The due times of the events that were handled, in order, as hour:minute."""
        return sorted(seen["due"][5:16].replace("T", " ") for seen in self.seen)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A folder for one project."""
    return Place(tmp_path)


def test_each_due_time_has_one_event_that_says_where_it_comes_from(place: Place) -> None:
    """Target, data, metadata, session and id are those of the schedule and its due time."""
    place.write(HOURLY + 'session_id = "s"\n')

    async def main() -> None:
        async with place.served() as runner:
            await asyncio.sleep(3 * 3600 + 1)
            rows = await runner.runs()
            (schedule,) = runner.project.config.schedules
            assert [event_id(schedule, START + hour * 3600) for hour in (3, 2, 1)] == [row.event_id for row in rows]
            assert {"s"} == {row.session_id for row in rows}
            event = (await runner.events(rows[-1].run_id))[0].to_dict()
        assert {"who": "me", "schedule": "hourly", "due": "2026-10-24T13:00:00Z"} == place.seen[0]
        assert "'data': {'n': 1}" in str(event)
        assert "'target': 'a'" in str(event)

    run_virtual(main())


@pytest.mark.parametrize(("cron", "count"), [("*/30 * * * *", 50), ("30 2 * * *", 1)])
def test_a_day_of_25_hours_has_its_events(place: Place, cron: str, count: int) -> None:
    """An interval goes on through the hour that comes twice, a time of day is due once."""
    place.clock.at = datetime(2026, 10, 24, 23, 59, 30, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
    place.write(f'[[schedules]]\ncron = "{cron}"\ntimezone = "Europe/Berlin"\n')

    async def main() -> None:
        async with place.served():
            await asyncio.sleep(25 * 3600)
        assert count == len(place.dues) == len(set(place.dues))

    run_virtual(main())


def test_two_that_emit_at_once_make_one_record(place: Place) -> None:
    """A second process that believes it is alone finds each event recorded already."""
    place.write(HOURLY)

    async def main() -> None:
        async with place.served() as runner:
            ready = asyncio.Event()
            ready.set()
            rival = Schedules(runner, ready, place.clock)
            await rival.start()
            await asyncio.sleep(4 * 3600 + 1)
            assert 4 == len(await runner.runs())
            await rival.stop()
        assert 4 == len(place.dues)

    run_virtual(main())


def test_only_the_holder_of_the_lease_emits_and_another_takes_over_when_it_is_gone(place: Place) -> None:
    """While somebody else holds the lease nothing is emitted here; the due time of the last minute is made up for."""
    place.write(HOURLY)

    async def main() -> None:
        async with place.served() as runner:
            store = runner._store
            assert store is not None
            await store.release(runner._recording()[1].owner)
            assert await store.hold(LEASE, "another", 2 * 3600 + 20) is not None
            await asyncio.sleep(2 * 3600 + 10)
            assert [] == place.dues
            await asyncio.sleep(3600)
        assert ["10-24 14:00", "10-24 15:00"] == place.dues

    run_virtual(main())


@pytest.mark.parametrize(
    ("missed", "away_s", "expected"),
    [
        ("skip", 145, ["12:02", "12:04", "12:06"]),  # back half a minute after a due time
        ("skip", 685, ["12:02", "12:14"]),
        ("run_once", 685, ["12:02", "12:12", "12:14"]),
        ("run_once", 615, ["12:02", "12:12", "12:14"]),  # the latest one was 20 seconds ago: it stands for the others
        ("run_once", 30, ["12:02", "12:04"]),
    ],
)
def test_due_times_that_passed_while_nothing_served_are_dealt_with_as_the_schedule_says(
    place: Place, missed: str, away_s: float, expected: list[str]
) -> None:
    """Within a minute they are made up for; later than that they are passed over, or the latest of them has its event."""
    place.write(f'[[schedules]]\nevery = 120\nmissed = "{missed}"\n')

    async def main() -> None:
        async with place.served(is_kept=True):
            await asyncio.sleep(125)
        place.clock.at += away_s
        async with place.served(is_kept=True):
            await asyncio.sleep(105)
        assert [f"10-24 {due}" for due in expected] == place.dues

    run_virtual(main(), patience_s=PATIENCE_S)


def test_a_new_schedule_and_one_with_other_times_have_no_past(place: Place) -> None:
    """Nothing is made up for that was not due yet under this name and these times."""
    place.write('[[schedules]]\nname = "x"\nevery = 3600\nmissed = "run_once"\n')

    async def main() -> None:
        place.clock.at += 200
        async with place.served(is_kept=True) as runner:
            await asyncio.sleep(15)
            place.write('[[schedules]]\nname = "x"\nevery = 60\nmissed = "run_once"\n')
            await runner.reload()
            await asyncio.sleep(15)
            assert [] == place.dues
            await asyncio.sleep(15)
        assert ["10-24 12:04"] == place.dues

    run_virtual(main(), patience_s=PATIENCE_S)


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0, 10 * 365.25 * 86_400, -10 * 365.25 * 86_400])
def test_a_clock_that_is_set_and_set_right_again_doubles_and_loses_nothing(place: Place, jump_s: float) -> None:
    """After the jump, and after the way back, each due time that a clock comes by while it goes on has one event."""
    place.write(HOURLY)

    async def main() -> None:
        async with place.served() as runner:
            await asyncio.sleep(3600 + 600)
            place.clock.at += jump_s
            await asyncio.sleep(1200)
            place.clock.at -= jump_s
            await asyncio.sleep(2 * 3600)
            rows = await runner.runs()
            assert len(rows) == len({row.event_id for row in rows})
        assert {"10-24 13:00", "10-24 14:00", "10-24 15:00"} <= set(place.dues)
        assert len(place.seen) == len(set(place.dues))
        assert len(place.seen) <= 4

    run_virtual(main())


def test_an_event_that_finds_no_room_is_tried_again(place: Place) -> None:
    """A full queue delays events for up to a minute, and none is lost by it."""
    place.write("[[schedules]]\nevery = 10\n", "[runner]\nqueue_size = 1\nmax_running = 1\n")

    async def handle(event: Event) -> None:
        if len(place.seen) == 1:
            await asyncio.sleep(45)

    place.handle = handle

    async def main() -> None:
        async with place.served() as runner:
            await asyncio.sleep(125)
            assert 12 == len(await runner.runs())
        assert 12 == len({seen["due"] for seen in place.seen})

    run_virtual(main())


def test_a_reload_brings_schedules_and_takes_them_away(place: Place) -> None:
    """Without any schedule nothing is looked at; one that is added is due from then on, one that is removed is not."""
    place.write("")

    async def main() -> None:
        async with place.served() as runner:
            await asyncio.sleep(70)
            place.write("[[schedules]]\nevery = 60\n")
            await runner.reload()
            await asyncio.sleep(60)
            place.write("")
            await runner.reload()
            await asyncio.sleep(3600)
        assert ["10-24 12:02"] == place.dues

    run_virtual(main(), patience_s=PATIENCE_S)


def test_an_event_that_is_refused_stands_in_nobody_s_way(place: Place) -> None:
    """What would be refused again is told and passed over; the next due time and other schedules go on."""
    place.write('[[schedules]]\nname = "bad"\nevery = 600\nmetadata = { orchestration_override = "nothing" }\n' + HOURLY)

    async def main() -> None:
        async with place.served():
            await asyncio.sleep(2 * 3600 + 1)
        assert ["10-24 13:00", "10-24 14:00"] == place.dues

    run_virtual(main())


def test_what_is_known_of_the_past_is_for_the_user_alone_and_may_be_lost(place: Place) -> None:
    """The file beside the journal has mode 0600; without it, or with anything else in it, nothing was missed."""
    place.write(HOURLY + 'missed = "run_once"\n')
    marks = place.journal.with_name("journal.db.schedules")

    async def main() -> None:
        for content in (
            None,
            b"",
            b'{"schedules": [1]}',
            b"\xff" * 100,
            b'{"schedules": {"hourly": {"when": "0 * * * * UTC", "after": 1e999}}}',
        ):
            if content is not None:
                marks.write_bytes(content)
            async with place.served(is_kept=True):
                await asyncio.sleep(1)
            assert 0o600 == marks.stat().st_mode & 0o777
            assert {"hourly"} == set(read_marks(marks))
        assert [] == place.dues

    run_virtual(main(), patience_s=PATIENCE_S)


def test_the_next_due_time_follows_the_last(place: Place) -> None:
    """What `agentflow schedules` shows is what is emitted."""
    place.write(HOURLY)

    async def main() -> None:
        async with place.served() as runner:
            (schedule,) = runner.project.config.schedules
            assert START + 3600 == next_due(schedule, START) == next(due_times(schedule, START))

    run_virtual(main())
