"""Lineage: what callbacks emit counts as the offspring of the event they were called for, is bounded, and is of the same trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agentflow.core.event import W3C, Event
from agentflow.core.result import RunResult
from agentflow.engine.run import Run
from agentflow.errors import EventLimitError
from agentflow.ports import Handle

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine

MAX_EVENTS = 100  # for each root event


class Offspring:
    """The runner as a callback gets it: it emits on behalf of a run, at most MAX_EVENTS times for each root event.

    An event of the run's own session is part of its turn there: it does not wait for the run that brought it forth. `position` is
    the step's, "" for callbacks of the event.
    """

    def __init__(self, engine: Engine, run: Run, position: str) -> None:
        self._engine = engine
        self._runner = engine.emitter
        self._run = run
        self._position = position

    async def emit(self, event: Event) -> Handle:
        """Emit an event as a child of the run, and of its trace unless it names one of its own.

        Raises:
            EventLimitError: the root event has brought forth as many as it may.
        """
        root = self._run.root or self._run
        if root.offspring >= MAX_EVENTS:
            raise EventLimitError(f"one event has brought forth {MAX_EVENTS} others", hint="let callbacks emit for some events only")
        root.offspring += 1
        return await self._runner.emit_for(self._run, self._traced(event))

    async def run(self, event: Event) -> RunResult:
        """Emit an event, as `emit` does, and wait for its result."""
        return await (await self.emit(event)).result()

    def _traced(self, event: Event) -> Event:
        """Return the event with the run's trace in its metadata."""
        if not isinstance(event, Event) or not isinstance(event.kept_metadata, Mapping) or W3C[0] in event.metadata:
            return event  # what is no event is refused where it is emitted
        tracing, told = self._engine.tracing, self._run.event.kept_metadata
        headers = None if tracing is None else tracing.headers_of(self._run.run_id, self._position)
        headers = headers or {name: told[name] for name in W3C if name in told}
        return event.view_in(headers) if headers else event

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)  # everything else is the runner's own
