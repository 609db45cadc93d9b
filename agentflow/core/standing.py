"""Standing: what a run's records come to, beside what its steps set: attempts, deaths, approvals, pauses, what was used.

`take` folds one record in, in O(1), whether it was just written or is read again; it never moves the walk. So the engine
keeps a standing up to date while it drives the walk itself, and `replay` does both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from agentflow.core import records as facts
from agentflow.core.entry import Entry
from agentflow.core.failure import Failure
from agentflow.core.frame import OPEN, Frame
from agentflow.core.packing import number
from agentflow.core.places import frame_at, is_below
from agentflow.core.plan import Position, has_clocks, is_timed
from agentflow.core.result import Usage
from agentflow.core.spending import Spending, has_budgets, nodes_above
from agentflow.core.values import Json
from agentflow.core.walk import Walk


@dataclass(slots=True)
class Approval:
    """What a step waits for: `answer` is "" while nobody has said anything, else "granted" or "rejected"."""

    digest: str
    deadline_at: float | None = None
    answer: str = ""
    by: str = ""
    told: str = ""


@dataclass(slots=True)
class StepStanding:
    """How an open step stands.

    Attributes:
        attempts: how many attempts were started; the next one is the one after it.
        failures: how many of them failed and were to be made again; attempts that a crash ended are not among them.
        is_in_flight: an attempt was started and nothing was said of its end. With `due_at` in the future it only waits.
        due_at: when the attempt in flight, or the next one, is due after a failure, in seconds since the epoch.
        deaths: how many processes died while it was in flight.
        begun_at: when its first attempt was started.
        failure: what its last failed attempt said.
        effects: what `ctx.once` has recorded, by key.
        approval: None when it needs none, or was not asked for yet.
        fallbacks: how many agents of its fallback chain were taken; `acting` is the last of them.
    """

    agent: str = ""
    attempts: int = 0
    failures: int = 0
    is_in_flight: bool = False
    due_at: float | None = None
    deaths: int = 0
    begun_at: float | None = None
    failure: Failure | None = None
    effects: dict[str, Json] = field(default_factory=dict)
    approval: Approval | None = None
    fallbacks: int = 0
    acting: str = ""


@dataclass(slots=True)
class Standing:
    """Where a run stands after the record number `seq`.

    Attributes:
        run_id: the run's id.
        walk: its walk; None of its open calls are completed.
        ready: the calls that wait for their answer, by position; kept by `replay`, not by `take`.
        steps: what is known of open steps, by position; a ready call without an entry was never started.
        is_begun: the walk was started. A run with event hooks is not begun until these have been recorded.
        seq, hash, epoch: of the last record; -1, b"" and 0 before the first.
        size: how many bytes all its bodies have.
        plan_hash: which plan it walks now.
        created_at: when it was accepted.
        usage: what it has used so far.
        flows: when the run, each open nested flow with a time limit, and each join with a deadline came to its first step, by
            position: on a clock that stands still while the run is paused, which is `paused_s` behind.
        paused: why it is paused, None when it is not; `waiting` has the positions that wait.
        paused_at, paused_s: since when, and for how long it was paused before that.
        cancelled: what it was cancelled for, "" when it was not.
        flags: e.g. abandoned.
        ended: the terminal record.
        spending: what was used of its budgets; None when there are none.
        extra: how many attempts were made because others had failed.
        has_emitted: one of its steps has brought forth another event.
    """

    run_id: str
    walk: Walk
    ready: dict[Position, Frame] = field(default_factory=dict)
    steps: dict[Position, StepStanding] = field(default_factory=dict)
    is_begun: bool = False
    seq: int = -1
    hash: bytes = b""
    epoch: int = 0
    size: int = 0
    plan_hash: str = ""
    created_at: float = 0.0
    usage: Usage = field(default_factory=Usage)
    flows: dict[Position, float] = field(default_factory=dict)
    paused: str | None = None
    waiting: tuple[str, ...] = ()
    paused_at: float = 0.0
    paused_s: float = 0.0
    cancelled: str = ""
    flags: tuple[str, ...] = ()
    ended: facts.Ending | None = None
    has_limits: bool | None = None  # something has a clock of its own; None: the plan is looked through
    is_budgeted: bool | None = None  # something has a budget; None as above
    spending: Spending | None = None
    extra: int = 0
    has_emitted: bool = False

    def __post_init__(self) -> None:
        if self.is_budgeted or (self.is_budgeted is None and has_budgets(self.walk.plan)):
            self.spending = Spending(self.walk.plan, {})
        if self.has_limits is None:
            self.has_limits = has_clocks(self.walk.plan)

    @property
    def in_flight(self) -> tuple[Position, ...]:
        """The positions of the steps that were being run."""
        return tuple(position for position, step in self.steps.items() if step.is_in_flight)

    def take(self, entry: Entry, fact: facts.Fact | None) -> None:
        """Fold the next record in; None stands for one that counts for nothing.

        Raises:
            MisfitError: its usage is no usage.
        """
        self.seq, self.hash, self.epoch = entry.seq, entry.hash, entry.epoch
        self.size += len(entry.body)
        fold = _FOLDS.get(type(fact))  # type: ignore[arg-type] # None has none
        if fold is not None:
            fold(self, entry.at, fact)  # type: ignore[arg-type]

    def step(self, position: Position) -> StepStanding:
        """Return what is known of a step; an entry of its own from now on."""
        step = self.steps.get(position)
        if step is None:
            step = self.steps[position] = StepStanding()
        return step

    def drop_ended_flows(self) -> None:
        """Forget when flows began that have ended since."""
        for position in [position for position in self.flows if position != "0"]:
            if (frame := frame_at(self.walk, position)) is None or frame.status != OPEN:
                del self.flows[position]


# --- folding ---


def _created(standing: Standing, at: float, fact: facts.WorkflowCreated) -> None:
    standing.created_at, standing.plan_hash = at, fact.plan_hash


def _started(standing: Standing, at: float, fact: facts.StepStarted) -> None:
    step = standing.steps.get(fact.position)
    if step is None:
        step = standing.steps[fact.position] = StepStanding()
    step.agent = fact.agent
    step.attempts = fact.attempt
    step.is_in_flight = True
    standing.usage.calls += 1
    if standing.spending is not None:
        standing.spending.call(fact.position, step.acting or fact.agent)
    if step.begun_at is None:
        step.begun_at = at
        if standing.usage.calls == 1:
            standing.flows.setdefault("0", at - standing.paused_s)
        if standing.has_limits:
            for position, node in nodes_above(standing.walk.plan, fact.position):
                if is_timed(node, is_main=position == "0"):
                    standing.flows.setdefault(position, at - standing.paused_s)


def _retried(standing: Standing, at: float, fact: facts.StepRetried) -> None:
    step = standing.step(fact.position)
    step.agent = fact.agent
    step.attempts = fact.attempt
    step.failures += 1
    standing.extra += 1
    step.is_in_flight = False
    step.due_at = fact.due_at
    step.failure = fact.failure
    _use(standing.usage, fact.usage)
    if standing.spending is not None:
        standing.spending.settle(fact.position, step.acting or fact.agent, fact.usage)


def _fell_back(standing: Standing, at: float, fact: facts.FallbackTaken) -> None:
    step = standing.step(fact.position)
    _use(standing.usage, fact.usage)
    standing.extra += 1
    if standing.spending is not None:
        standing.spending.settle(fact.position, step.acting or fact.agent, fact.usage)
        _release(standing, fact.position, step, fact.attempt)
    step.attempts = fact.attempt
    step.fallbacks, step.acting, step.failures = fact.fallback, fact.to, 0
    step.is_in_flight, step.due_at, step.failure = False, None, None


def _degraded(standing: Standing, at: float, fact: facts.StepDegraded) -> None:
    _flag(standing, ("degraded",))


def _ended(standing: Standing, at: float, fact: facts.StepCompleted | facts.StepFailed) -> None:
    step = standing.steps.pop(fact.position, None)
    if step is not None:
        _release(standing, fact.position, step, fact.attempts)
    if fact.usage:
        _use(standing.usage, fact.usage)
        if standing.spending is not None:
            standing.spending.settle(fact.position, (step.acting if step is not None else "") or fact.agent, fact.usage)
    if isinstance(fact, facts.StepCompleted) and fact.emitted:
        standing.has_emitted = True


def _release(standing: Standing, position: Position, step: StepStanding, attempts: int) -> None:
    """Give back what an attempt was charged that had been announced and was not made: answered from a cache, denied or rejected."""
    if standing.spending is not None and step.is_in_flight and attempts < step.attempts:
        standing.spending.release(position, step.acting or step.agent)


def _use(total: Usage, used: object) -> None:
    if not used:
        return
    figures = cast("dict[str, Json]", used)
    total.input_tokens += int(number(figures.get("input_tokens", 0)))
    total.output_tokens += int(number(figures.get("output_tokens", 0)))
    total.total_tokens += int(number(figures.get("total_tokens", 0)))
    total.cost_usd += number(figures.get("cost_usd", 0))


def _abandoned(standing: Standing, at: float, fact: facts.StepAbandoned) -> None:
    _flag(standing, ("abandoned",))


def _flag(standing: Standing, flags: tuple[str, ...]) -> None:
    standing.flags = tuple(dict.fromkeys((*standing.flags, *flags)))


def _cut(standing: Standing, at: float, fact: facts.FlowCut) -> None:
    _drop_below(standing, fact.position)
    standing.cancelled = fact.cancelled or standing.cancelled


def _joined(standing: Standing, at: float, fact: facts.JoinClosed) -> None:
    _drop_below(standing, fact.position)


def _drop_below(standing: Standing, above: Position) -> None:
    """Forget the steps below a position; an attempt that is cut short is charged what it had reserved."""
    for position in [position for position in standing.steps if is_below(position, above)]:
        step = standing.steps.pop(position)
        if standing.spending is not None and step.is_in_flight:
            standing.spending.lose(position, step.acting or step.agent)


def _warned(standing: Standing, at: float, fact: facts.BudgetWarned) -> None:
    if standing.spending is not None:
        standing.spending.warned.add(fact.scope)


def _exhausted(standing: Standing, at: float, fact: facts.BudgetExhausted) -> None:
    if standing.spending is not None:
        standing.spending.exhausted.add(fact.scope)


def _effect(standing: Standing, at: float, fact: facts.EffectRecorded) -> None:
    standing.step(fact.position).effects[fact.key] = fact.value


def _asked(standing: Standing, at: float, fact: facts.ApprovalRequested) -> None:
    standing.flows.setdefault("0", at - standing.paused_s)
    step = standing.step(fact.position)
    step.agent = fact.agent
    step.approval = Approval(fact.digest, fact.deadline_at)


def _granted(standing: Standing, at: float, fact: facts.ApprovalGranted) -> None:
    _answer(standing, fact.position, "granted", fact.by, fact.note)


def _rejected(standing: Standing, at: float, fact: facts.ApprovalRejected) -> None:
    _answer(standing, fact.position, "rejected", fact.by, fact.reason)


def _answer(standing: Standing, position: Position, answer: str, by: str, told: str) -> None:
    approval = standing.step(position).approval
    if approval is not None and not approval.answer:  # the first answer stands
        approval.answer, approval.by, approval.told = answer, by, told


def _paused(standing: Standing, at: float, fact: facts.WorkflowPaused) -> None:
    if standing.paused is None:
        standing.paused_at = at
    standing.paused, standing.waiting = fact.reason, fact.waiting


def _resumed(standing: Standing, at: float, fact: facts.WorkflowResumed) -> None:
    if standing.paused is not None:
        standing.paused_s += max(0.0, at - standing.paused_at)
    standing.paused, standing.waiting = None, ()


def _recovering(standing: Standing, at: float, fact: facts.WorkflowRecovering) -> None:
    for position in fact.in_flight:
        step = standing.step(position)
        step.deaths += 1
        if standing.spending is not None and step.is_in_flight:
            standing.spending.lose(position, step.acting or step.agent)
        step.is_in_flight = False
        step.due_at = None


def _moved(standing: Standing, at: float, fact: facts.PlanMoved) -> None:
    standing.plan_hash = fact.plan_hash
    for position in fact.discarded:
        standing.steps.pop(position, None)


def _closed(standing: Standing, at: float, fact: facts.Ending) -> None:
    standing.ended = fact
    standing.steps.clear()
    _flag(standing, fact.flags)
    if isinstance(fact, facts.WorkflowCancelled):
        standing.cancelled = fact.reason


Fold: TypeAlias = Callable[[Standing, float, facts.Fact], None]

_FOLDS = cast(
    "dict[type[facts.Fact], Fold]",
    {
        facts.StepStarted: _started,
        facts.StepRetried: _retried,
        facts.StepCompleted: _ended,
        facts.StepFailed: _ended,
        facts.StepAbandoned: _abandoned,
        facts.FallbackTaken: _fell_back,
        facts.StepDegraded: _degraded,
        facts.EffectRecorded: _effect,
        facts.BudgetWarned: _warned,
        facts.BudgetExhausted: _exhausted,
        facts.FlowCut: _cut,
        facts.JoinClosed: _joined,
        facts.ApprovalRequested: _asked,
        facts.ApprovalGranted: _granted,
        facts.ApprovalRejected: _rejected,
        facts.WorkflowCreated: _created,
        facts.WorkflowPaused: _paused,
        facts.WorkflowResumed: _resumed,
        facts.WorkflowRecovering: _recovering,
        facts.PlanMoved: _moved,
        facts.WorkflowCompleted: _closed,
        facts.WorkflowFailed: _closed,
        facts.WorkflowCancelled: _closed,
    },
)
