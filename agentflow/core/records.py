"""Records: facts about a run, in the past tense, never changed.

A journal keeps them, observers get them; replaying a run's records gives the run as it stood. `BranchTaken`, `LoopEnded`,
`MapBegun`, `PlanCreated`, `PlanRevised` and `RouteIgnored` are choices that the walk makes by itself; the others come from the
engine. Times that end in `_at` are seconds since the epoch, lengths that end in `_s` seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from agentflow.core.choices import BranchTaken as BranchTaken
from agentflow.core.choices import LoopEnded as LoopEnded
from agentflow.core.choices import MapBegun as MapBegun
from agentflow.core.choices import Note as Note
from agentflow.core.choices import PlanCreated as PlanCreated
from agentflow.core.choices import PlanRevised as PlanRevised
from agentflow.core.choices import RouteIgnored as RouteIgnored
from agentflow.core.failure import Failure
from agentflow.core.packing import pack_patch
from agentflow.core.plan import Position
from agentflow.core.state import Patch
from agentflow.core.values import Json

# --- the run ---


@dataclass(frozen=True, slots=True)
class WorkflowCreated:
    """A run was accepted.

    Attributes:
        event: the accepted event, as `Event.to_dict` gives it.
        pattern: the main flow's mode.
        plan_hash: the hash of the plan it walks.
        handlers: by agent `{"handler": "module:name", "version": "..."}`: shown, never compared.
        is_hooked: event hooks come first: the walk begins with `EventPatched("before")`, not with this record.
        parent_id, root_id: the run whose step or callback emitted the event, and the first of its line.
        forked_from: the run it was forked from, "" for none.
    """

    event: Mapping[str, Json]
    pattern: str
    plan_hash: str = ""
    handlers: Mapping[str, Json] | None = None
    is_hooked: bool = False
    parent_id: str | None = None
    root_id: str | None = None
    forked_from: str | None = None

    @property
    def event_id(self) -> str:
        """The event's id."""
        return str(self.event.get("id") or "")

    @property
    def target(self) -> str:
        """The event's target, "" for none."""
        return str(self.event.get("target") or "")

    @property
    def session_id(self) -> str | None:
        """The event's session, None when it is one by itself."""
        told = self.event.get("session_id")
        return None if told is None else str(told)


@dataclass(frozen=True, slots=True)
class EventPatched:
    """The state changed beside the steps: `when` is "before" the first or "after" the last by event hooks, "fork" by who forked."""

    when: str
    patch: Patch


@dataclass(frozen=True, slots=True)
class WorkflowPaused:
    """Nothing of the run goes on; `waiting` has the positions that wait for a person or a signal."""

    reason: str
    waiting: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkflowResumed:
    """A paused run goes on; `by` names who lifted the pause."""

    by: str = ""


@dataclass(frozen=True, slots=True)
class WorkflowRecovering:
    """Another owner took the run over after its own had died; `in_flight` has the positions that were being run."""

    epoch: int
    owner: str
    in_flight: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanMoved:
    """The run goes on under another plan; what `discarded` names does not fit it and counts as never done."""

    plan_hash: str
    discarded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkflowCompleted:
    """A run ended well: `status` is completed or partial."""

    status: str
    reason: str
    duration_s: float | None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkflowFailed:
    """A run ended badly: `status` is failed or timed_out; `flags` may say dead_lettered, abandoned or corrupt."""

    status: str
    reason: str
    duration_s: float | None
    failure: Failure | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkflowCancelled:
    """A run ended because somebody asked for it."""

    reason: str
    duration_s: float | None = None
    flags: tuple[str, ...] = ()


# --- steps ---


@dataclass(slots=True)  # not frozen, as StepCompleted is not
class StepStarted:
    """A step's attempt number `attempt` (from 1) was about to begin; after StepRetried it begins when that one is due."""

    position: Position
    agent: str
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class StepRetried:
    """A step's attempt number `attempt` failed and is made again after `wait_s`, at `due_at`; `usage` as in StepCompleted."""

    position: Position
    agent: str
    attempt: int
    wait_s: float
    failure: Failure
    due_at: float = 0.0
    usage: Mapping[str, Json] | None = None


@dataclass(slots=True)  # not frozen: that would make it five times as dear to make, and each step makes one. Never changed all the same
class StepCompleted:
    """A step has its answer: what it changed, and the route it named.

    Attributes:
        attempts: how many attempts it took.
        usage: what the attempt used: `input_tokens, output_tokens, total_tokens, cost_usd`, any of them; None for nothing.
        emitted: the runs of the events that it brought forth, which were accepted in the same commit.
    """

    position: Position
    agent: str
    attempts: int
    duration_s: float
    patch: Patch
    route: str | None = None
    usage: Mapping[str, Json] | None = None
    emitted: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that the step set or removed."""
        return tuple(self.patch.data)


@dataclass(frozen=True, slots=True)
class StepFailed:
    """A step failed for good, after its last attempt; `usage` as in StepCompleted."""

    position: Position
    agent: str
    attempts: int
    duration_s: float
    failure: Failure
    usage: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class FallbackTaken:
    """A step's agent failed for good after attempt number `attempt`, and `to` is tried in its place; `usage` as in StepCompleted.

    `fallback` counts the agents of the chain, from 1.
    """

    position: Position
    agent: str
    to: str
    fallback: int
    attempt: int
    failure: Failure
    usage: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class StepDegraded:
    """All that could answer a step has failed: its `default_output` is the answer, which StepCompleted tells next."""

    position: Position
    agent: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class AnswerReused:
    """A step was answered before, for the same input: nobody is called, and StepCompleted tells the answer next."""

    position: Position
    agent: str


@dataclass(frozen=True, slots=True)
class StepAbandoned:
    """A handler did not end although it was cancelled twice; what it still does is nobody's."""

    position: Position
    agent: str


@dataclass(frozen=True, slots=True)
class FlowCut:
    """The flow at a position ("" for the whole run) was ended from outside: its time was up, or the run was cancelled.

    `cancelled` is what for, "" for a time limit.
    """

    position: Position
    failure: Failure
    cancelled: str = ""


@dataclass(frozen=True, slots=True)
class JoinClosed:
    """The join at a position went on without its other branches, which count as failed; `counted` has those that had ended.

    `reason` is fail_fast (too many had failed) or deadline.
    """

    position: Position
    counted: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class EffectRecorded:
    """A step did something that is not to be done again: `ctx.once(key, ...)` gave `value`."""

    position: Position
    key: str
    value: Json


@dataclass(frozen=True, slots=True)
class ApprovalRequested:
    """A step waits for a person; `digest` stands for what is approved, `deadline_at` None means for ever."""

    position: Position
    agent: str
    digest: str
    deadline_at: float | None = None


@dataclass(frozen=True, slots=True)
class ApprovalGranted:
    """A person let a step run."""

    position: Position
    by: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalRejected:
    """A person, or the deadline, refused a step."""

    position: Position
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BudgetWarned:
    """A budget is nearly used up: `figure` (tokens, cost_usd, seconds, calls) stands at `used` of `limit`.

    `scope` is "" for the run's own, else "agent:NAME" or "flow:POSITION".
    """

    scope: str
    figure: str
    used: float
    limit: float


@dataclass(frozen=True, slots=True)
class BudgetExhausted:
    """A budget does not suffice for one more attempt: nothing begins that it pays for. Fields as in BudgetWarned."""

    scope: str
    figure: str
    used: float
    limit: float


Ending: TypeAlias = WorkflowCompleted | WorkflowFailed | WorkflowCancelled
StepFact: TypeAlias = (
    StepStarted | StepRetried | StepCompleted | StepFailed | FallbackTaken | StepDegraded | AnswerReused | StepAbandoned | EffectRecorded
)
BudgetFact: TypeAlias = BudgetWarned | BudgetExhausted
ApprovalFact: TypeAlias = ApprovalRequested | ApprovalGranted | ApprovalRejected
RunFact: TypeAlias = (
    WorkflowCreated | EventPatched | WorkflowPaused | WorkflowResumed | WorkflowRecovering | PlanMoved | FlowCut | JoinClosed
)
Fact: TypeAlias = RunFact | StepFact | ApprovalFact | BudgetFact | Note | Ending


@dataclass(frozen=True, slots=True)
class Record:
    """One fact about one run; `seq` is its number in the run's journal, None while nothing is journaled."""

    run_id: str
    at: float
    fact: Fact
    seq: int | None = None

    @property
    def type(self) -> str:
        """The fact's name, e.g. `StepCompleted`."""
        return type(self.fact).__name__

    def to_dict(self) -> dict[str, Json]:
        """Return the record as JSON."""
        row: dict[str, Json] = {"run_id": self.run_id, "seq": self.seq, "at": self.at, "type": self.type}
        for name in type(self.fact).__slots__:
            value = getattr(self.fact, name)
            if isinstance(value, Failure):
                value = value.to_dict()
            elif isinstance(value, Patch):
                value = pack_patch(value)
            elif isinstance(value, tuple):
                value = list(value)
            elif isinstance(value, Mapping):
                value = dict(value)
            row[name] = value
        return row
