"""The seams, on one page: what the engine asks of the parts that are chosen when it is put together."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from agentflow.core.event import Event
from agentflow.core.result import RunResult
from agentflow.core.state import Patch, State


class Request(Protocol):
    """One attempt of one step, as agents and executors see it."""

    @property
    def event(self) -> Event:
        """This attempt's own view of the event."""

    @property
    def state(self) -> State:
        """What this attempt sees and changes."""

    @property
    def agent(self) -> Agent:
        """Who answers."""

    @property
    def context(self) -> object:
        """The `ctx` of a handler with three parameters; made when first asked for."""

    @property
    def is_current(self) -> bool:
        """Whether the calling task is the one that carries this attempt."""

    def leave_behind(self) -> None:
        """Note that something of this attempt goes on although it was given up."""

    def answer(self, returned: object) -> Patch:
        """Turn what the handler returned into the step's patch.

        Raises:
            AgentAnswerError: it returned something that is no answer.
            InvalidValueError: what it set is not JSON.
        """


class Agent(Protocol):
    """Answers a call: a Python callable now; prompts, HTTP endpoints and others have the same shape."""

    name: str

    def invoke(self, request: Request) -> Awaitable[object]:
        """Begin the call; what the awaitable gives is what `Request.answer` takes."""


class Executor(Protocol):
    """Carries out calls: in this process, or elsewhere."""

    def begin(self, request: Request) -> Awaitable[object]:
        """Begin one attempt; the awaitable gives what `Request.answer` takes, or raises what the agent raised.

        The engine makes answers of both, so that no executor has its own idea of what an error is.
        """


class Clock(Protocol):
    """Time and chance, so that tests can hold them still."""

    def time(self) -> float:
        """Return seconds since the epoch."""

    def monotonic_of(self, loop: AbstractEventLoop) -> Callable[[], float]:
        """Return the function that tells an event loop's own time, in seconds that never go back."""

    def random(self) -> float:
        """Return a number in [0, 1)."""

    def fresh_id(self) -> str:
        """Return a new id, unique in this process and, by its random part, elsewhere."""


class Log(Protocol):
    """Where the engine says what nobody else is told: hooks that fail, late results, abandoned work."""

    def warn(self, event: str, fields: Mapping[str, object], error: BaseException | None = None) -> None:
        """Write one warning with its fields, and the traceback of `error` where given."""

    def bind(self, fields: Mapping[str, object]) -> object:
        """Return a logger for a handler, with the run and step bound."""


class Handle(Protocol):
    """What `emit` returns: the run's id, and a way to wait for it."""

    run_id: str

    async def result(self) -> RunResult:
        """Wait for the run's end and return its result."""

    def descend_from(self, root: object) -> None:
        """Count the run, and what its callbacks emit, as the offspring of another one."""


class Emitter(Protocol):
    """What hooks get as `args.runner`: something that takes events."""

    async def emit(self, event: Event) -> Handle:
        """Accept an event and return its run's handle."""
