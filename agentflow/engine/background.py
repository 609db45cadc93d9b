"""Background: coroutines that handlers leave to the runner with `ctx.background`. Nothing of them is recorded."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from agentflow.core.failure import failure_of
from agentflow.errors import InvalidValueError, RunnerStateError

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine

Work = Coroutine[Any, Any, object]


class Background:
    """Lets coroutines go on beside the runs of one engine, until it stops."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tasks: dict[asyncio.Task[object], Mapping[str, str]] = {}
        self._is_closed = False

    def begin(self, work: Work, told: Mapping[str, str]) -> None:
        """Let a coroutine go on; `told` says whose it is. May be called from a handler's thread.

        Raises:
            RunnerStateError: the runner stops.
            InvalidValueError: it is no coroutine.
        """
        if not inspect.iscoroutine(work):
            raise InvalidValueError(f"ctx.background takes a coroutine, not {type(work).__name__}", hint="ctx.background(work())")
        if self._is_closed:
            work.close()
            raise RunnerStateError("the runner stops: nothing more is begun in the background", hint="await it in the handler")
        try:
            is_here = asyncio.get_running_loop() is self._engine.loop
        except RuntimeError:  # a thread without a loop
            is_here = False
        if is_here:
            self._begin(work, told)
        else:
            self._engine.loop.call_soon_threadsafe(self._begin, work, told)

    def _begin(self, work: Work, told: Mapping[str, str]) -> None:
        task = self._engine.loop.create_task(work, name=f"background of {told['agent']}")
        self._tasks[task] = told
        task.add_done_callback(self._look)

    def _look(self, task: asyncio.Task[object]) -> None:
        told = self._tasks.pop(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._engine.teller.say("background_failed", {**told, "error": str(failure_of(error))}, error)

    def close(self) -> None:
        """Begin nothing more."""
        self._is_closed = True

    async def finish(self, wait_s: float, grace_s: float) -> list[str]:
        """Wait for what still goes on, cancel it when its time is over, and return what does not end all the same."""
        for limit_s, is_asked in ((wait_s, False), (grace_s, True)):
            tasks = list(self._tasks)
            for task in tasks if is_asked else ():
                self._engine.teller.say("background_cancelled", self._tasks[task])
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=max(limit_s, 0.0))
        return [f"background of {told['agent']} in {told['run_id']}" for told in self._tasks.values()]
