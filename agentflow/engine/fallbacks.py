"""Fallbacks: what answers a step whose agent has failed for good: other agents in order, then its default output."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agentflow.core.failure import Failure, failure_of
from agentflow.core.plan import Call
from agentflow.core.records import FallbackTaken, StepDegraded
from agentflow.core.state import Patch
from agentflow.core.values import copy_json
from agentflow.engine.contracts import check_answer
from agentflow.engine.step import Step
from agentflow.errors import AgentAnswerError, AttemptLimitError

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine


def fall_back(engine: Engine, step: Step, failure: Failure) -> bool:
    """Let the next agent of a step's fallback chain try; False when there is none, or not for this failure.

    It has the retries, the time limit and the gate of its own, and begins with them anew.
    """
    following = _next_of(step, failure)
    while following is not None and (denial := engine.budgets.again(step, following, failure)) is not None:
        step.failure = denial
        step.fallbacks += 1  # the budget may be that agent's own
        following = _next_of(step, failure)
    if following is None or step.frame is None:
        return False
    run, agent = step.run, step.agent.name
    step.fallbacks += 1
    told = FallbackTaken(step.position, step.frame.node.agent, following.agent, step.fallbacks, step.attempt, failure, step.take_usage())  # type: ignore[union-attr]
    engine.teller.tell(run, told)
    engine.teller.say("fallback", {"run_id": run.run_id, "position": step.position, "agent": agent, "to": following.agent})
    act_as(engine, step, following)
    step.failure = step.correction = None
    step.failures = 0
    run.extra += 1
    engine.teller.started(run, step.frame, step.attempt + 1)
    if run.journal is not None:
        step.gate = run.journal.commit()
    return True


def act_as(engine: Engine, step: Step, call: Call) -> None:
    """Let another agent answer a step from now on."""
    step.acting = call
    step.agent = engine.agents[call.agent]
    step.limit_s = call.timeout_s if step.run.step_limit_s is None else min(step.run.step_limit_s, call.timeout_s)


def degrade(step: Step, failure: Failure) -> bool:
    """Answer a step that has failed with its default output; the run is degraded once the step is settled."""
    frame = step.frame
    policy = None if frame is None else frame.node.policy  # type: ignore[union-attr] # only calls become ready
    if frame is None or policy is None or policy.default_output is None or failure.code == "cancelled":
        return False
    failure = replace(failure, attempts=step.attempt).at(agent=frame.node.agent, position=step.position, stage=frame.stage)  # type: ignore[union-attr]
    answer = Patch(copy_json(dict(policy.default_output)), is_removing=False)  # type: ignore[arg-type]
    try:
        check_answer(step, answer, frame.node)  # type: ignore[arg-type]
    except AgentAnswerError as error:
        step.failure = failure_of(error, attempts=step.attempt)  # it is no answer here
        return False
    step.failure, step.degraded, step.answered = None, failure, answer
    return True


def settle_degraded(engine: Engine, step: Step) -> None:
    """Tell that the answer that a step is about to give is its default output, so that both are recorded or neither."""
    failure, run = step.degraded, step.run
    if failure is None:
        return
    step.degraded = None
    engine.teller.tell(run, StepDegraded(step.position, failure.agent, failure))
    run.walk.degrade(failure)
    if "degraded" not in run.flags:
        run.flags = (*run.flags, "degraded")


def has_fallback(step: Step, failure: Failure) -> bool:
    """Say whether another agent would try after this failure."""
    return _next_of(step, failure) is not None


def exhausted(step: Step, failure: Failure) -> Failure:
    """Return what a step fails with that is not tried again because its run has done that too often."""
    told = f"the run has made {step.run.extra} attempts because others had failed, and makes no more: {failure.type}: {failure.message}"
    return failure_of(AttemptLimitError(told, hint="raise max_total_attempts, or find out why so many fail"), attempts=step.attempt)


def _next_of(step: Step, failure: Failure) -> Call | None:
    policy = None if step.frame is None else step.frame.node.policy  # type: ignore[union-attr] # only calls become ready
    if policy is None or step.fallbacks >= len(policy.fallback):
        return None
    if policy.fallback_on is not None and {*failure.kinds, failure.code}.isdisjoint(policy.fallback_on):
        return None
    return policy.fallback[step.fallbacks]
