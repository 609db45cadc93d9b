"""Run: one event's journey through one plan, and the handle its emitter holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from agentflow.core.event import Event
from agentflow.core.failure import Failure
from agentflow.core.frame import Frame
from agentflow.core.result import RunResult, Usage
from agentflow.core.walk import Walk
from agentflow.engine.program import Program

if TYPE_CHECKING:
    from agentflow.engine.step import Step


class FlowTimer:
    """The time limit of a flow: when it is due the flow's frame is closed."""

    __slots__ = ("due", "frame", "place", "run")

    def __init__(self, run: Run, frame: Frame) -> None:
        self.run = run
        self.frame = frame
        self.due = inf
        self.place: float | None = None


class Closing:
    """A frame (None: the whole run) that is cut once the calls below it have ended or were abandoned."""

    __slots__ = ("failure", "frame", "pending")

    def __init__(self, frame: Frame | None, failure: Failure, pending: set[Step]) -> None:
        self.frame = frame
        self.failure = failure
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
        "event",
        "flags",
        "offspring",
        "program",
        "result",
        "root",
        "run_id",
        "session_id",
        "step_limit_s",
        "timers",
        "waiters",
        "walk",
    )

    def __init__(self, run_id: str, event: Event, program: Program, walk: Walk) -> None:
        self.run_id = run_id
        self.event = event
        self.session_id = event.session_id
        self.program = program
        self.walk = walk
        self.begun: float | None = None
        self._step: Step | None = None  # the only open step of most runs; a set costs more than all the rest
        self._steps: set[Step] | None = None
        self.timers: dict[Frame, FlowTimer] | None = None
        self.calls = 0
        self._usage: Usage | None = None
        self.flags: tuple[str, ...] = ()
        self.step_limit_s: float | None = None  # the event's own `agent_timeout`
        self.cancelled = ""  # why it was cancelled
        self.result: RunResult | None = None
        self.root: Run | None = None  # the run of the event for which a callback emitted this one's
        self.offspring = 0
        self.waiters: list[asyncio.Future[RunResult]] = []

    @property
    def steps(self) -> set[Step]:
        """The open steps."""
        steps = set(self._steps or ())
        if self._step is not None:
            steps.add(self._step)
        return steps

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

    def ended(self) -> asyncio.Future[RunResult]:
        """Return a future of the run's result: a new one for each caller, so that cancelling one cancels no other."""
        waiter: asyncio.Future[RunResult] = asyncio.Future()
        if self.result is not None:
            waiter.set_result(self.result)
        else:
            self.waiters.append(waiter)
        return waiter


class RunHandle:
    """What `emit` returns once the event is accepted.

    Attributes:
        run_id: the run's id.
        event_id: the event's id.
    """

    __slots__ = ("_cancel", "_run", "event_id", "run_id")

    def __init__(self, run: Run, cancel: Callable[[Run, str], None]) -> None:
        self.run_id = run.run_id
        self.event_id = run.event.id
        self._run = run
        self._cancel = cancel

    async def result(self) -> RunResult:
        """Wait for the run's end and return its result; may be called any number of times.

        Does not raise when the run failed: `result.raise_for_status()` does.
        """
        return await self._run.ended()

    @property
    def is_done(self) -> bool:
        """Whether the run has ended."""
        return self._run.result is not None

    def descend_from(self, root: object) -> None:
        """Count the run, and what its callbacks emit, as the offspring of another one."""
        assert isinstance(root, Run)  # noqa: S101 - only runs have offspring
        self._run.root = root

    def cancel(self, reason: str = "cancelled") -> None:
        """Ask the run to end; its result will be `cancelled` for this reason, or `timed_out` when it is "timeout".

        Nothing happens when it has ended.
        """
        self._cancel(self._run, reason)
