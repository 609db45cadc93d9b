"""Steps: how a workflow's steps become calls of the engine: its agents, what they are given, and what is read back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import isawaitable
from typing import Any, Protocol

from agentflow.core import records as facts
from agentflow.core.event import Event
from agentflow.core.failure import Failure
from agentflow.core.packing import number
from agentflow.core.result import Usage
from agentflow.core.values import Json
from agentflow.engine.context import Context
from agentflow.errors import AgentAnswerError, BudgetExceededError, MaxStepsError, StepReportedError
from agentflow.ports import Request
from agentflow.workflow.specs import AgentStepSpec, StepOutcome, digest_of, identity_parts

OUTCOME = "outcome"  # the key of a step's patch under which its answer is recorded
TOOL_ROUND = "tool_round"
_PLAIN = re.compile(r"[A-Za-z0-9_.:#\[\]/-]{1,96}")

Call = Callable[[Request], Awaitable[Mapping[str, Json]]]
StepEvents = Callable[[str, Mapping[str, Any]], None]


class AgentExecutor(Protocol):
    """Runs steps, wherever it likes. `concurrency_hint`, where it has one, bounds how many run at once (default 8)."""

    async def execute_step(self, spec: AgentStepSpec, emit: Emit) -> object:
        """Run a step and return its StepOutcome, or its output alone. What it raises fails the step."""


class Emit:
    """What an executor tells of its step while it runs, and what it may know of it: `emit({"type": "tool_round", ...})`.

    Attributes:
        context: the step's context: `attempt`, `idempotency_key`, `once`, `checkpoint`, `log`, `run_id`.
    """

    def __init__(self, spec: AgentStepSpec, context: Context, listener: StepEvents | None) -> None:
        self.context = context
        self._spec = spec
        self._listener = listener
        self.rounds = 0

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Pass an event on to the workflow's `step_events`. One of type `tool_round` counts against `max_steps`.

        Raises:
            MaxStepsError: the step has made more tool rounds than it may.
        """
        if event.get("type") == TOOL_ROUND:
            self.rounds += 1
            self.check()
        if self._listener is not None:
            self._listener(self._spec.task_id, event)

    def check(self) -> None:
        """Refuse to go on when there were too many tool rounds.

        Raises:
            MaxStepsError: there were.
        """
        most = self._spec.max_steps
        if most is not None and self.rounds > most:
            raise MaxStepsError(f"max_steps exceeded: {self._spec.task_id} made more than {most} tool rounds")


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of work that is recorded in a run of its own.

    Attributes:
        key: names it in its workflow: scopes and task id.
        agent: who does it.
        parts: what makes it the work it is.
        call: does it, and returns what is recorded.
        reserve_tokens: what each attempt sets aside of the workflow's budget; None for work that is on no budget.
    """

    key: str
    agent: str
    parts: Mapping[str, Json]
    call: Call
    reserve_tokens: int | None = None

    def event(self, root_id: str, generation: int) -> Event:
        """Return the event of its run. All generations say the same: each but the last one has failed."""
        name = hashlib.sha256(f"{root_id}\n{self.key}\n{generation}".encode()).hexdigest()[:40]
        return Event(self.agent, self.parts, {"identity": digest_of(self.parts)}, id=f"step-{name}")

    def run_id(self, root_id: str, generation: int) -> str:
        """Return the id of its run: `root/key`, `root/key~2` when the first one has failed."""
        key = self.key if _PLAIN.fullmatch(self.key) else hashlib.sha256(self.key.encode()).hexdigest()[:24]
        return f"{root_id}/{key}" + (f"~{generation}" if generation > 1 else "")


def step_job(root_id: str, prefix: str, spec: AgentStepSpec, executor: AgentExecutor, listener: StepEvents | None) -> Job:
    """Return the job of a step: its executor is asked, and what it says is recorded."""

    async def call(request: Request) -> Mapping[str, Json]:
        context: Context = request.context  # type: ignore[assignment] # in this engine it is one
        prompt = request.state.get("prompt", spec.prompt)  # a hook may have changed it
        asked = spec if prompt == spec.prompt else replace(spec, prompt=prompt)
        emit = Emit(asked, context, listener)
        told: object = executor.execute_step(asked, emit)
        if isawaitable(told):
            told = await told
        if isinstance(told, StepOutcome):
            if told.tokens:
                context.record_usage(tokens=told.tokens)
            if not told.success:
                raise StepReportedError(told.error or "the executor reported a failure without a reason")
        emit.check()
        if not isinstance(told, StepOutcome):
            return {OUTCOME: {"output": told}}  # type: ignore[dict-item] # the state refuses what is not JSON
        row: dict[str, Json] = {"output": told.output}
        row |= {} if told.structured is None else {"structured": told.structured}
        return {OUTCOME: row | ({"session_id": told.session_id} if told.session_id else {})}

    return Job(prefix + spec.task_id, spec.agent, identity_parts(root_id, spec), call, spec.reserve_tokens)


class StepAgent:
    """The engine's agent for a name: it does what the run that calls it was begun for."""

    __slots__ = ("_calls", "name")

    def __init__(self, name: str, calls: Mapping[str, Call]) -> None:
        self.name = name
        self._calls = calls

    async def invoke(self, request: Request) -> object:
        """Do the work of the run that asks."""
        run_id = request.context.run_id  # type: ignore[attr-defined] # in this engine it is a Context
        call = self._calls.get(run_id)
        if call is None:
            raise AgentAnswerError(f"nobody waits for {run_id} any more", hint="resume the workflow it belongs to")
        return await call(request)


class StepAgents(Mapping[str, StepAgent]):
    """Has an agent of every name: what there is to do is known by its run."""

    def __init__(self, calls: Mapping[str, Call]) -> None:
        self._calls = calls
        self._made: dict[str, StepAgent] = {}

    def __getitem__(self, name: str) -> StepAgent:
        if name not in self._made:
            self._made[name] = StepAgent(name, self._calls)
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return type(name) is str

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


def outcome_of(spec: AgentStepSpec, run_id: str, told: Sequence[facts.Fact]) -> StepOutcome:
    """Return what a run's records say its step came to: the same whether it has just ended or ended long ago."""
    failure: Failure | None = None
    attempts, duration_s = 0, 0.0
    row: dict[str, Any] = {}
    for fact in told:
        if isinstance(fact, facts.StepStarted):
            attempts = max(attempts, fact.attempt)
        elif isinstance(fact, facts.StepCompleted):
            row, duration_s = fact.patch.values(), fact.duration_s
        elif isinstance(fact, facts.StepFailed):
            failure, duration_s = fact.failure, fact.duration_s
        elif isinstance(fact, facts.WorkflowFailed):
            failure = failure or fact.failure or Failure(fact.reason)
        elif isinstance(fact, facts.WorkflowCancelled):
            failure = failure or Failure(f"the step was cancelled: {fact.reason}")
    more = {"session_id": run_id, "attempts": attempts, "tokens": usage_of(told).total_tokens, "duration": duration_s}
    if failure is not None:
        return StepOutcome.failed(spec.task_id, spec.agent, _error_of(failure), code=failure.code, **more)
    answer = row.pop(OUTCOME, None)
    if not isinstance(answer, dict):
        answer = {"output": row}  # a hook has put another state in its place
    return StepOutcome(spec.task_id, agent=spec.agent, **{**more, **answer})


def usage_of(told: Sequence[facts.Fact]) -> Usage:
    """Return what the attempts of a run's step have used, by its records."""
    used = Usage()
    for fact in told:
        used.calls += isinstance(fact, facts.StepStarted)
        if isinstance(fact, facts.StepRetried | facts.StepCompleted | facts.StepFailed) and fact.usage:
            used.total_tokens += int(number(fact.usage.get("total_tokens", 0)))
            used.cost_usd += number(fact.usage.get("cost_usd", 0))
    return used


def _error_of(failure: Failure) -> str:
    if failure.type in (StepReportedError.__name__, MaxStepsError.__name__, BudgetExceededError.__name__):
        return failure.message
    return f"{failure.type}: {failure.message}" if failure.message else failure.type
