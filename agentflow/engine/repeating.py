"""Repeating: to begin calls that may have been begun before, in this process or in one that has died."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentflow.core.frame import Frame
from agentflow.core.plan import Call
from agentflow.core.standing import StepStanding
from agentflow.engine.fallbacks import act_as
from agentflow.engine.run import Run
from agentflow.engine.step import Phase

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine


def begin_again(engine: Engine, run: Run, frames: list[Frame]) -> None:
    """Begin calls that may have been begun before: their attempts, failures, waits and effects count on."""
    journal = run.journal
    assert journal is not None  # noqa: S101 - what is not recorded is not begun again
    if run.walk.closing:
        frames = engine.supervision.close_joins(run, frames)
        if not frames:
            return  # the joins have seen to the rest
    now, steps = engine.clock.time(), journal.standing.steps
    ready = engine.control.screen(run, frames)
    if run.program.has_budgets:
        ready = _afforded(engine, run, ready, [frame for frame in ready if _rests(steps.get(frame.position), now)])
    calls = [(frame, steps.get(frame.position)) for frame in ready]
    for frame, known in calls:
        if not _rests(known, now):
            engine.teller.started(run, frame, 1 if known is None else known.attempts + 1)
    gate = journal.commit()
    for frame, known in calls:
        rest_s = max((known.due_at or 0.0) - now, 0.0) if known is not None and _rests(known, now) else None
        step = engine.begin(run, frame, gate, None if rest_s is None else Phase.WAIT)
        if known is not None:
            step.begun = engine.monotonic() - max(now - (known.begun_at or now), 0.0)
            step.attempt = known.attempts - 1  # the one that begins now is recorded already
            step.failures = known.failures
            step.effects = {(frame.position, key): value for key, value in known.effects.items()} or None
            step.failure = known.failure if rest_s is not None else None
            step.rest_s = rest_s
            if known.fallbacks:
                step.fallbacks = known.fallbacks
                act_as(engine, step, _acting(frame, known))
            policy = step.call.policy
            if policy is not None and policy.self_correct:
                step.correction = known.failure
    engine.rest(run)


def _afforded(engine: Engine, run: Run, ready: list[Frame], resting: list[Frame]) -> list[Frame]:
    """Return the calls that the run's budgets allow; those that rest between two attempts were allowed before."""
    steps = run.journal.standing.steps  # type: ignore[union-attr] # as above
    for frame in resting:
        engine.budgets.take_up(run, frame, _acting(frame, steps.get(frame.position)))
    others = [frame for frame in ready if frame not in resting]
    return [*resting, *engine.budgets.screen(run, others, lambda frame: _acting(frame, steps.get(frame.position)))]


def _acting(frame: Frame, known: StepStanding | None) -> Call:
    """Return the call that is made at a frame: its own, or that of its fallback chain which had been taken."""
    call = frame.node
    assert isinstance(call, Call)  # noqa: S101 - only calls become ready
    return call if known is None or not known.fallbacks or call.policy is None else call.policy.fallback[known.fallbacks - 1]


def _rests(known: StepStanding | None, now: float) -> bool:
    """Say whether a step waits for its next attempt, which is recorded as begun already."""
    return known is not None and known.is_in_flight and known.due_at is not None and known.due_at > now
