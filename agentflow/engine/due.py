"""Due times: when a schedule is due, in seconds since the epoch.

A cron expression is read in its time zone. Where clocks are put forward, a time of day that does not exist is due at the moment
they are put forward; where they are put back, a time of day that comes twice is due the first time only. An expression whose
minute or hour begins with `*` tells an interval rather than a time of day: it goes on through both as if nothing were.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from hashlib import blake2b

from cronsim import CronSim

from agentflow.config.schedules import ScheduleConfig, zone_of

_WINDOWS_S = (3600.0, 86_400.0, 32 * 86_400.0, 367 * 86_400.0, 51 * 366 * 86_400.0)  # of looking back, the likely ones first


def due_times(schedule: ScheduleConfig, after: float) -> Iterator[float]:
    """Yield the due times later than `after`, in order; none are left when fifty years have none."""
    if schedule.every is not None:
        count = int(after // schedule.every) + 1
        while True:
            yield float(count * schedule.every)
            count += 1
    for due in CronSim(schedule.cron or "", datetime.fromtimestamp(after, zone_of(schedule.timezone))):
        at = due.timestamp()
        if at > after:  # it begins a little earlier where clocks have just been put back
            after = at
            yield at


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
