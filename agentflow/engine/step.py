"""Step: the engine's record of one call, from its first attempt to its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from enum import IntEnum
from math import inf
from sys import getrefcount
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from agentflow.core.answered import Message
from agentflow.core.event import Event
from agentflow.core.failure import Failure, failure_of
from agentflow.core.frame import Frame
from agentflow.core.plan import Call, name_of
from agentflow.core.result import AgentResult, Usage
from agentflow.core.state import Patch, State
from agentflow.core.values import Json
from agentflow.engine.context import Context
from agentflow.engine.gates import Gate, Pass
from agentflow.engine.seldom import Seldom
from agentflow.errors import AgentAnswerError
from agentflow.ports import Agent

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine
    from agentflow.engine.run import Run


class Phase(IntEnum):
    """Where a step stands. Each phase but NEW and DONE runs user code or waits, and may be interrupted."""

    NEW = 0
    BEFORE_EVENT = 1
    BEFORE = 2
    ATTEMPT = 3
    JUDGE = 4
    WAIT = 5
    ERROR = 6
    AFTER = 7
    DONE = 8
    AFTER_EVENT = 9
    ADMIT = 10
    START = 11  # as NEW, of a step that is admitted to each attempt


LONGEST_CORRECTION = 8000  # characters of an error that the next attempt is told

# An enum's member costs a descriptor call each time it is looked up; the hot path uses these.
NEW, START, ADMIT, ATTEMPT, WAIT = Phase.NEW, Phase.START, Phase.ADMIT, Phase.ATTEMPT, Phase.WAIT


def _references_of_an_unkept_event() -> int:
    """Count as `Engine._carry` does, so that the figure holds on any Python: what is above it, somebody else keeps."""
    holder = SimpleNamespace(event=Event())
    event = holder.event
    return getrefcount(event)


UNKEPT = _references_of_an_unkept_event()


class Step:
    """One call of a run. All that belongs to it is kept here, nothing on a task's stack: a fresh task can go on with it.

    A step with no frame stands for the event hooks of the run.
    """

    __slots__ = (
        "agent",
        "answered",
        "attempt",
        "begun",
        "cause",
        "changed",
        "due",
        "engine",
        "event",
        "failure",
        "failures",
        "frame",
        "gate",
        "injected",
        "is_gated",
        "limit_s",
        "phase",
        "place",
        "run",
        "started",
        "state",
        "task",
        "turn",
        "used",
    )

    stage = Seldom(0)  # how often it was cancelled
    rest_s = Seldom["float | None"](None)  # what is left of a wait between attempts that another process began
    effects = Seldom["dict[tuple[str, str], Json] | None"](None)  # what `ctx.once` has done, by position and key
    is_policed = Seldom(first=False)  # it is admitted to each attempt
    passed = Seldom[tuple[Gate, Pass] | None](None)  # what its attempt holds of its agent's gate
    acting = Seldom[Call | None](None)  # the call of its fallback chain that is made in its place
    fallbacks = Seldom(0)  # how far it is down that chain
    correction = Seldom[Failure | None](None)  # what the next attempt is told
    degraded = Seldom[Failure | None](None)  # why its answer is its default output
    cache_key = Seldom("")
    repeated = Seldom[Mapping[str, object]]({})  # what its agent has answered, of what the state had before, too
    sent = Seldom[tuple[Message, ...]](())  # what the attempt has sent to its peers
    emitted = Seldom["tuple[Run, ...]"](())  # the runs of what it has emitted, which are accepted when it is done
    worked_s = Seldom(0.0)  # how long the attempts took whose usage is still to be told

    run: Run
    frame: Frame | None
    agent: Agent
    state: State
    begun: float
    started: float

    def __init__(self, engine: Engine, run: Run, frame: Frame | None, limit_s: float) -> None:
        self.engine = engine
        self.run = run
        self.frame = frame
        self.limit_s = limit_s
        self.phase = NEW
        self.turn = 0  # raised when a fresh task takes over, so that the old one's late answer is refused
        self.attempt = 0
        self.cause: object = None  # why it is being interrupted
        self.due = inf
        self.place: float | None = None
        self.task: asyncio.Task[None] | None = None
        self.failure: Failure | None = None
        self.answered: Patch | None = None
        self.injected: Patch | None = None
        self.gate: asyncio.Future[None] | None = None  # the commit that says it begins: nothing is done before
        self.is_gated = False  # its task waits for that commit, and sees by itself what happens meanwhile: it must not be cancelled
        self.failures = 0  # attempts that failed; those that a crash ended are not among them
        self.used: Usage | None = None  # by the attempt at hand
        self.changed: dict[str, Any] | None = None
        self.event: Event = run.event.view()
        if run._step is None:  # noqa: SLF001 - what `open` does, a call less
            run._step = self  # noqa: SLF001
        else:
            run.open(self)

    @property
    def position(self) -> str:
        """The step's position in its plan, "" for event hooks."""
        return self.frame.position if self.frame is not None else ""

    @property
    def name(self) -> str:
        """The agent or flow that the plan names, whoever of its fallback chain answers."""
        return self.agent.name if self.frame is None or self.acting is None else name_of(self.frame.node)

    @property
    def call(self) -> Call:
        """The plan's node of this step."""
        assert self.frame is not None  # noqa: S101 - event hooks have no call
        node = self.acting or self.frame.node
        assert isinstance(node, Call)  # noqa: S101 - only calls become ready
        return node

    @property
    def is_current(self) -> bool:
        """Whether the calling task is the one that carries this step."""
        try:
            return asyncio.current_task() is self.task
        except RuntimeError:  # the loop is gone, and its coroutines are being thrown away
            return False

    def is_left(self, turn: int) -> bool:
        """Say whether what was begun in a turn no longer counts: the step is interrupted, or another task goes on with it."""
        return self.turn != turn or self.cause is not None

    @property
    def is_cancelled_outside(self) -> bool:
        """Whether somebody else cancelled the task, e.g. a loop that shuts down; a handler may raise the same by itself."""
        if self.failure is None or self.failure.type != "CancelledError":
            return False
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    @property
    def context(self) -> Context:
        """The `ctx` of this attempt."""
        return Context(self)

    def spend(self, **figures: Any) -> None:
        """Add to what the run, and this attempt of it, have used.

        Raises:
            InvalidValueError: a figure is negative or no number.
        """
        self.run.usage.add(**figures)
        if self.used is None:
            self.used = Usage()
        self.used.add(**figures)

    def take_usage(self) -> dict[str, Json] | None:
        """Return what the attempt has used, as records have it, and begin anew."""
        used, self.used = self.used, None
        told: dict[str, Json] = {}
        if used is not None:
            told = {name: figure for name, figure in used.to_dict().items() if figure and name != "calls"}
        if self.worked_s:  # a budget counts it
            told["seconds"], self.worked_s = round(self.worked_s, 6), 0.0
        return told or None

    def begin_anew(self) -> None:
        """Forget what belonged to the call before this one in the line."""
        for name in ("acting", "fallbacks", "correction", "degraded", "cache_key", "is_policed", "repeated", "sent"):
            if self.changed is not None:
                self.changed.pop(name, None)

    def drop_mail(self) -> None:
        """Forget what an attempt has sent and emitted: it has failed, or another one begins."""
        if self.changed is not None:
            self.changed.pop("sent", None)
            self.changed.pop("emitted", None)

    @property
    def input(self) -> Event:
        """A fresh view of what the attempt is given: the event, or what its call gets in its place, and what is to be corrected."""
        event = self.run.event
        given = None if self.frame is None else self.frame.given
        view = event.view() if given is None else event.view_with(given)
        if self.correction is None:
            return view
        text = f"{self.correction.type}: {self.correction.message}"
        if len(text) > LONGEST_CORRECTION:
            text = f"{text[:LONGEST_CORRECTION]}… ({len(text) - LONGEST_CORRECTION} characters more)"
        told: dict[str, Json] = {"attempt": self.correction.attempts, "error": text}
        return event.view_with({**view.data, "correction": told})

    def leave_behind(self) -> None:
        """Note that something of this attempt goes on although it was given up."""
        run = self.run
        if "abandoned" not in run.flags:
            run.flags = (*run.flags, "abandoned")

    def answer(self, returned: object) -> Patch:
        """Turn what a handler returned into the step's patch.

        Raises:
            AgentAnswerError: it is no State, mapping, AgentResult or None.
            InvalidValueError: what it set is not JSON.
        """
        state = self.state
        route: str | None = None
        if returned is not None and returned is not state:
            if isinstance(returned, AgentResult):
                route = returned.route
                state = self._take(returned.state)
                if returned.metadata:
                    state.meta.update(returned.metadata)
                if returned.usage:
                    self.spend(**returned.usage)
            else:
                state = self._take(returned)
        patch = state.patch_to(self.frame.scope)  # type: ignore[union-attr]
        patch.route = route
        if patch.meta is not None:
            patch.take_route()
        return patch

    def failed(self, error: BaseException) -> Failure:
        """Turn what a handler raised into the step's failure.

        Raises:
            GeneratorExit: the coroutine is being thrown away with its loop; nobody waits for the answer.
        """
        if isinstance(error, GeneratorExit) and not self.is_current:
            raise error
        return failure_of(error)

    def _take(self, returned: object) -> State:
        state = self.state
        if returned is None or returned is state:
            return state
        if isinstance(returned, State):
            return returned
        if isinstance(returned, Mapping):
            own = state._own  # noqa: SLF001 - an entry that is the state's own already needs no second look
            for key, value in returned.items():
                if own.get(key) is not value or value is None:
                    state[key] = value
            return state
        raise AgentAnswerError(
            f"agent `{self.agent.name}` returned {type(returned).__name__}", hint="return a State, a mapping, an AgentResult or None"
        )
