"""Forking: a new run that has done what another one had done, and goes on from there by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from agentflow.core import records as facts
from agentflow.core.outcome import COMPENSATION, HANDLER
from agentflow.core.places import is_below
from agentflow.core.plan import Node
from agentflow.core.replay import Fit, event_of, fit
from agentflow.core.state import Patch, State
from agentflow.engine.copying import created_again, record_copy
from agentflow.engine.history import Recorded
from agentflow.engine.program import Program
from agentflow.engine.run import Run
from agentflow.errors import JournalDamagedError, PlanMismatchError

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine

# What is the old run's own: how it paused, was taken over, and ended.
_NOT_COPIED = (
    facts.WorkflowCreated,
    facts.WorkflowPaused,
    facts.WorkflowResumed,
    facts.WorkflowRecovering,
    facts.WorkflowCompleted,
    facts.WorkflowFailed,
    facts.WorkflowCancelled,
)
_APPROVAL = (facts.ApprovalRequested, facts.ApprovalGranted, facts.ApprovalRejected)
_ANSWERS = (facts.StepCompleted, facts.StepFailed, facts.FlowCut, facts.JoinClosed)


async def fork(engine: Engine, recorded: Recorded, program: Program | None, changes: State | None, *, is_again: bool) -> Run:
    """Record a new run that begins with another one's records, and go on with it.

    Args:
        engine: what goes on with it.
        recorded: the other run's records.
        program: what it walks; None takes the plan that was recorded.
        changes: keys of the state to set before it goes on.
        is_again: where the other run has failed, leave out the failures that ended it, so that their steps begin again.

    Raises:
        PlanMismatchError: what was done does not fit the program's plan.
        JournalDamagedError, StoreError: a journal cannot be read or written.
    """
    journals = engine.journals
    created, old = recorded.created, recorded.row
    if journals is None:
        raise JournalDamagedError(old.run_id, None, "is nowhere recorded")
    walked = program or await engine.recovery.program_of(old.run_id, recorded.plan_hash)
    plan_hash, plan = journals.plan_of(walked)
    event_id = f"event-{engine.clock.fresh_id()}"
    created = created_again(created, old.run_id, event_id, plan_hash, walked.flow.mode)
    ending = recorded.records[-1].fact if is_again else None
    fitted = _fitted(walked.plan, created, [record.fact for record in recorded.records[1:]], ending)
    if fitted.unfit and program is None:
        raise JournalDamagedError(old.run_id, None, f"{fitted.unfit[0][0]}: {fitted.unfit[0][1]}")
    if fitted.unfit:
        raise PlanMismatchError(old.run_id, [f"{position}: {why}" for position, why in fitted.unfit])
    told = fitted.told[1:]
    if changes is not None:
        told.append(facts.EventPatched("fork", Patch(dict(changes.to_dict()["data"]), is_removing=False)))
    row = await record_copy(journals.store, engine.clock, created, told, owner=journals.owner, plan=(plan_hash, plan))
    (run,) = engine.recovery.take_over([row])
    return run


def _fitted(plan: Node, created: facts.WorkflowCreated, told: Sequence[facts.Fact], ending: facts.Fact | None) -> Fit:
    """Return what a fork takes over of what happened to a run; `ending` is how the run failed, None to take it as it is."""
    event = event_of("", created)
    told = _without_discarded(told)
    whole = fit("", plan, event, [created, *_copied(told)])
    if not isinstance(ending, facts.WorkflowFailed) or not (whole.unfit or whole.standing.walk.is_done):
        return whole
    for left_out, some in _without_failures(told, ending):
        found = fit("", plan, event, [created, *_copied(some, left_out)])
        if not found.unfit and not found.standing.walk.is_done:
            return found
    return whole


def _without_failures(told: Sequence[facts.Fact], ending: facts.WorkflowFailed) -> Iterator[tuple[frozenset[str], Sequence[facts.Fact]]]:
    """Yield what may be left of a run that failed, the most first, each with the positions whose answers are not in it.

    Several branches may have failed a parallel flow together: all of them begin again, or only the last, when what came after
    the others builds on that they had failed. A run that failed by itself begins again at its last step.
    """
    told = [fact for fact in told if getattr(fact, "position", "")[:1] not in (HANDLER, COMPENSATION)]  # these came of the failure
    above = "" if ending.failure is None else ending.failure.position or ""
    answers = [fact for fact in told if isinstance(fact, _ANSWERS) and fact.position]
    failures = [fact for fact in answers if not isinstance(fact, facts.StepCompleted) and is_below(fact.position, above)]
    for guilty in (failures, failures[-1:]):
        if guilty:
            dropped = {id(fact) for fact in guilty}
            yield frozenset(fact.position for fact in guilty), [fact for fact in told if id(fact) not in dropped]
    for last in (failures or answers)[-1:]:
        yield frozenset({last.position}), told[: next(at for at, fact in enumerate(told) if fact is last)]


def _without_discarded(told: Sequence[facts.Fact]) -> Sequence[facts.Fact]:
    """Leave out what the run itself did not count any more once it had moved to another plan."""
    for at, fact in reversed(list(enumerate(told))):
        if isinstance(fact, facts.PlanMoved):
            discarded = frozenset(fact.discarded)
            before = [one for one in _without_discarded(told[:at]) if getattr(one, "position", "") not in discarded]
            return [*before, *told[at + 1 :]]
    return told


def _copied(told: Sequence[facts.Fact], again: frozenset[str] = frozenset()) -> list[facts.Fact]:
    """Return what a fork has of records: to be cut as a whole, and the hooks behind the end, belong to how the old run ended.

    What its steps have brought forth is the old run's. A step that begins `again` keeps its effects alone. Nobody has approved
    anything of the new run: its open steps ask anew.
    """
    answered = {fact.position for fact in told if isinstance(fact, facts.StepCompleted | facts.StepFailed)}

    def is_copied(fact: facts.Fact) -> bool:
        if isinstance(fact, facts.FlowCut):
            return bool(fact.position)
        if isinstance(fact, facts.EventPatched):
            return fact.when != "after"
        if isinstance(fact, (*_APPROVAL, facts.StepAbandoned)):
            return fact.position in answered
        if isinstance(fact, facts.StepStarted | facts.StepRetried):
            return fact.position not in again
        return not isinstance(fact, _NOT_COPIED)

    return [_barren(fact) for fact in told if is_copied(fact)]


def _barren(fact: facts.Fact) -> facts.Fact:
    return replace(fact, emitted=()) if isinstance(fact, facts.StepCompleted) and fact.emitted else fact
