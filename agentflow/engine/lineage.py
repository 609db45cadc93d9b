"""Lineage: what callbacks emit counts as the offspring of the event they were called for, and is bounded."""

from __future__ import annotations

from typing import Any

from agentflow.core.event import Event
from agentflow.engine.run import Run
from agentflow.errors import EventLimitError
from agentflow.ports import Emitter, Handle

MAX_EVENTS = 100  # for each root event


class Offspring:
    """The runner as a callback gets it: it emits on behalf of a run, at most MAX_EVENTS times for each root event."""

    def __init__(self, runner: Emitter, run: Run) -> None:
        self._runner = runner
        self._run = run

    async def emit(self, event: Event) -> Handle:
        """Emit an event as a child of the run.

        Raises:
            EventLimitError: the root event has brought forth as many as it may.
        """
        root = self._run.root or self._run
        if root.offspring >= MAX_EVENTS:
            raise EventLimitError(f"one event has brought forth {MAX_EVENTS} others", hint="let callbacks emit for some events only")
        root.offspring += 1
        handle = await self._runner.emit(event)
        handle.descend_from(root)  # its first step, and so its first callback, comes later
        return handle

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)  # everything else is the runner's own
