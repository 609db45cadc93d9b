"""Replay: from a run's records, or a snapshot and the records after it, to the run as it stood.

Answers go into the walk in the order in which they were recorded, which is the order in which they came. Nothing is run
but conditions and merge functions, which are pure; what was recorded as done is not done again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, assert_never

from agentflow.core import records as facts
from agentflow.core.codec import decode, first_fault
from agentflow.core.entry import Entry
from agentflow.core.event import Event, accept, first_scope
from agentflow.core.failure import Failure, failure_of
from agentflow.core.frame import OPEN, Frame
from agentflow.core.packing import MisfitError
from agentflow.core.places import frame_at
from agentflow.core.plan import Node, Par, Position, name_of
from agentflow.core.policy_walk import PolicyWalk
from agentflow.core.snapshot import thaw_standing
from agentflow.core.standing import Standing
from agentflow.core.walk import Answer
from agentflow.core.walks import walk_of
from agentflow.errors import CancelledRunError, InvalidEventError, InvalidValueError, JournalDamagedError

_Entries: TypeAlias = Sequence[tuple[Entry, facts.Fact]]


def replay(run_id: str, plan: Node, event: Event, entries: Sequence[Entry], snapshot: bytes | None = None) -> Standing:
    """Return the run as it stood after the last of its records.

    Args:
        run_id: the run's id.
        plan: the plan it walks now, which is that of its last PlanMoved where there is one.
        event: its accepted event; `event_of` makes it from the first record.
        entries: all its entries, or those after the snapshot.
        snapshot: what `freeze_standing` gave; one from before a PlanMoved is of no use.

    Raises:
        JournalDamagedError: an entry is not what was written, or speaks of a step that was not at hand.
        JournalVersionError: a later release wrote one of them.
    """
    if snapshot is None:
        standing = Standing(run_id, walk_of(plan, event, first_scope(event), is_noting=True))
    else:
        standing = thaw_standing(run_id, plan, event, snapshot)
    told = _decoded(run_id, entries, standing)
    _fold(standing, told, [])
    standing.drop_ended_flows()
    return standing


def misfits(run_id: str, plan: Node, event: Event, entries: Sequence[Entry]) -> list[tuple[Position, str]]:
    """Say which steps that were done have no place in another plan, and why: what `PlanMoved.discarded` has to name.

    Args:
        run_id: the run's id.
        plan: the plan that the run is to go on with.
        event: its accepted event.
        entries: all its entries.

    Raises:
        JournalDamagedError, JournalVersionError: as `replay` does.
    """
    standing = Standing(run_id, walk_of(plan, event, first_scope(event), is_noting=True))
    told = _decoded(run_id, entries, standing)
    found: list[tuple[Position, str]] = []
    _fold(standing, told, found, is_moving=True)
    return found


@dataclass(frozen=True, slots=True)
class Fit:
    """What a walk could take of some facts.

    Attributes:
        standing: where the walk is after them; kept by the walk alone, as nothing was recorded.
        told: the facts that it could take.
        unfit: the answers that it could not take, as position and reason.
    """

    standing: Standing
    told: list[facts.Fact]
    unfit: list[tuple[Position, str]]


def fit(run_id: str, plan: Node, event: Event, told: Sequence[facts.Fact]) -> Fit:
    """Walk a plan as facts say, and leave out those that have no place in that walk.

    Args:
        run_id: the run's id.
        plan: the plan.
        event: the event that is accepted.
        told: the facts, WorkflowCreated first.
    """
    found = Fit(Standing(run_id, walk_of(plan, event, first_scope(event), is_noting=True)), [], [])
    driver = Driver(found.standing, found.unfit, frozenset())
    found.told.extend(fact for fact in told if driver.drive(fact, is_moving=True))
    return found


def event_of(run_id: str, first: facts.WorkflowCreated) -> Event:
    """Return the event that a run serves, as it was accepted.

    Raises:
        JournalDamagedError: it is no event.
    """
    try:
        return accept(Event.from_dict(first.event), "", float)
    except (InvalidEventError, InvalidValueError, TypeError) as error:
        raise JournalDamagedError(run_id, 0, f"its event cannot be read: {error}") from error


def _decoded(run_id: str, entries: Sequence[Entry], standing: Standing) -> _Entries:
    if entries and entries[0].seq != standing.seq + 1:
        raise JournalDamagedError(run_id, standing.seq + 1, "is missing")
    fault = first_fault(run_id, entries, standing.hash)
    if fault is not None:
        raise JournalDamagedError(run_id, *fault)
    if standing.seq < 0 and (not entries or entries[0].type != facts.WorkflowCreated.__name__):
        raise JournalDamagedError(run_id, 0, "does not say how the run began")
    return [(entry, decode(run_id, entry).fact) for entry in entries]


def _fold(standing: Standing, told: _Entries, unfit: list[tuple[Position, str]], *, is_moving: bool = False) -> None:
    moved = max((at for at, (_, fact) in enumerate(told) if isinstance(fact, facts.PlanMoved)), default=-1)
    if moved >= 0 and standing.seq >= 0:
        raise JournalDamagedError(standing.run_id, told[moved][0].seq, "moves the plan, and the snapshot stands before it")
    discarded = frozenset(position for _, fact in told if isinstance(fact, facts.PlanMoved) for position in fact.discarded)
    driver = Driver(standing, unfit, discarded)
    for at, (entry, fact) in enumerate(told):
        driver.is_other_plan = is_moving or at < moved
        try:
            driver.drive(fact, is_moving=is_moving)
            standing.take(entry, fact)
        except MisfitError as error:
            raise JournalDamagedError(standing.run_id, entry.seq, str(error)) from error


@dataclass(slots=True)
class Driver:
    """Moves a standing's walk as records say.

    Attributes:
        standing: the walk, and the calls that are ready.
        unfit: collects positions that do not fit, while `drive` is told to bear with them.
        discarded: positions that count as never done.
        is_other_plan: the record at hand was written under another plan, whose choices need not be those of this one.
    """

    standing: Standing
    unfit: list[tuple[Position, str]]
    discarded: frozenset[Position]
    is_other_plan: bool = field(default=False, init=False)

    def drive(self, fact: facts.Fact, *, is_moving: bool = False) -> bool:
        """Take the walk through one record; False when it counts for nothing, because the run has moved to another plan.

        Raises:
            MisfitError: it speaks of something that is not at hand.
        """
        position = getattr(fact, "position", "")
        if self.is_other_plan and position in self.discarded:
            return False
        is_answer = isinstance(fact, facts.StepCompleted | facts.StepFailed)
        try:
            self._drive(fact)
        except MisfitError as error:
            if not is_moving and (is_answer or not self.is_other_plan):
                raise
            if is_answer:
                self.unfit.append((position, str(error)))
            return False  # a step that was begun and not answered is begun anew
        return True

    def _drive(self, fact: facts.Fact) -> None:  # noqa: C901, PLR0912 - one match over all facts, which mypy proves complete
        if self.standing.ended is not None:
            raise MisfitError(f"{type(fact).__name__} stands after the end")
        match fact:
            case facts.StepCompleted():
                fact.patch.route = fact.route
                self._settle(fact, fact.patch)
            case facts.StepFailed():
                self._settle(fact, fact.failure)
            case facts.StepStarted() | facts.StepRetried() | facts.ApprovalRequested() | facts.FallbackTaken() | facts.AnswerReused():
                self._find(fact.position, fact.agent)
            case facts.StepDegraded():
                self._degrade(fact)
            case facts.EffectRecorded() | facts.ApprovalGranted() | facts.ApprovalRejected():
                self._find(fact.position)
            case facts.WorkflowRecovering():
                self._find_all(fact.in_flight)
            case _ if isinstance(fact, facts.Note):
                self._choose(fact)
            case facts.FlowCut():
                self._cut(fact)
            case facts.JoinClosed():
                self._close(fact)
            case facts.EventPatched():
                self._patch(fact)
            case facts.WorkflowCreated():
                self._create(fact)
            case facts.WorkflowCompleted() | facts.WorkflowFailed() | facts.WorkflowCancelled():
                self._end(fact)
            case facts.StepAbandoned() | facts.BudgetWarned() | facts.BudgetExhausted():
                pass
            case facts.WorkflowPaused() | facts.WorkflowResumed() | facts.PlanMoved():
                pass
            case _:
                assert_never(fact)

    def _find_all(self, positions: tuple[Position, ...]) -> None:
        for position in positions:
            self._find(position)

    def _degrade(self, fact: facts.StepDegraded) -> None:
        self._find(fact.position, fact.agent)
        self.standing.walk.degrade(fact.failure)

    def _create(self, fact: facts.WorkflowCreated) -> None:
        if self.standing.seq >= 0:
            raise MisfitError("WorkflowCreated stands in the middle")
        if not fact.is_hooked:
            self._begin()

    def _begin(self) -> None:
        standing = self.standing
        standing.is_begun = True
        self._open(standing.walk.start())
        for position in [position for position in standing.steps if position not in standing.ready]:
            del standing.steps[position]  # started ahead of the event hooks, which then made the walk begin elsewhere

    def _open(self, ready: list[Frame]) -> None:
        self.standing.ready.update((frame.position, frame) for frame in ready)

    def _find(self, position: Position, agent: str | None = None) -> Frame | None:
        """Return the call that is ready at a position; None while the event hooks are still to come."""
        if not self.standing.is_begun:
            return None
        frame = self.standing.ready.get(position)
        if frame is None:
            raise MisfitError(f"no step is ready at {position[:200]}")
        if agent is not None and agent != name_of(frame.node):
            raise MisfitError(f"the step at {position} is {name_of(frame.node)}, not {agent[:200]}")
        return frame

    def _settle(self, fact: facts.StepCompleted | facts.StepFailed, answer: Answer) -> None:
        frame = self._find(fact.position, fact.agent)
        if frame is None:
            raise MisfitError(f"{fact.position} was answered before the run began")
        del self.standing.ready[fact.position]
        self._open(self.standing.walk.complete(frame, answer))

    def _choose(self, note: facts.Note) -> None:
        notes = self.standing.walk.notes
        if self.is_other_plan:
            notes.clear()
        elif note in notes:
            notes.remove(note)
        else:
            raise MisfitError(f"the walk did not choose {type(note).__name__} at {note.position}")

    def _cut(self, fact: facts.FlowCut) -> None:
        standing = self.standing
        if standing.walk.is_done:
            raise MisfitError("the walk had ended when a flow was cut")
        frame = None if not fact.position else frame_at(standing.walk, fact.position)
        if fact.position and frame is None:
            raise MisfitError(f"no flow is open at {fact.position[:200]}")
        self._drop(frame)
        self._open(standing.walk.cut(frame, fact.failure))

    def _close(self, fact: facts.JoinClosed) -> None:
        walk = self.standing.walk
        join = frame_at(walk, fact.position)
        if join is None or not isinstance(walk, PolicyWalk) or not isinstance(join.node, Par) or join.status != OPEN:
            raise MisfitError(f"no join that can be closed is open at {fact.position[:200]}")
        if walk.counted(join) != fact.counted and not self.is_other_plan:
            raise MisfitError(f"other branches had ended when the join at {fact.position[:200]} was closed")
        self._drop(join)
        self._open(walk.close_join(join, fact.reason))

    def _drop(self, above: Frame | None) -> None:
        """Forget the calls below a frame, all of them for None."""
        ready = self.standing.ready
        for position in [position for position, call in ready.items() if above is None or call.is_below(above)]:
            del ready[position]

    def _patch(self, fact: facts.EventPatched) -> None:
        standing = self.standing
        is_fit = {"before": not standing.is_begun, "fork": True, "after": standing.walk.is_done}.get(fact.when, False)
        if not is_fit:
            raise MisfitError(f"an event hook {fact.when[:20]!r} is out of place")
        standing.walk.scope.apply(fact.patch)
        if fact.when == "before":
            self._begin()

    def _end(self, fact: facts.Ending) -> None:
        standing = self.standing
        if not standing.walk.is_done:
            failure: Failure | None
            if isinstance(fact, facts.WorkflowCompleted):
                raise MisfitError("the walk had not ended when the run completed")
            if isinstance(fact, facts.WorkflowCancelled):
                failure = failure_of(CancelledRunError(f"the run was cancelled: {fact.reason}"))
            else:
                failure = fact.failure or Failure(fact.reason)
            standing.walk.cut(None, failure, is_final=True)
        standing.ready.clear()
