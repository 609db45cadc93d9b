"""Stub agents: run a configuration without its real handlers, and see who ran, in which order, on which state."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agentflow.core.event import Event
from agentflow.core.state import State
from agentflow.engine.context import Context
from agentflow.errors import RegistrationError, did_you_mean
from agentflow.runner import Runner


@dataclass(frozen=True, slots=True)
class StubCall:
    """One attempt of one step, as it was when it began.

    Attributes:
        agent: the agent's name.
        position: the step's position in the plan.
        attempt: its number, from 1.
        event: the event it was given.
        state: a copy of the data it saw.
        meta: a copy of the state's metadata.
    """

    agent: str
    position: str
    attempt: int
    event: Event
    state: dict[str, Any]
    meta: dict[str, str]


class StubCalls(list[StubCall]):
    """The calls so far, in the order in which they began."""

    @property
    def agents(self) -> list[str]:
        """The names of the agents, in the order in which their calls began."""
        return [call.agent for call in self]

    def of(self, agent: str) -> list[StubCall]:
        """Return the calls of one agent."""
        return [call for call in self if call.agent == agent]


def stub_agents(runner: Runner, answers: Mapping[str, object] | None = None) -> StubCalls:
    """Give every agent of a runner's configuration a stub for a handler, in place of its own if it has one.

    An agent without an answer leaves the state as it is. Call it before the runner starts.

    Args:
        runner: the runner.
        answers: by agent, what its handler returns: None, a mapping, a State, an AgentResult. An exception is raised; a
            function `(event, state)`, sync or async, is called; a list holds one of these a call, the last for all further ones.

    Returns:
        The list to which each call is added when it begins.

    Raises:
        RegistrationError: an answer for an agent that the runner does not know, or an empty list.
    """
    answers = answers or {}
    configured = runner._project.config.agents  # noqa: SLF001 - agents without a handler are no part of the runner's surface
    names = tuple(dict.fromkeys((*configured, *runner.agents)))
    calls = StubCalls()
    for name, answer in answers.items():
        if name not in names:
            raise RegistrationError(f"no agent named `{name}` to be stubbed", hint=did_you_mean(name, names))
        if isinstance(answer, list) and not answer:
            raise RegistrationError(f"the list of answers for agent `{name}` is empty")
    for name in names:
        runner.register_agent(name, _stub(name, answers.get(name), calls), replace=True)
    return calls


def _stub(name: str, answer: object, calls: StubCalls) -> Callable[..., Any]:
    waiting = list(answer) if isinstance(answer, list) else [answer]

    async def stub(event: Event, state: State, ctx: Context) -> object:
        calls.append(StubCall(name, ctx.position, ctx.attempt, event.view_with(event.data), dict(state.clone()), dict(state.meta)))
        told = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if isinstance(told, BaseException):
            raise told
        if not callable(told):
            return told
        returned = told(event, state)
        return await returned if inspect.isawaitable(returned) else returned

    return stub
