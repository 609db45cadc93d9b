"""Due times: cron in a time zone, intervals, and what happens where clocks are put forward and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from agentflow.config.schedules import ScheduleConfig
from agentflow.engine.due import due_times, event_id, last_due, next_due

BERLIN = "Europe/Berlin"
CRONS = ["* * * * *", "*/7 * * * *", "30 2 * * *", "0 */3 * * *", "15 1-3 * * *", "0 0 1 * *", "59 23 * * SUN", "0 12 29 2 *"]
ZONES = ["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]


def _at(text: str, zone: str = "UTC", *, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def _told(schedule: ScheduleConfig, after: float, count: int) -> list[str]:
    return [datetime.fromtimestamp(due, UTC).strftime("%m-%d %H:%M") for due in islice(due_times(schedule, after), count)]


def test_an_interval_is_counted_from_the_epoch_whoever_asks() -> None:
    """`every` has the same due times after each start and in each process."""
    schedule = ScheduleConfig(every=300)
    assert [600.0, 900.0] == list(islice(due_times(schedule, 300.0), 2))
    assert next_due(schedule, 599.9) == next_due(schedule, 301.0) == 600.0


def test_a_time_of_day_that_does_not_exist_is_due_when_clocks_are_put_forward() -> None:
    """02:30 on the day without it is due at 03:00, once; the day after at 02:30 again."""
    schedule = ScheduleConfig(cron="30 2 * * *", timezone=BERLIN)
    assert ["03-28 01:30", "03-29 01:00", "03-30 00:30"] == _told(schedule, _at("2026-03-28T00:00", BERLIN), 3)


def test_a_time_of_day_that_comes_twice_is_due_once() -> None:
    """02:30 on the day with two of them is due the first time."""
    schedule = ScheduleConfig(cron="30 2 * * *", timezone=BERLIN)
    assert ["10-25 00:30", "10-26 01:30"] == _told(schedule, _at("2026-10-25T00:00", BERLIN), 2)


def test_a_time_of_day_that_comes_twice_is_not_due_again_after_a_restart_between_the_two() -> None:
    """Asked in the second 02:10, the next 02:30 is that of the next day, and never one that has passed."""
    schedule = ScheduleConfig(cron="30 2 * * *", timezone=BERLIN)
    assert ["10-26 01:30"] == _told(schedule, _at("2026-10-25T02:10", BERLIN, fold=1), 1)


@pytest.mark.parametrize(("day", "count"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)])
def test_an_interval_of_the_clock_goes_on_through_both(day: str, count: int) -> None:
    """`0 * * * *` and `*/30 * * * *` are due once for each hour that a day really has."""
    start = _at(f"{day}T00:00", BERLIN) - 1
    end = datetime.fromisoformat(f"{day}T23:59").replace(tzinfo=ZoneInfo(BERLIN)).timestamp()
    for cron, times in (("*/60 * * * *", 1), ("*/30 * * * *", 2)):
        found = [due for due in islice(due_times(ScheduleConfig(cron=cron, timezone=BERLIN), start), 100) if due <= end]
        assert count * times == len(found)
        assert {3600.0 / times} == {later - due for due, later in pairwise(found)}


@given(
    cron=st.sampled_from(CRONS),
    zone=st.sampled_from(ZONES),
    after=st.integers(int(_at("2025-01-01T00:00")), int(_at("2032-01-01T00:00"))),
)
def test_due_times_are_later_in_order_and_the_same_wherever_one_begins(cron: str, zone: str, after: int) -> None:
    """Each due time is later than the one before, and beginning anywhere between two of them gives the later one."""
    schedule = ScheduleConfig(cron=cron, timezone=zone)
    found = list(islice(due_times(schedule, after), 4))
    assert found == sorted(set(found))
    assert after < found[0]
    for due, later in pairwise(found):
        assert later == next_due(schedule, due)
        assert later == next_due(schedule, later - 1)
        assert due == last_due(schedule, after, later - 1)
    assert found[-1] == last_due(schedule, after, found[-1])


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Australia/Lord_Howe"])
@pytest.mark.parametrize("cron", ["0 * * * *", "0 */2 * * *", "0 */3 * * *", "*/7 * * * *", "*/30 1-3 * * *", "10 */4 * * SUN"])
def test_an_interval_is_due_at_each_minute_at_which_a_clock_on_the_wall_shows_it(zone: str, cron: str) -> None:
    """Minute by minute through the two changes of a year, by a whole or half an hour: no due time more, none less."""
    place = ZoneInfo(zone)
    changes = [
        at
        for at in range(int(_at("2026-03-15T00:00")), int(_at("2026-11-15T00:00")), 1800)
        if datetime.fromtimestamp(at, place).utcoffset() != datetime.fromtimestamp(at + 1800, place).utcoffset()
    ]
    assert 2 == len(changes)
    for change in changes:
        start, end = change - 6 * 3600, change + 6 * 3600
        shown = {at: datetime.fromtimestamp(at, place).replace(tzinfo=None, fold=0) for at in range(start + 60, end + 1, 60)}
        told = [at for at, wall in shown.items() if next(CronSim(cron, wall - timedelta(minutes=1))) == wall]
        assert told
        assert told == list(takewhile(lambda due: due <= end, due_times(ScheduleConfig(cron=cron, timezone=zone), start)))  # noqa: B023


def test_the_last_due_time_of_long_ago_is_found_at_once() -> None:
    """Ten years of minutes are not counted one by one."""
    schedule = ScheduleConfig(cron="* * * * *")
    now = _at("2026-01-01T00:00:30")
    assert _at("2026-01-01T00:00") == last_due(schedule, now - 10 * 366 * 86_400, now)
    assert last_due(ScheduleConfig(cron="0 0 1 1 *"), now, now + 86_400) is None


def test_an_event_is_known_by_its_schedule_and_its_due_time() -> None:
    """The id is the same in each process, and another one for another schedule or due time; what is emitted may change."""
    one = ScheduleConfig(name="a", every=60, data={"n": 1})
    same = ScheduleConfig(name="a", cron="* * * * *", data={"n": 2})
    assert event_id(one, 60.0) == event_id(same, 60.0)
    assert len({event_id(one, 60.0), event_id(one, 120.0), event_id(ScheduleConfig(name="b", every=60), 60.0)}) == 3
