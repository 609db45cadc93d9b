"""Own loops: an async handler in a thread, where it can block nobody else."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from typing import Any

Returned = tuple[object, BaseException | None]

LEFT_OVER_S = 1.0  # for tasks that a handler left behind, once they are cancelled


class OwnLoop:
    """Calls a handler in the thread that calls `run`, and awaits what it returns on a loop of its own; others may `cancel` that."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[object, ...]) -> None:
        self._function = function
        self._arguments = arguments
        self._guard = threading.Lock()
        self._is_cancelled = False
        self._loop: asyncio.AbstractEventLoop | None = None  # while it runs
        self._task: asyncio.Task[Returned] | None = None

    def run(self) -> Returned:
        """Run the handler to its end. An exception is handed over as a value: a future cannot hold every kind of it."""
        returned, error = caught(self._function, self._arguments)
        return self._await(returned) if inspect.isawaitable(returned) else (returned, error)

    def _await(self, returned: Awaitable[object]) -> Returned:
        loop = asyncio.new_event_loop()
        try:
            task = loop.create_task(_caught(returned))
            with self._guard:
                self._loop, self._task = loop, task
                if self._is_cancelled:
                    task.cancel()
            try:
                return loop.run_until_complete(task)
            finally:
                with self._guard:
                    self._loop = None
                loop.run_until_complete(_tidy())
        except asyncio.CancelledError as error:  # before it had begun
            if inspect.iscoroutine(returned):
                returned.close()
            return None, error
        finally:
            loop.close()

    def cancel(self) -> None:
        """Have it cancelled, once more at each call."""
        with self._guard:
            self._is_cancelled = True
            if self._loop is not None and self._task is not None:
                self._loop.call_soon_threadsafe(self._task.cancel)


def caught(function: Callable[..., Any], arguments: tuple[object, ...]) -> Returned:
    """Call a sync handler. An exception is handed over as a value: a future cannot hold every kind of it."""
    try:
        return function(*arguments), None
    except StopIteration as error:
        return None, RuntimeError(f"the handler raised StopIteration({error.value!r})")
    except BaseException as error:  # noqa: BLE001 - a handler may raise anything
        return None, error


async def _caught(returned: Awaitable[object]) -> Returned:
    try:
        return await returned, None
    except BaseException as error:  # noqa: BLE001 - as above
        return None, error


async def _tidy() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=LEFT_OVER_S)
    await asyncio.get_running_loop().shutdown_asyncgens()


class ThreadContext:
    """The `ctx` of a handler on a loop of its own: what waits for the runner waits on the runner's loop."""

    def __init__(self, context: Any, home: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._home = home

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def once(self, key: str, function: Callable[[], Any]) -> Any:
        """Do something once for this step, on the handler's own loop; the runner keeps its value."""
        here = asyncio.get_running_loop()

        async def called() -> Any:
            value = function()
            return await value if inspect.isawaitable(value) else value

        async def work() -> Any:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(called(), here))

        return await self._at_home(self._context.once(key, work))

    async def checkpoint(self) -> Any:
        """Make all that was recorded of the run durable."""
        return await self._at_home(self._context.checkpoint())

    async def _at_home(self, coroutine: Any) -> Any:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._home))
