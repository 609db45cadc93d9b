"""Hooks: user code around events and agent runs. Six points, callbacks in order of registration, verified when registered."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from agentflow.core.event import Event
from agentflow.core.result import AgentResult, RunResult
from agentflow.core.state import State
from agentflow.errors import AgentAnswerError, RegistrationError, did_you_mean

if TYPE_CHECKING:
    from agentflow.engine.lineage import Offspring


class Hook(Enum):
    """The points at which callbacks run; ALL stands for each of the others, after their own callbacks."""

    BEFORE_EVENT_HANDLING = "before_event_handling"
    AFTER_EVENT_HANDLING = "after_event_handling"
    BEFORE_AGENT_RUN = "before_agent_run"
    AFTER_AGENT_RUN = "after_agent_run"
    AGENT_ERROR = "agent_error"
    ALL = "all"


@dataclass(slots=True)
class HookArgs:
    """What a callback gets.

    Attributes:
        hook: the point at which it runs (never ALL).
        event: the event of the run.
        state: what the agent sees or has left; writing to it counts, a State returned replaces it.
        runner: the runner; a callback may emit on it.
        run_id: the run's id.
        agent: the agent's name at agent hooks, "" at event hooks.
        position: the step's position at agent hooks.
        attempt: the number of attempts made so far, at agent hooks.
        result: at AFTER_AGENT_RUN the AgentResult (with duration_s and attempts), at AFTER_EVENT_HANDLING the RunResult.
        error: at AGENT_ERROR, and at AFTER_EVENT_HANDLING of a failed run, the exception.
    """

    hook: Hook
    event: Event
    state: State
    runner: Offspring
    run_id: str
    agent: str = ""
    position: str = ""
    attempt: int = 0
    result: AgentResult | RunResult | None = None
    error: BaseException | None = None


Callback: TypeAlias = Callable[[HookArgs], "Awaitable[State | None] | State | None"]

_RIGHT = "async def callback(args): ..."


class Hooks:
    """The callbacks of one runner.

    `has_agent_hooks` and `has_event_hooks` let a run without any pay nothing.
    """

    def __init__(self) -> None:
        self._table: dict[Hook, tuple[tuple[str, Callback], ...]] = dict.fromkeys(Hook, ())
        self.has_agent_hooks = False
        self.has_event_hooks = False

    def register(self, hook: Hook, name: str, callback: Callback) -> None:
        """Add a callback behind those of its hook.

        Raises:
            RegistrationError: unknown hook, empty or taken name, or something that does not take one argument.
        """
        if not isinstance(hook, Hook):
            raise RegistrationError(f"unknown hook {hook!r}", hint=did_you_mean(str(hook), (f"Hook.{known.name}" for known in Hook)))
        if type(name) is not str or not name:
            raise RegistrationError(f"a callback of {hook.name} needs a non-empty name, got {name!r}")
        if any(name == taken for taken, _ in self._table[hook]):
            raise RegistrationError(f"a callback named `{name}` is already registered on {hook.name}", hint="names are unique on each hook")
        _check(hook, name, callback)
        self._table[hook] = (*self._table[hook], (name, callback))
        self._refresh()

    def unregister(self, hook: Hook, name: str) -> None:
        """Remove a callback by name.

        Raises:
            RegistrationError: there is none of that name on the hook.
        """
        kept = tuple(entry for entry in self._table[hook] if entry[0] != name)
        if len(kept) == len(self._table[hook]):
            raise RegistrationError(f"no callback named `{name}` on {hook.name}", hint=did_you_mean(name, (entry[0] for entry in kept)))
        self._table[hook] = kept
        self._refresh()

    def of(self, hook: Hook) -> tuple[tuple[str, Callback], ...]:
        """Return the callbacks that run at a point, in order: its own, then those of ALL."""
        return self._table[hook] + self._table[Hook.ALL]

    def _refresh(self) -> None:
        table = self._table
        self.has_agent_hooks = any(table[hook] for hook in (Hook.BEFORE_AGENT_RUN, Hook.AFTER_AGENT_RUN, Hook.AGENT_ERROR, Hook.ALL))
        self.has_event_hooks = any(table[hook] for hook in (Hook.BEFORE_EVENT_HANDLING, Hook.AFTER_EVENT_HANDLING, Hook.ALL))


async def call(callback: Callback, args: HookArgs) -> bool:
    """Run one callback; a State it returns replaces `args.state`. Say whether it returned one.

    Raises:
        AgentAnswerError: it returned something else.
        BaseException: whatever the callback raises.
    """
    returned: object = callback(args)
    if inspect.isawaitable(returned):
        returned = await returned
    if returned is None:
        return False
    if not isinstance(returned, State):
        told = f"a callback of {args.hook.name} returned {type(returned).__name__}"
        raise AgentAnswerError(told, hint="return args.state, another State, or None")
    args.state = returned
    return True


def _check(hook: Hook, name: str, callback: object) -> None:
    if not callable(callback) or inspect.isclass(callback):
        raise RegistrationError(f"callback `{name}` of {hook.name} is {callback!r}, not a function", hint=f"right: {_RIGHT}")
    try:
        signature = inspect.signature(callback)
    except (TypeError, ValueError):
        return  # a builtin without a signature: it is tried as it is
    try:
        signature.bind(object())
    except TypeError:
        told = getattr(callback, "__name__", type(callback).__name__)
        raise RegistrationError(
            f"callback `{name}` of {hook.name} does not take exactly one argument\n  wrong: def {told}{signature}\n  right: {_RIGHT}"
        ) from None
