"""Repeating: to begin calls that may have been begun before, in this process or in one that has died."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentflow.core.frame import Frame
from agentflow.core.standing import StepStanding
from agentflow.engine.run import Run
from agentflow.engine.step import NEW, Phase

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine


def begin_again(engine: Engine, run: Run, frames: list[Frame]) -> None:
    """Begin calls that may have been begun before: their attempts, failures, waits and effects count on."""
    journal = run.journal
    assert journal is not None  # noqa: S101 - what is not recorded is not begun again
    now, steps = engine.clock.time(), journal.standing.steps
    calls = [(frame, steps.get(frame.position)) for frame in engine.control.screen(run, frames)]
    for frame, known in calls:
        if not _rests(known, now):
            engine.teller.started(run, frame, 1 if known is None else known.attempts + 1)
    gate = journal.commit()
    for frame, known in calls:
        rest_s = max((known.due_at or 0.0) - now, 0.0) if known is not None and _rests(known, now) else None
        step = engine.begin(run, frame, gate, NEW if rest_s is None else Phase.WAIT)
        if known is not None:
            step.begun = engine.monotonic() - max(now - (known.begun_at or now), 0.0)
            step.attempt = known.attempts - 1  # the one that begins now is recorded already
            step.failures = known.failures
            step.effects = {(frame.position, key): value for key, value in known.effects.items()} or None
            step.failure = known.failure if rest_s is not None else None
            step.rest_s = rest_s
    engine.control.rest(run)


def _rests(known: StepStanding | None, now: float) -> bool:
    """Say whether a step waits for its next attempt, which is recorded as begun already."""
    return known is not None and known.is_in_flight and known.due_at is not None and known.due_at > now
