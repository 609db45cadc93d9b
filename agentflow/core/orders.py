"""Orders: what may be asked of a run from outside, and which records make it so.

Each order returns the facts to record; () where they would change nothing, as with a second answer to one request. An order
that the run's state does not allow raises, and nothing is recorded. The states and the ways between them:

    pending -> running, cancelled, failed       running -> paused, completed, failed, cancelled
    paused -> running, recovering, cancelled, failed        recovering -> running, paused, failed

A person's pause has no waiting positions, and `resume` lifts it; the engine's own pause, for lack of anything that could go
on, has them, and ends by itself when somebody answers.
"""

from __future__ import annotations

from agentflow.core import records as facts
from agentflow.core.failure import failure_of
from agentflow.core.places import frame_at
from agentflow.core.plan import Position, key_of
from agentflow.core.standing import Approval, Standing
from agentflow.errors import CancelledRunError, IllegalTransitionError

_ENDED = {facts.WorkflowCompleted: "completed", facts.WorkflowFailed: "failed", facts.WorkflowCancelled: "cancelled"}


def state_of(standing: Standing) -> str:
    """Return pending, running, paused, completed, failed or cancelled: what a run's records say of it.

    Between a take-over and what follows it a run counts as what it was before; only its row says `recovering`.
    """
    if standing.ended is not None:
        return _ENDED[type(standing.ended)]
    if standing.paused is not None:
        return "paused"
    return "running" if standing.usage.calls or standing.steps or standing.walk.is_done else "pending"


def open_approvals(standing: Standing) -> dict[Position, Approval]:
    """Return what still waits for an answer, by position."""
    return {
        position: step.approval
        for position, step in standing.steps.items()
        if step.approval is not None and not step.approval.answer and standing.ended is None
    }


def pause(standing: Standing, reason: str = "") -> tuple[facts.Fact, ...]:
    """Let no further step of a running run start; steps in flight finish.

    Raises:
        IllegalTransitionError: it is not running.
    """
    state = state_of(standing)
    if state != "running" or standing.cancelled:
        raise _refused(standing, "pause")
    return (facts.WorkflowPaused(reason),)


def resume(standing: Standing, by: str = "") -> tuple[facts.Fact, ...]:
    """Let a paused run go on.

    Raises:
        IllegalTransitionError: it is not paused, or waits for nothing but people who have not answered.
    """
    if state_of(standing) != "paused" or standing.cancelled:
        raise _refused(standing, "resume")
    if _waits_for_people(standing):
        raise _refused(standing, "resume")
    return (facts.WorkflowResumed(by),)


def cancel(standing: Standing, reason: str = "", *, is_alone: bool = False) -> tuple[facts.Fact, ...]:
    """End an open run; () when it is being cancelled already.

    Args:
        standing: the run.
        reason: what for.
        is_alone: nobody runs it, so nothing has to be ended first: the end is recorded too. Else its owner records it, once
            its steps and its last hooks have ended.

    Raises:
        IllegalTransitionError: it has ended, or all its steps have.
    """
    if standing.ended is not None or (standing.walk.is_done and not standing.cancelled):
        raise _refused(standing, "cancel")
    reason = standing.cancelled or reason or "cancelled"
    told: list[facts.Fact] = []
    if not standing.cancelled:
        told.append(facts.FlowCut("", failure_of(CancelledRunError(f"the run was cancelled: {reason}")), reason))
    if is_alone:
        told.append(facts.WorkflowCancelled(reason))
    return tuple(told)


def approve(
    standing: Standing, place: str, by: str = "", note: str = "", *, digest: str | None = None, at: float | None = None
) -> tuple[facts.Fact, ...]:
    """Let a step run that waits for a person; () when it does not wait, or was answered before.

    Args:
        standing: the run.
        place: the step's position, or its id or agent where only one such step waits.
        by: who says so.
        note: what else they say.
        digest: what they saw when they decided; None does not ask.
        at: now, in seconds since the epoch; None does not ask whether the deadline is over.

    Raises:
        IllegalTransitionError: several steps of that agent wait; something else is waiting there than what was seen; or the
            deadline is over, which is a rejection that the run's owner records.
    """
    position = _waiting_at(standing, place, "approve")
    if position is None:
        return ()
    approval = open_approvals(standing)[position]
    if digest is not None and digest != approval.digest:
        raise _refused(standing, "approve", f"look again: what waits at {position} now is {approval.digest}")
    if at is not None and approval.deadline_at is not None and at >= approval.deadline_at:
        raise _refused(standing, "approve", f"the deadline at {position} is over, which is a rejection; resume the run to go on")
    return (facts.ApprovalGranted(position, by, note),)


def reject(standing: Standing, place: str, by: str = "", reason: str = "") -> tuple[facts.Fact, ...]:
    """Fail a step that waits for a person; () when it does not wait, or was answered before. `place` as in `approve`.

    Raises:
        IllegalTransitionError: several steps of that agent wait.
    """
    position = _waiting_at(standing, place, "reject")
    return () if position is None else (facts.ApprovalRejected(position, by, reason),)


def _waiting_at(standing: Standing, place: str, order: str) -> Position | None:
    waiting = open_approvals(standing)
    if place in waiting:
        return place
    found = [position for position in waiting if place in _names_at(standing, position)]
    if len(found) > 1:
        raise _refused(standing, order, f"{len(found)} steps of {place} wait; name a position: {', '.join(found)}")
    return found[0] if found else None


def _names_at(standing: Standing, position: Position) -> tuple[str, ...]:
    """Return the names by which a step may be meant: its agent's, and its id in its flow."""
    frame = frame_at(standing.walk, position)
    agent = standing.steps[position].agent
    return (agent,) if frame is None else (agent, key_of(frame.node))


def _refused(standing: Standing, order: str, hint: str = "") -> IllegalTransitionError:
    return IllegalTransitionError(standing.run_id, state_of(standing), order, hint or f"allowed: {_allowed(standing)}")


def _allowed(standing: Standing) -> str:
    """Return what may be asked of a run as it stands, in words."""
    state = state_of(standing)
    if standing.ended is not None:
        return "nothing but to read, fork or retry it"
    if standing.cancelled:
        return "nothing: it is being cancelled"
    if standing.walk.is_done:
        return "nothing: its last step is done"
    waiting = open_approvals(standing)
    answers = [f"approve or reject {', '.join(waiting)}"] if waiting else []
    orders = ["pause"] if state == "running" else ["resume"] if state == "paused" and not _waits_for_people(standing) else []
    return ", ".join([*orders, *answers, "cancel"])


def _waits_for_people(standing: Standing) -> bool:
    """Say whether a paused run waits for nothing but answers that nobody has given."""
    waiting = open_approvals(standing)
    return bool(standing.waiting) and all(position in waiting for position in standing.waiting)
