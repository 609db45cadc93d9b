"""Progress on stderr while events run: plain lines, or a live tree for a person at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from agentflow.cli import terminal
from agentflow.core.records import (
    ApprovalFact,
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    BranchTaken,
    Fact,
    FallbackTaken,
    JoinClosed,
    LoopEnded,
    MapBegun,
    PlanCreated,
    PlanRevised,
    Record,
    StepAbandoned,
    StepCompleted,
    StepDegraded,
    StepFailed,
    StepRetried,
    StepStarted,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowCreated,
    WorkflowFailed,
    WorkflowPaused,
    WorkflowRecovering,
    WorkflowResumed,
)

if TYPE_CHECKING:
    from agentflow.core.plan import Node


class Progress(Protocol):
    """What is shown while runs go on."""

    def begin(self) -> None:
        """Take hold of the terminal, before anything is written to it."""

    def observe(self, record: Record) -> None:
        """Show a record."""

    def settle(self, run_id: str) -> None:
        """Leave the terminal free for the result of a run that has ended."""


def progress(plan: Callable[[], Node], *, is_quiet: bool) -> Progress:
    """Return what fits stderr: nothing when quiet, a live tree of the plan's steps on a terminal, else plain lines."""
    if is_quiet:
        return Silence()
    if sys.stderr.isatty():
        from agentflow.cli.live import LiveTree

        return LiveTree(plan)
    return Lines()


class Silence:
    """Shows nothing."""

    def begin(self) -> None:
        """Do nothing."""

    def observe(self, record: Record) -> None:
        """Show nothing."""

    def settle(self, run_id: str) -> None:
        """Do nothing."""


class Lines(Silence):
    """Writes a line for each start, end and retry of a step, and for the ends of loops and runs."""

    def __init__(self) -> None:
        self._retried: set[tuple[str, str]] = set()  # run and position of a retry whose start was not recorded yet

    def observe(self, record: Record) -> None:
        """Write the line of a record that has one; none for the start of a next attempt, which is recorded before the wait."""
        fact = record.fact
        if isinstance(fact, StepRetried):
            self._retried.add((record.run_id, fact.position))
        elif isinstance(fact, StepStarted) and (record.run_id, fact.position) in self._retried:
            self._retried.discard((record.run_id, fact.position))
            return
        told = line_of(record)
        if told:
            terminal.note(terminal.safe(f"{record.run_id}  {told}".replace("\n", " ")))


def line_of(record: Record) -> str:
    """Return a record in words, "" for one that is of no interest while it runs."""
    match record.fact:
        case StepStarted(position=position, agent=agent) as fact:
            return f"{position}  {agent}  started" + (f", attempt {fact.attempt}" if fact.attempt > 1 else "")
        case StepRetried(position=position, agent=agent) as fact:
            return f"{position}  {agent}  attempt {fact.attempt} failed, again in {duration(fact.wait_s)}: {cause(fact)}"
        case FallbackTaken(position=position, to=to) as fact:
            return f"{position}  {fact.agent}  attempt {fact.attempt} failed, {to} takes its place: {cause(fact)}"
        case StepDegraded(position=position, agent=agent) as fact:
            return f"{position}  {agent}  failed for good, its default output is the answer: {cause(fact)}"
        case StepCompleted(position=position, agent=agent) as fact:
            return f"{position}  {agent}  completed in {duration(fact.duration_s)}{tries(fact.attempts)}"
        case StepFailed(position=position, agent=agent) as fact:
            return f"{position}  {agent}  failed after {duration(fact.duration_s)}{tries(fact.attempts)}: {cause(fact)}"
        case StepAbandoned(position=position, agent=agent):
            return f"{position}  {agent}  left behind: it does not end although it was cancelled"
        case LoopEnded(position=position) as fact:
            return f"{position}  loop ended after {fact.iterations} round{'s' * (fact.iterations != 1)}: {fact.reason}"
        case JoinClosed(position=position, counted=counted, reason=reason):
            return f"{position}  join closed with {len(counted)} branch{'es' * (len(counted) != 1)}: {reason}"
        case ApprovalRequested() | ApprovalGranted() | ApprovalRejected() as fact:
            return _line_of_approval(fact)
        case PlanCreated() | PlanRevised() as fact:
            return _line_of_plan(fact)
        case _:
            return _line_of_run(record.fact)


def choice_of(fact: Fact) -> str:
    """Return in words what was chosen, of a record that has no line while it runs; "" of all others."""
    match fact:
        case BranchTaken(position=position, case=case, name=name):
            return f"{position}  takes case {case}" + (f": {name}" if name else "")
        case MapBegun(position=position, items=items):
            return f"{position}  begins with {', '.join(items)}"
        case _:
            return ""


def _line_of_plan(fact: PlanCreated | PlanRevised) -> str:
    rows = fact.steps if isinstance(fact.steps, list) else []
    steps = ", ".join(str(row.get("id", "")) for row in rows if isinstance(row, dict))
    if isinstance(fact, PlanCreated):
        return f"{fact.position}  plan: {steps or 'nothing to do'}"
    old = ", ".join(map(str, fact.old)) if isinstance(fact.old, list) else ""
    return f"{fact.position}  plan revised: {steps or 'nothing more'}" + (f" in the place of {old}" if old else "")


def _line_of_approval(fact: ApprovalFact) -> str:
    match fact:
        case ApprovalRequested(position=position, agent=agent):
            return f"{position}  {agent}  waits for approval"
        case ApprovalGranted(position=position, by=by):
            return f"{position}  approved" + (f" by {by}" if by else "")
        case ApprovalRejected(position=position, by=by, reason=reason):
            return f"{position}  rejected" + (f" by {by}" if by else "") + (f": {reason}" if reason else "")


def _line_of_run(fact: Fact) -> str:
    match fact:
        case WorkflowCreated(target=target, pattern=pattern):
            return f"started in mode {pattern}" + (f", target {target}" if target else "")
        case WorkflowCompleted(status=status, reason=reason) | WorkflowFailed(status=status, reason=reason):
            return f"{ending(status, reason)} in {duration(fact.duration_s)}"
        case WorkflowCancelled(reason=reason):
            return f"{ending('cancelled', reason)} in {duration(fact.duration_s)}"
        case WorkflowPaused(reason=reason, waiting=waiting):
            return f"paused: {reason}" + (f", waiting at {', '.join(waiting)}" if waiting else "")
        case WorkflowResumed(by=by):
            return "resumed" + (f" by {by}" if by else "")
        case WorkflowRecovering(in_flight=in_flight):
            return "taken over" + (f", again at {', '.join(in_flight)}" if in_flight else "")
        case _:
            return ""


def cause(fact: StepRetried | StepFailed | FallbackTaken | StepDegraded) -> str:
    """Return why, without the place, which stands before it."""
    failure = fact.failure
    return f"{failure.type}: {failure.message}" if failure.message else failure.type


def tries(attempts: int) -> str:
    """Return how many attempts there were, "" for one."""
    return f" ({attempts} attempts)" if attempts > 1 else ""


def duration(seconds: float | None) -> str:
    """Return a duration for a person: milliseconds below a second, minutes above one."""
    if seconds is None:
        return "0 s"
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds:.2f} s" if seconds < 60 else f"{int(seconds // 60)} min {seconds % 60:.0f} s"


def ending(status: str, reason: str) -> str:
    """Return how a run ended: its status, and the reason where that says more."""
    return status if reason == status else f"{status} ({reason})"
