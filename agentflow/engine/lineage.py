"""Lineage: what callbacks emit counts as the offspring of the event they were called for, is bounded, and is of the same trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agentflow.core.event import Event
from agentflow.core.result import RunResult
from agentflow.engine.run import Run
from agentflow.ports import Handle

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine


class Offspring:
    """The runner as a callback gets it: it emits on behalf of a run, at most `max_events` times for each root event.

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
            EventLimitError: the root event has brought forth `max_events` others.
        """
        return await self._runner.emit_for(self._run, self._traced(event))

    async def run(self, event: Event) -> RunResult:
        """Emit an event, as `emit` does, and wait for its result."""
        return await (await self.emit(event)).result()

    def _traced(self, event: Event) -> Event:
        """Return the event with the run's trace in its metadata."""
        given: object = event
        if not isinstance(given, Event) or not isinstance(given.kept_metadata, Mapping):
            return event  # what is no event is refused where it is emitted
        headers = self._engine.families.trace_of(self._run, event.metadata, self._position)
        return event.view_in(headers) if headers else event

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)  # everything else is the runner's own
