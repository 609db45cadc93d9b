"""Run: one event's journey through one plan, and the handle its emitter holds."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from dataclasses import replace
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from agentflow.core.event import Event
from agentflow.core.failure import Failure
from agentflow.core.frame import Frame
from agentflow.core.plan import Call
from agentflow.core.result import RunResult, Usage
from agentflow.core.run_row import CORRUPT
from agentflow.core.values import Json
from agentflow.core.walk import Walk
from agentflow.engine.account import Account
from agentflow.engine.program import Program
from agentflow.engine.seldom import Seldom

if TYPE_CHECKING:
    from agentflow.engine.control import Wait
    from agentflow.engine.engine import Engine
    from agentflow.engine.families import Family
    from agentflow.engine.journal import Journal
    from agentflow.engine.step import Step


TIMED_OUT: Final = object()  # why a step is interrupted whose own time is up; else a Closing says why


class FlowTimer:
    """The time limit of a flow, or the deadline of a join: when it is due its frame is closed."""

    __slots__ = ("due", "frame", "is_join", "place", "run")

    def __init__(self, run: Run, frame: Frame, *, is_join: bool = False) -> None:
        self.run = run
        self.frame = frame
        self.is_join = is_join
        self.due = inf
        self.place: float | None = None


class Closing:
    """A frame (None: the whole run) that is cut once the calls below it have ended or were abandoned; or a join, which is closed.

    `why` is what it fails with, of a join the reason.
    """

    __slots__ = ("frame", "pending", "why")

    def __init__(self, frame: Frame | None, why: Failure | str, pending: set[Step]) -> None:
        self.frame = frame
        self.why = why
        self.pending = pending


class Run:
    """What the engine keeps of a run while it is open. Times are monotonic seconds."""

    __slots__ = (
        "_step",
        "_steps",
        "_usage",
        "begun",
        "calls",
        "cancelled",
        "changed",
        "event",
        "flags",
        "is_hooked",
        "is_paused",
        "is_recovered",
        "journal",
        "parked",
        "program",
        "result",
        "run_id",
        "session_id",
        "step_limit_s",
        "timers",
        "waiters",
        "walk",
        "watchers",
    )

    held = Seldom[tuple[Frame, ...]](())  # calls that begin when the pause is over
    waiting = Seldom[Mapping[str, "Wait"]](MappingProxyType({}))  # calls that wait for a person, by position
    is_begun_unread = Seldom(first=False)  # its turn has come, and its journal is still to be read
    is_asked_to_end = Seldom("")  # what for, while its journal is still to be read
    is_cut = Seldom(first=False)  # its cancellation is in the journal already
    account = Seldom[Account | None](None)  # what it has of its budgets
    parent = Seldom["Run | None"](None)  # the run of the event for which a callback emitted this one's
    root = Seldom["Run | None"](None)  # the workflow's run whose step it is
    family: Seldom[Family | None] = Seldom(None)  # the runs that came of the same event; None where nobody has looked yet
    followers = Seldom[tuple[Call, ...]](())  # who has subscribed to its event
    has_offspring = Seldom(first=False)  # others in its session may be its children
    is_nested = Seldom(first=False)  # it is part of the turn that an ancestor has in their session
    is_decided = Seldom(first=False)  # its session was busy, and it is taken in all the same
    extra = Seldom(0)  # attempts that were made because others had failed

    def __init__(self, run_id: str, event: Event, program: Program, walk: Walk) -> None:
        self.run_id = run_id
        self.event = event
        self.session_id = event.session_id
        self.program = program
        self.walk = walk
        self.begun: float | None = None
        self._step: Step | None = None  # the only open step of most runs; a set costs more than all the rest
        self._steps: set[Step] | None = None
        self.timers: dict[tuple[Frame, bool], FlowTimer] | None = None  # by frame, and whether it is a join's
        self.calls = 0
        self._usage: Usage | None = None
        self.flags: tuple[str, ...] = ()
        self.step_limit_s: float | None = None  # the event's own `agent_timeout`
        self.cancelled = ""  # why it was cancelled
        self.result: RunResult | None = None
        self.journal: Journal | None = None  # None: nothing of the run is kept
        self.is_paused = False  # somebody has paused it: nothing begins
        self.changed: dict[str, Any] | None = None
        self.watchers: tuple[asyncio.Future[None], ...] = ()  # who wants to know when it ends or pauses
        self.is_hooked = False  # its event hooks have still to run
        self.is_recovered = False  # it was begun by another process, or before a pause
        self.parked: BaseException | None = None  # why this engine goes on with it no more, although it has not ended
        self.waiters: list[asyncio.Future[RunResult]] = []

    @property
    def steps(self) -> set[Step]:
        """The open steps."""
        steps = set(self._steps or ())
        if self._step is not None:
            steps.add(self._step)
        return steps

    @property
    def has_steps(self) -> bool:
        """Whether a step is open."""
        return self._step is not None or bool(self._steps)

    def open(self, step: Step) -> None:
        """Note that a step is open; nothing changes when it is known already."""
        if self._step is None:
            self._step = step
        elif self._step is not step:
            if self._steps is None:
                self._steps = set()
            self._steps.add(step)

    def close(self, step: Step) -> None:
        """Note that a step is open no more."""
        if self._step is step:
            self._step = None
        if self._steps is not None:
            self._steps.discard(step)

    @property
    def usage(self) -> Usage:
        """What the run has used so far."""
        if self._usage is None:
            self._usage = Usage()
        self._usage.calls = self.calls
        return self._usage

    def recall_usage(self, usage: Usage) -> None:
        """Take over what the run had used before."""
        self.calls = usage.calls
        self._usage = replace(usage)

    @property
    def state(self) -> str:
        """How the run stands: "running", "paused" (nothing of it goes on), or, once it has ended, its status."""
        if self.result is not None:
            return self.result.status
        is_waiting = self.is_paused or (self.journal is not None and self.journal.standing.paused is not None)
        return "paused" if self.parked is not None or (is_waiting and self._step is None and not self._steps) else "running"

    @property
    def is_left(self) -> bool:
        """Whether nobody goes on with it here, although it is recorded and has not ended: it has its session until somebody does."""
        if self.parked is None or self.result is not None or CORRUPT in self.flags:
            return False
        accepted = None if self.is_recovered or self.journal is None else self.journal.accepted
        return self.is_recovered or (accepted is not None and not (accepted.done() and accepted.exception() is not None))

    def rested(self) -> asyncio.Future[None]:
        """Return a future that is done when the run has ended or paused, or waits for one that nobody goes on with here."""
        watcher: asyncio.Future[None] = asyncio.Future()
        if self.state != "running":
            watcher.set_result(None)
        else:
            self.watchers = (*self.watchers, watcher)
        return watcher

    def tell_rest(self, *, is_blocked: bool = False) -> None:
        """Tell who waits for it that the run may have ended or paused, or (`is_blocked`) that it waits for another one."""
        if self.watchers and (is_blocked or self.state != "running"):
            watchers, self.watchers = self.watchers, ()
            for watcher in watchers:
                if not watcher.done():
                    watcher.set_result(None)

    def ended(self) -> asyncio.Future[RunResult]:
        """Return a future of the run's result: a new one for each caller, so that cancelling one cancels no other."""
        waiter: asyncio.Future[RunResult] = asyncio.Future()
        if self.result is not None:
            waiter.set_result(self.result)
        elif self.parked is not None:
            waiter.set_exception(self.parked)
        else:
            self.waiters.append(waiter)
        return waiter


class RunHandle:
    """What `emit` returns once the event is accepted.

    Attributes:
        run_id: the run's id.
        event_id: the event's id.
        is_duplicate: whether the event had been emitted before: then this is the run that it had.
    """

    __slots__ = ("_engine", "_run", "event_id", "is_duplicate", "run_id")

    def __init__(self, run: Run, engine: Engine, *, is_duplicate: bool = False) -> None:
        self.run_id = run.run_id
        self.event_id = run.event.id
        self.is_duplicate = is_duplicate
        self._run = run
        self._engine = engine

    async def result(self) -> RunResult:
        """Wait for the run's end and return its result; may be called any number of times.

        Does not raise when the run failed: `result.raise_for_status()` does.

        Raises:
            StoreError: the run's journal cannot be written, or another owner has taken the run.
            RunnerStateError: the runner was stopped before the run had ended; it can be resumed.
        """
        return await self._run.ended()

    async def tree(self) -> dict[str, RunResult]:
        """Wait until the run, and all that its events have brought forth, has ended; return the results by run id, as accepted.

        Raises:
            StoreError, RunnerStateError: as `result`, of any of these runs.
        """
        return await self._engine.families.tree(self._run)

    @property
    def children(self) -> tuple[RunHandle, ...]:
        """The handles of the runs that have come of this run's event here so far, however far below it, in order of acceptance."""
        return tuple(RunHandle(run, self._engine) for run in self._engine.families.below(self._run))

    async def wait(self) -> str:
        """Wait until the run has ended or is paused, and that is durable, and return its status, or "paused".

        Returns "pending" as soon as it waits behind a recorded run of its session that this runner does not go on with: only
        `runner.resume`, or an order that ends that run, changes this. Behind runs that go on here it waits on.

        Raises:
            StoreError: the run's journal cannot be written.
        """
        run, intake = self._run, self._engine.intake
        if intake.blocker_of(run) is None:
            await run.rested()
        if run.state == "running" and intake.blocker_of(run) is not None:
            return "pending"
        if run.result is None and run.parked is None and run.journal is not None and not run.journal.is_durable:
            await run.journal.durable(run.journal.commit())
        return run.state

    @property
    def is_done(self) -> bool:
        """Whether the run has ended."""
        return self._run.result is not None

    def cancel(self, reason: str = "cancelled") -> Asked:
        """Ask the run to end; its result will be `cancelled` for this reason, or `timed_out` when it is "timeout".

        Returns at once; who awaits what it returns waits until the request is durable. Nothing happens when it has ended.
        """
        return Asked(self._run, self._engine.ending.cancel(self._run, reason))

    async def pause(self, reason: str = "") -> None:
        """Let no further step begin; those in flight finish. Durable when it returns.

        Raises:
            IllegalTransitionError: the run is not running.
            RunnerStateError: nothing of the run is recorded.
        """
        await self._engine.control.pause(self._run, reason)

    async def resume(self, by: str = "") -> None:
        """Go on after a pause.

        Raises:
            IllegalTransitionError: the run is not paused, or waits for people only.
            RunnerStateError: nothing of the run is recorded.
        """
        await self._engine.control.resume(self._run, by)

    async def approve(self, place: str, *, by: str = "", note: str = "", digest: str | None = None) -> bool:
        """Let a step run that waits for a person; False when it does not wait, or was answered before.

        Args:
            place: the step's position, or its agent where only one step of that agent waits.
            by: who says so.
            note: what else they say.
            digest: what they saw; None does not ask whether it is still what waits.

        Raises:
            IllegalTransitionError: several steps are meant, or another thing waits there now.
        """
        return await self._engine.control.approve(self._run, place, by, note, digest)

    async def reject(self, place: str, *, by: str = "", reason: str = "") -> bool:
        """Fail a step that waits for a person; False when it does not wait, or was answered before. `place` as in `approve`.

        Raises:
            IllegalTransitionError: several steps are meant.
        """
        return await self._engine.control.reject(self._run, place, by, reason)

    async def checkpoint(self) -> dict[str, Json]:
        """Make all that was recorded durable and return `{id, run_id, seq, state, schema_version}`.

        Raises:
            RunnerStateError: nothing of the run is recorded.
        """
        return await self._engine.control.checkpoint(self._run)


class Asked:
    """A request that was made; awaiting it waits until it is durable."""

    __slots__ = ("_run", "_written")

    def __init__(self, run: Run, written: asyncio.Future[None] | None) -> None:
        self._run = run
        self._written = written

    def __await__(self) -> Generator[Any, None, None]:
        if self._written is not None and self._run.journal is not None:
            yield from self._run.journal.durable(self._written).__await__()
        elif self._run.parked is not None:
            raise self._run.parked  # it goes on elsewhere, or not: nothing was recorded
