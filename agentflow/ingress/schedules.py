"""Schedules: emits the events of [[schedules]], one for each due time, whoever else does so and however often it is killed.

The id of an event is made of its schedule and its due time, so the journal takes it once. A named lease lets one of several
processes on a journal do the work; another one takes it over when that one is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import takewhile
from math import inf
from pathlib import Path

from agentflow.config.schedules import ScheduleConfig
from agentflow.core.event import Event
from agentflow.engine.due import due_times, event_id, last_due, next_due
from agentflow.errors import AgentflowError, FencedError, QueueFullError, RunnerStateError, StorageError
from agentflow.ingress.marks import Mark, read_marks, write_marks
from agentflow.runner import Runner

GRACE_S = 60.0  # a due time that passed longer ago is missed
TICK_S = 10.0  # how often the clock is looked at: it may be set
LEASE_S = 30.0
RETRY_S = 1.0  # while an event cannot be taken in
LEASE = "schedules"


class Schedules:
    """A way in for events that begin by themselves.

    Args:
        runner: takes the events; its present configuration says which there are.
        ready: is set once events are taken.
        time: tells seconds since the epoch.
        has_room: says whether there is room for new events.
    """

    def __init__(
        self, runner: Runner, ready: asyncio.Event, time: Callable[[], float], has_room: Callable[[], bool] = lambda: True
    ) -> None:
        self._runner = runner
        self._ready = ready
        self._time = time
        self._has_room = has_room
        scheme, _, path = runner.journal_url.partition(":")
        self._path = Path(f"{path}.schedules") if scheme == "sqlite" else None
        self._marks: dict[str, Mark] = {}
        self._latest = 0.0  # the time when it was last looked at
        self._has_news = False
        self._told = ""  # of what is in the way
        self._wake = asyncio.Event()
        self._is_closed = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look at the clock, once events are taken."""
        self._runner.on_reload.append(self._wake.set)
        self._task = asyncio.get_running_loop().create_task(self._keep_on())

    def close(self) -> None:
        """Emit nothing more; due times from now on are left to whoever comes next."""
        self._is_closed = True
        self._wake.set()

    async def stop(self) -> None:
        """Let go of everything."""
        self.close()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _keep_on(self) -> None:
        await self._ready.wait()
        self._marks = await asyncio.to_thread(read_marks, self._path) if self._path is not None else {}
        while not self._is_closed:
            self._wake.clear()
            try:
                wait_s = await self._round()
            except Exception as error:  # noqa: BLE001 - one bad round must not be the last one
                self._tell_once("schedules_failed", f"{type(error).__name__}: {error}")
                wait_s = TICK_S
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    async def _round(self) -> float | None:
        """Emit what is due; return in how many seconds there may be more, None when only another configuration has more."""
        schedules, now = self._runner.project.config.schedules, self._time()
        if not schedules:
            return None
        self._settle(schedules, now)
        wait_s = TICK_S
        if await self._is_mine():
            waits = [await self._serve(schedule, self._marks[schedule.title], now) for schedule in schedules]
            wait_s = min(TICK_S, *waits)
        if self._has_news:
            await self._keep()
        return wait_s

    def _settle(self, schedules: list[ScheduleConfig], now: float) -> None:
        """See to it that each schedule has a mark: what is new, or has other times than before, begins now."""
        if now < self._latest:  # the clock was set back: what was emitted already is not emitted again, by its id
            for mark in self._marks.values():
                mark.after, mark.next = min(mark.after, now), 0.0
        self._latest = now
        for schedule in schedules:
            known = self._marks.get(schedule.title)
            if known is None or known.when != schedule.when:
                self._marks[schedule.title] = Mark(schedule.when, now)
                self._has_news = True
            elif known.after > now:
                known.after = now
        if len(self._marks) > len(schedules):
            titles = {schedule.title for schedule in schedules}
            self._marks = {title: mark for title, mark in self._marks.items() if title in titles}
            self._has_news = True

    async def _is_mine(self) -> bool:
        """Say whether this process is the one that emits."""
        try:
            return await self._runner.hold(LEASE, LEASE_S)
        except AgentflowError as error:
            self._tell_once("schedules_wait", error.message)
            return False

    async def _serve(self, schedule: ScheduleConfig, mark: Mark, now: float) -> float:
        """Emit what is due of one schedule; return in how many seconds it may have more."""
        if mark.next == 0.0:
            mark.next = next_due(schedule, mark.after)
        if mark.next is not None and mark.next <= now:
            for due in self._due(schedule, mark.after, now):
                if self._is_closed or not await self._emit(schedule, due):
                    return RETRY_S
                mark.after = due
            mark.after, self._has_news = now, True
            mark.next = next_due(schedule, now)
        return inf if mark.next is None else max(mark.next - self._time(), 0.0)

    def _due(self, schedule: ScheduleConfig, after: float, now: float) -> list[float]:
        """Return the due times that are to have an event now: those of the last minute, or the latest that was missed."""
        recent = list(takewhile(lambda due: due <= now, due_times(schedule, max(after, now - GRACE_S))))
        missed = last_due(schedule, after, now - GRACE_S) if after < now - GRACE_S else None
        if missed is None:
            return recent
        told = {"schedule": schedule.title, "last": _moment(missed), "missed": schedule.missed}
        self._runner.log.warn("schedule_missed", told)
        return recent if recent or schedule.missed == "skip" else [missed]

    async def _emit(self, schedule: ScheduleConfig, due: float) -> bool:
        """Emit the event of a due time; False when that is to be tried once more."""
        if not self._has_room():
            self._tell_once("schedules_wait", "the disk of the journal is nearly full")
            return False
        origin = {"schedule": schedule.title, "due": _moment(due)}
        event = Event(
            schedule.target,
            schedule.data,
            {**schedule.metadata, **origin},
            session_id=schedule.session_id,
            id=event_id(schedule, due),
            timestamp=due,
        )
        try:
            await self._runner.emit(event, wait=False)
        except (QueueFullError, StorageError, FencedError, RunnerStateError) as error:
            self._tell_once("schedules_wait", error.message)
            return False
        except AgentflowError as error:  # the same again would be refused again
            self._runner.log.warn("schedule_refused", {**origin, "code": error.code, "detail": error.message})
        self._told = ""
        return True

    async def _keep(self) -> None:
        self._has_news = False
        if self._path is None:
            return
        marks = {title: (mark.when, mark.after) for title, mark in self._marks.items()}
        try:
            await asyncio.to_thread(write_marks, self._path, marks)
        except OSError as error:
            self._tell_once("schedules_unmarked", f"{self._path} cannot be written: {error.strerror or error}")

    def _tell_once(self, what: str, detail: str) -> None:
        if self._told != what:
            self._told = what
            self._runner.log.warn(what, {"detail": detail})


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
