"""Rounds: a loop runs its specs side by side, then asks what comes next. A decision is recorded like a step's answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from inspect import isawaitable
from typing import Any, TypeAlias

from agentflow.core.values import Json
from agentflow.errors import AgentAnswerError, BudgetExceededError, WorkflowError
from agentflow.ports import Request
from agentflow.workflow.session import Session
from agentflow.workflow.specs import AgentStepSpec, LoopDecision, LoopOutcome, StepOutcome, identity_parts
from agentflow.workflow.steps import OUTCOME, Job, outcome_of

Specs: TypeAlias = Iterable[AgentStepSpec]
First: TypeAlias = Specs | Callable[[int], Specs | Awaitable[Specs]]
Decide: TypeAlias = Callable[[list[StepOutcome]], LoopDecision | Awaitable[LoopDecision]]

DECIDE = "decide"


async def run_loop(session: Session, scope: str, first: First, decide: Decide, most: int) -> LoopOutcome:
    """Run at most `most` rounds; each is a barrier, and after each `decide` is asked.

    A round whose decision is recorded is over: it answers from the journal as it stands, failures included.
    """
    outcome = LoopOutcome()
    if not callable(first):
        first = list(first)
    specs = await _first(first, 1)
    async with session.working() as host:
        while specs and outcome.iterations < most:
            number = outcome.iterations + 1
            job = _decision(session.root_id, f"{scope}#{number}", decide, outcome)
            is_over = await host.recorded(job) is not None
            outcome[:] = await session.side_by_side(specs, f"{scope}#{number}/", is_final=is_over)
            outcome.iterations = number
            unrun = next((one for one in outcome if one.attempts == 0), None)
            if unrun is not None:  # stale, or denied: the round is not over
                outcome.reason = "budget" if unrun.code == BudgetExceededError.code else "error"
                outcome.error = unrun.error
                return outcome
            told = await host.perform(job)
            answer = outcome_of(AgentStepSpec(DECIDE, DECIDE), told.run_id, told.facts)
            if not answer.success:
                outcome.reason, outcome.error = "error", answer.error
                return outcome
            following = _read(answer.output)
            if following.is_stop:
                return outcome
            specs = list(following.specs) if following.specs is not None else await _first(first, number + 1)
    outcome.reason = "max_iterations" if specs else "condition_met"
    return outcome


async def _first(first: First, number: int) -> Sequence[AgentStepSpec]:
    if not callable(first):
        return list(first)
    specs = first(number)
    return list(await specs if isawaitable(specs) else specs)


def _decision(root_id: str, place: str, decide: Decide, outcomes: Sequence[StepOutcome]) -> Job:
    async def call(request: Request) -> Mapping[str, Json]:
        given: object = decide(list(outcomes))
        if isawaitable(given):
            given = await given
        if not isinstance(given, LoopDecision):
            raise AgentAnswerError(f"a loop's decision is {type(given).__name__}", hint="LoopDecision.stop() or LoopDecision.go_on(specs)")
        specs: Json = None if given.specs is None else [spec.to_dict() for spec in given.specs]
        return {OUTCOME: {"output": {"is_stop": given.is_stop, "specs": specs}}}

    return Job(f"{place}/{DECIDE}", DECIDE, identity_parts(root_id, AgentStepSpec(f"{place}/{DECIDE}"[-200:], DECIDE)), call)


def _read(output: Any) -> LoopDecision:
    specs = output.get("specs")
    return LoopDecision(output["is_stop"], None if specs is None else tuple(AgentStepSpec.from_dict(row) for row in specs))


def checked_bound(most: object) -> int:
    """Return a loop's bound.

    Raises:
        WorkflowError: it is no whole number >= 1.
    """
    if type(most) is not int or most < 1:
        raise WorkflowError(f"max_iterations is {most!r}", hint="a loop needs a bound: a whole number >= 1")
    return most
