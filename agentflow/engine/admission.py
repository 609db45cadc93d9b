"""Admission: what stands between a step and an attempt of its agent: the cache, the budget, the agent's gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentflow.core.answered import Answered
from agentflow.core.frame import Frame
from agentflow.core.outcome import Answer
from agentflow.core.plan import Call
from agentflow.core.records import AnswerReused
from agentflow.core.state import Patch
from agentflow.engine.fallbacks import settle_degraded
from agentflow.engine.step import START, Phase, Step
from agentflow.errors import CircuitOpenError

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine


def police(engine: Engine, step: Step, frame: Frame) -> None:
    """Prepare a call that may have a policy, a budget or a gate, or stand in a flow with a time limit."""
    run, node = step.run, frame.node
    assert isinstance(node, Call)  # noqa: S101 - only calls become ready
    if run.program.has_inner_limits:
        engine.supervision.time_flows_above(run, frame)
    step.begin_anew()
    if (
        node.policy is not None
        or run.program.has_budgets
        or node.agent in engine.gates
        or run.program.has_contracts
        or frame.hands_on
        or frame.given is not None
    ):
        step.is_policed = True
        step.phase = START
        if node.policy is not None and node.policy.is_background:
            engine.families.background(step)


def settled(engine: Engine, step: Step, answer: Answer) -> Answer:
    """Return what the walk is to be told of a policed step that has ended: with the messages that its agent has sent."""
    settle_degraded(engine, step)
    if not step.sent or not isinstance(answer, Patch):
        return answer
    return Answered(answer, answer.same if isinstance(answer, Answered) else {}, step.sent)


async def admit(engine: Engine, step: Step) -> Phase:
    """Let an attempt begin: not at all when it was made before, else when its agent has a place for it."""
    denial = engine.budgets.denial_of(step)
    if denial is not None:
        step.failure = denial
        return Phase.JUDGE
    policy = step.call.policy
    if policy is not None and policy.cache_s is not None:
        answer = engine.cache.recall(step)
        if answer is not None:
            engine.budgets.release(step)
            engine.teller.tell(step.run, AnswerReused(step.position, step.name))
            step.answered = answer
            return Phase.AFTER
    gate = engine.gates.get(step.agent.name)
    if gate is None:
        return Phase.ATTEMPT
    turn = step.turn
    try:
        passed = await gate.enter()
    except BaseException as error:  # noqa: BLE001 - also a cancellation: what it is for stands in `step.cause`
        if step.turn == turn:
            step.failure = step.failed(error)
            if step.cause is None:  # else it is charged, as any other attempt that is cut
                engine.budgets.release(step)
        return Phase.JUDGE
    if step.is_left(turn):
        gate.leave(passed, is_ok=None, duration_s=0.0)
        return Phase.DONE
    step.passed = gate, passed
    return Phase.ATTEMPT


def is_shut_out(engine: Engine, step: Step) -> bool:
    """Say whether one more attempt is of no use, because the breaker of the step's agent is open."""
    gate = engine.gates.get(step.agent.name)
    try:
        if gate is not None:
            gate.check()
    except CircuitOpenError:
        return True
    return False


def dismiss(engine: Engine, step: Step, *, is_ok: bool | None) -> None:
    """Give back what a step's attempt holds, however it ended; None says that nothing is known of its agent's health."""
    if step.passed is not None:
        (gate, passed), step.passed = step.passed, None
        gate.leave(passed, is_ok=is_ok, duration_s=engine.monotonic() - step.started)
    engine.budgets.settle(step, is_lost=is_ok is None)
