"""Due times: when a schedule is due, in seconds since the epoch.

A cron expression is read in its time zone. Where clocks are put forward, a time of day that does not exist is due at the moment
they are put forward; where they are put back, a time of day that comes twice is due the first time only. An expression whose
minute or hour begins with `*` tells an interval rather than a time of day: it goes on through both as if nothing were.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from hashlib import blake2b

from cronsim import CronSim

from agentflow.config.schedules import ScheduleConfig, zone_of

_DAY_S = 26 * 3600.0  # the longest there is, and a little
_WINDOWS_S = (3600.0, 86_400.0, 32 * 86_400.0, 367 * 86_400.0, 51 * 366 * 86_400.0)  # of looking back, the likely ones first


def due_times(schedule: ScheduleConfig, after: float) -> Iterator[float]:
    """Yield the due times later than `after`, in order; none are left when fifty years have none."""
    if schedule.every is not None:
        count = int(after // schedule.every) + 1
        while True:
            yield float(count * schedule.every)
            count += 1
    cron, zone = schedule.cron or "", zone_of(schedule.timezone)
    minute, hour = cron.split()[:2]
    find = _through_changes if minute.startswith("*") or hour.startswith("*") else _times_of_day
    yield from find(cron, zone, after)


def _times_of_day(cron: str, zone: tzinfo, after: float) -> Iterator[float]:
    """Yield the due times of an expression that names times of day: each once, whatever clocks do."""
    for moment in CronSim(cron, _wall(zone, after - _DAY_S)):
        due = moment.replace(tzinfo=zone).timestamp()
        if _wall(zone, due) != moment:  # no clock shows it
            due = _change(zone, due - _DAY_S, due) or due
        if due > after:
            after = due
            yield due


def _through_changes(cron: str, zone: tzinfo, after: float) -> Iterator[float]:
    """Yield the due times of an expression that tells an interval: whenever a clock shows one, also the second time."""
    base, offset, begin = after, _offset(zone, after), after
    while True:
        for moment in CronSim(cron, datetime.fromtimestamp(begin + offset, UTC).replace(tzinfo=None)):
            due = _instant(moment, offset)
            change = _change(zone, base, min(due, base + _DAY_S)) or _change(zone, max(base, due - _DAY_S), due)
            if change is not None:
                base, offset, begin = change, _offset(zone, change), change - 1  # what is due at the very moment is later than this
                break
            base, offset = due, _offset(zone, due)
            due = _instant(moment, offset)
            if due > after:
                after = due
                yield due
        else:
            return


def _instant(moment: datetime, offset: float) -> float:
    return moment.replace(tzinfo=UTC).timestamp() - offset


def _wall(zone: tzinfo, at: float) -> datetime:
    """Return what a clock on the wall shows."""
    return datetime.fromtimestamp(at, zone).replace(tzinfo=None, fold=0)


def _offset(zone: tzinfo, at: float) -> float:
    told = datetime.fromtimestamp(at, zone).utcoffset()
    return 0.0 if told is None else told.total_seconds()


def _change(zone: tzinfo, start: float, end: float) -> float | None:
    """Return the second at which clocks are changed between two moments, None when they stay as they are."""
    before = _offset(zone, start)
    if zone is UTC or _offset(zone, end) == before:
        return None
    low, high = int(start), int(end)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(zone, middle) == before:
            low = middle
        else:
            high = middle
    return float(high)


def next_due(schedule: ScheduleConfig, after: float) -> float | None:
    """Return the first due time later than `after`, None when there is none."""
    return next(due_times(schedule, after), None)


def last_due(schedule: ScheduleConfig, after: float, until: float) -> float | None:
    """Return the last due time later than `after` and not later than `until`, None when there is none."""
    for window_s in _WINDOWS_S:
        start, found = max(after, until - window_s), None
        for due in due_times(schedule, start):
            if due > until:
                break
            found = due
        if found is not None or start == after:
            return found
    return None


def event_id(schedule: ScheduleConfig, due: float) -> str:
    """Return the id of the event of a due time: whoever emits it, and however often, it is one event."""
    told = f"{schedule.title}\0{due:.0f}"
    return f"schedule-{blake2b(told.encode(), digest_size=16).hexdigest()}"
