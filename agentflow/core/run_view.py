"""RunView: a run as somebody looks at it: its row, its state, how each of its steps stands, and what waits for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from agentflow.core import records as facts
from agentflow.core.facts import outputs_of
from agentflow.core.failure import Failure, failure_of
from agentflow.core.merge import Conflict
from agentflow.core.orders import open_approvals, state_of
from agentflow.core.places import is_below
from agentflow.core.plan import Position, declared_names, name_of
from agentflow.core.result import Usage
from agentflow.core.row import Row
from agentflow.core.run_row import RunRow
from agentflow.core.standing import Standing
from agentflow.core.state import State
from agentflow.core.values import Json, copy_json
from agentflow.errors import CancelledRunError, JoinClosedError

_OPEN = ("pending", "running", "waiting")


@dataclass(slots=True)
class StepView(Row):
    """How one step stands.

    Attributes:
        position, agent: where it is and who answers it.
        status: pending (ready, or to be made again), running, waiting (for a person), completed or failed.
        attempts: how many attempts were started, those included that a crash ended.
        retry_count: how many of them failed and were made again.
        duration_s: how long it took, in seconds; None while it is open.
        error: what its last failed attempt said; None once it completed.
    """

    position: Position
    agent: str
    status: str = "pending"
    attempts: int = 0
    retry_count: int = 0
    duration_s: float | None = None
    error: Failure | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has no answer yet."""
        return self.status in _OPEN

    def to_dict(self) -> dict[str, Json]:
        """Return the step as JSON."""
        return {
            "position": self.position,
            "agent": self.agent,
            "status": self.status,
            "attempts": self.attempts,
            "retry_count": self.retry_count,
            "duration_seconds": self.duration_s,
            "error": None if self.error is None else self.error.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class ApprovalView(Row):
    """A step that waits for a person; `digest` stands for what is approved, `deadline_at` (seconds since the epoch) None for ever."""

    position: Position
    agent: str
    digest: str
    deadline_at: float | None = None

    def to_dict(self) -> dict[str, Json]:
        """Return the request as JSON."""
        return {"position": self.position, "agent": self.agent, "digest": self.digest, "deadline_at": self.deadline_at}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView(Row):
    """A run after its record number `seq`.

    Attributes:
        row: what lists say of it, as it was then.
        seq: the record up to which it is shown.
        last_seq: its last record.
        state: `{"data", "meta"}`.
        outputs: what each agent and nested flow set last, by name, in the plan's declared order.
        steps: every step that was ready so far, in the order in which they began.
        approvals: what waits for a person.
        error: why it failed; `errors`: the failure of every agent or flow that failed for good, by name.
        usage: tokens, cost and calls so far.
        conflicts: the keys that parallel branches wrote differently.
    """

    row: RunRow
    seq: int
    last_seq: int
    state: dict[str, dict[str, Json]]
    outputs: dict[str, dict[str, Json]]
    steps: tuple[StepView, ...]
    approvals: tuple[ApprovalView, ...] = ()
    error: Failure | None = None
    errors: dict[str, Failure] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    conflicts: tuple[Conflict, ...] = ()

    def step(self, place: str) -> StepView:
        """Return a step by its position, or the last one of an agent.

        Raises:
            KeyError: there is none.
        """
        found = [step for step in self.steps if place in (step.position, step.agent)]
        if not found:
            raise KeyError(place)
        return found[-1]

    def to_dict(self) -> dict[str, Json]:
        """Return the view as JSON: the row, `state_name` in the place of its state, and the rest."""
        row = self.row.to_dict()
        row["state_name"] = row["state"]
        row |= {
            "seq": self.seq,
            "last_seq": self.last_seq,
            "state": {name: copy_json(values) for name, values in self.state.items()},
            "outputs": {name: copy_json(values) for name, values in self.outputs.items()},
            "error": None if self.error is None else self.error.to_dict(),
            "errors": {name: failure.to_dict() for name, failure in self.errors.items()},
            "steps": [step.to_dict() for step in self.steps],
            "approvals": [approval.to_dict() for approval in self.approvals],
            "usage": self.usage.to_dict(),
            "conflicts": [conflict.to_dict() for conflict in self.conflicts],
        }
        return row


def view_of(row: RunRow, standing: Standing, records: Sequence[facts.Record], last_seq: int) -> RunView:
    """Return the view of a run.

    Args:
        row: its row as it is now.
        standing: how it stood after the last of `records`.
        records: its records from the first one on.
        last_seq: the number of its last record.
    """
    failure = standing.walk.outcome.failure
    if isinstance(standing.ended, facts.WorkflowFailed) and standing.ended.failure is not None:
        failure = standing.ended.failure
    return RunView(
        row=row if standing.seq == last_seq else row_after(row, standing, records[-1].at),
        seq=standing.seq,
        last_seq=last_seq,
        state=State.over(standing.walk.scope).to_dict(),
        outputs=outputs_of(standing.walk, declared_names(standing.walk.plan)),
        steps=tuple(steps_of(records, standing)),
        approvals=tuple(
            ApprovalView(position, standing.steps[position].agent, approval.digest, approval.deadline_at)
            for position, approval in open_approvals(standing).items()
        ),
        error=failure,
        errors=dict(standing.walk.outcome.errors),
        usage=standing.usage,
        conflicts=tuple(standing.walk.outcome.conflicts),
    )


def row_after(row: RunRow, standing: Standing, at: float) -> RunRow:
    """Return the row as the records up to a moment make it; `at` is the time of the last of them."""
    ended = standing.ended
    status, reason = None, standing.paused or ""
    if ended is not None:
        status = "cancelled" if isinstance(ended, facts.WorkflowCancelled) else ended.status
        reason = ended.reason
    deadlines = [approval.deadline_at for approval in open_approvals(standing).values() if approval.deadline_at is not None]
    return replace(
        row,
        state=state_of(standing),
        status=status,
        reason=reason,
        flags=standing.flags,
        plan_hash=standing.plan_hash,
        epoch=standing.epoch,
        ended_at=None if ended is None else at,
        due_at=min(deadlines, default=None),
        waiting=tuple(open_approvals(standing)),
    )


def steps_of(records: Sequence[facts.Record], standing: Standing) -> list[StepView]:
    """Return how each step stands that was ready so far; `standing` is what all these records come to."""
    steps: dict[Position, StepView] = {}
    for record in records:
        fact = record.fact
        if isinstance(fact, facts.StepStarted | facts.StepRetried | facts.StepCompleted | facts.StepFailed | facts.ApprovalRequested):
            _fold_step(steps.setdefault(fact.position, StepView(fact.position, fact.agent)), fact)
        else:
            _fold(steps, fact)
    if standing.is_begun and standing.ended is None:
        ahead = [position for position, step in steps.items() if step.is_open and position not in standing.ready]
        for position in ahead:  # started ahead of the event hooks, which then made the run begin elsewhere
            del steps[position]
        for position, frame in standing.ready.items():
            steps.setdefault(position, StepView(position, name_of(frame.node)))
    return list(steps.values())


def _fold_step(step: StepView, fact: facts.Fact) -> None:
    match fact:
        case facts.StepStarted():
            step.status, step.attempts = "running", fact.attempt
        case facts.StepRetried():
            step.status, step.attempts, step.error = "pending", fact.attempt, fact.failure
            step.retry_count += 1
        case facts.StepCompleted():
            step.status, step.attempts, step.duration_s, step.error = "completed", fact.attempts, fact.duration_s, None
        case facts.StepFailed():
            step.status, step.attempts, step.duration_s, step.error = "failed", fact.attempts, fact.duration_s, fact.failure
        case _:
            step.status = "waiting"


def _fold(steps: dict[Position, StepView], fact: facts.Fact) -> None:
    match fact:
        case facts.ApprovalGranted() | facts.ApprovalRejected():
            _return(steps, (fact.position,))
        case facts.WorkflowRecovering():
            _return(steps, fact.in_flight)
        case facts.FlowCut():
            _fail(steps, fact.failure, fact.position)
        case facts.JoinClosed():
            _fail(steps, failure_of(JoinClosedError(f"its join was closed ({fact.reason})"), attempts=0), fact.position)
        case facts.WorkflowFailed():
            _fail(steps, fact.failure or Failure(fact.reason))
        case facts.WorkflowCancelled():
            _fail(steps, failure_of(CancelledRunError(f"the run was cancelled: {fact.reason}")))
        case facts.PlanMoved():
            for position in fact.discarded:
                steps.pop(position, None)
        case _:
            pass


def _return(steps: dict[Position, StepView], positions: tuple[Position, ...]) -> None:
    for position in positions:
        if position in steps and steps[position].is_open:
            steps[position].status = "pending"


def _fail(steps: dict[Position, StepView], failure: Failure, above: Position = "") -> None:
    for step in steps.values():
        if step.is_open and is_below(step.position, above):
            step.status, step.error = "failed", failure
