"""Python functions as agents, and the `@agent` mark that lets an entrypoint's functions be found."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any, TypeVar

from agentflow.agents.own_loop import OwnLoop, ThreadContext, caught
from agentflow.agents.threads import Threads
from agentflow.errors import RegistrationError
from agentflow.ports import Request

Handler = Callable[..., Any]
Function = TypeVar("Function", bound=Handler)

MARK = "__agentflow_agent__"
_RIGHT = "async def {name}(event, state): ...   or   async def {name}(event, state, ctx): ..."


def agent(name: str) -> Callable[[Function], Function]:
    """Mark a function of the entrypoint's module as the handler of agent `name`; the runner registers it when it loads.

    Raises:
        RegistrationError: the name is empty or no string, e.g. when the mark is written without its parentheses.
    """
    if type(name) is not str or not name:
        raise RegistrationError(f"@agent needs an agent's name, got {name!r}", hint='write @agent("name")')

    def mark(function: Function) -> Function:
        setattr(function, MARK, name)
        return function

    return mark


class FunctionAgent:
    """A Python callable as an agent.

    A coroutine function runs on the loop, any other callable in one of `threads`; with `is_threaded` a coroutine function
    runs there too, on a loop of its own. With three positional parameters it is given a `ctx`.

    Raises:
        RegistrationError: it is no callable, or does not take `(event, state)` or `(event, state, ctx)`.
    """

    __slots__ = ("_threads", "function", "invoke", "name")

    def __init__(self, name: str, function: Handler, threads: Threads, *, is_threaded: bool = False) -> None:
        self.name = name
        self.function = function
        self._threads = threads
        takes_context = wants_context(name, function)
        self.invoke: Callable[[Request], Awaitable[object]]
        if is_threaded:
            self.invoke = functools.partial(self._on_own_loop, takes_context)
        elif not is_async(function):
            self.invoke = functools.partial(self._in_thread, takes_context)
        elif takes_context:
            self.invoke = lambda request: function(request.event, request.state, request.context)
        else:
            self.invoke = lambda request: function(request.event, request.state)

    async def _in_thread(self, takes_context: bool, request: Request) -> object:
        arguments = (request.event, request.state, request.context) if takes_context else (request.event, request.state)
        work = functools.partial(copy_context().run, caught, self.function, arguments)
        future = self._threads.pool().submit(work)
        task = asyncio.current_task()
        try:
            returned, error = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if future.cancelled() and (task is None or not task.cancelling()):
                return await self._in_thread(takes_context, request)  # its pool was set aside before it began
            if self._threads.give_up(future, self.name):  # type: ignore[arg-type] # the result's type is of no interest
                request.leave_behind()
            raise
        if error is not None:
            raise error
        return await returned if inspect.isawaitable(returned) else returned

    async def _on_own_loop(self, takes_context: bool, request: Request) -> object:
        """Run a handler in a thread, with a loop for what it awaits. A sync one is given up when it is cancelled, another is told."""
        context = ThreadContext(request.context, asyncio.get_running_loop()) if takes_context else None
        arguments = (request.event, request.state, context) if takes_context else (request.event, request.state)
        own = OwnLoop(self.function, arguments)
        future = self._threads.pool().submit(copy_context().run, own.run)
        task = asyncio.current_task()
        is_told = not is_async(self.function)
        while not future.done():
            try:
                await asyncio.shield(asyncio.wrap_future(future))
            except asyncio.CancelledError:
                if future.cancelled() and (task is None or not task.cancelling()):
                    return await self._on_own_loop(takes_context, request)  # as above
                own.cancel()
                if is_told:
                    if self._threads.give_up(future, self.name):  # type: ignore[arg-type] # as above
                        request.leave_behind()
                    raise
                is_told = True
        returned, error = future.result()
        if error is not None:
            raise error
        return returned


def is_async(function: Handler) -> bool:
    """Say whether calling a handler gives a coroutine."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def wants_context(name: str, function: object) -> bool:
    """Say whether a handler takes `(event, state, ctx)` rather than `(event, state)`.

    Raises:
        RegistrationError: it takes neither, or is no function.
    """
    right = _RIGHT.format(name=name)
    if function is None or not callable(function) or inspect.isclass(function):
        raise RegistrationError(f"the handler of agent `{name}` is {function!r}, not a function", hint=f"right: {right}")
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        told = f"the handler of agent `{name}` is a generator"
        raise RegistrationError(told, hint=f"return the answer instead of yielding; right: {right}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return False  # a builtin without a signature: called with event and state
    named = [one for one in signature.parameters.values() if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    for count in (3, 2):
        if count == 3 and len(named) < 3:
            continue
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        # `lambda event, state, n=n: ...` binds a value of its own; only a third parameter that asks for one gets a ctx.
        return count == 3 and (named[2].default is named[2].empty or named[2].name in ("ctx", "context"))
    told = getattr(function, "__name__", type(function).__name__)
    what = f"the handler of agent `{name}` does not take (event, state) or (event, state, ctx)"
    raise RegistrationError(f"{what}\n  wrong: def {told}{signature}\n  right: {right}")
