"""TaskExecutor: the executor in the box, which runs handlers like those of a configured flow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentflow.agents.function import FunctionAgent, Handler
from agentflow.agents.threads import Threads
from agentflow.core.result import AgentResult
from agentflow.core.state import State
from agentflow.errors import MissingHandlerError, did_you_mean
from agentflow.system import Event
from agentflow.workflow.specs import AgentStepSpec, StepOutcome
from agentflow.workflow.steps import Emit


class TaskExecutor:
    """Runs steps in this process with handlers `(event, state)` or `(event, state, ctx)`, sync or async.

    `event.data` has the spec's fields; `ctx` is the step's Emit. A handler's text is the output; what it sets on the state, or
    returns as a mapping, a State or an AgentResult, is the output as a mapping. A StepOutcome is taken as it is.

    Args:
        handlers: by agent's name.
        concurrency_hint: how many steps run at once.

    Raises:
        RegistrationError: a handler is none.
    """

    def __init__(self, handlers: Mapping[str, Handler], *, concurrency_hint: int = 8) -> None:
        self.concurrency_hint = concurrency_hint
        self._threads = Threads()
        self._agents = {name: FunctionAgent(name, handler, self._threads) for name, handler in handlers.items()}

    async def execute_step(self, spec: AgentStepSpec, emit: Emit) -> object:
        """Run a step's handler.

        Raises:
            MissingHandlerError: its agent has none.
        """
        agent = self._agents.get(spec.agent)
        if agent is None:
            raise MissingHandlerError(f"no handler for agent `{spec.agent}`", hint=did_you_mean(spec.agent, self._agents))
        data = spec.to_dict()
        request = _Task(Event(spec.agent, data), State(data), emit)
        returned: Any = await agent.invoke(request)
        if isinstance(returned, AgentResult):
            if returned.usage:
                emit.context.record_usage(**returned.usage)
            returned = returned.state
        if isinstance(returned, str | StepOutcome):
            return returned
        state = request.state if returned is None else returned
        return {key: value for key, value in state.items() if key not in data or data[key] != value}


@dataclass(slots=True)
class _Task:
    """What an agent is asked, outside an engine."""

    event: Event
    state: State
    context: Emit

    def leave_behind(self) -> None:
        """Nothing has to be noted here: the step in which it runs is left behind as a whole."""
