"""Timeline: a run's attempts with their times, and the same as a Mermaid sequence diagram."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agentflow.core import records as facts
from agentflow.core.diagram import escaped
from agentflow.core.failure import Failure
from agentflow.core.places import is_below
from agentflow.core.plan import Position
from agentflow.core.row import Row
from agentflow.core.values import Json

MOST_ARROWS = 1000
LONGEST_TEXT = 200


@dataclass(slots=True)
class Attempt(Row):
    """One attempt of one step.

    Attributes:
        seq: the number of its StepStarted.
        started_at: when it began, in seconds since the epoch; after a back-off that is when it was due.
        outcome: running, completed, failed, retried (failed, and made again), replaced (failed, and
            another agent follows), lost (its process died) or cut (its flow ended).
        duration_s: in seconds, of the only attempt of a step as it was measured, else between its records; None while it runs,
            and where nobody saw its end.
        keys: what it set or removed.
        route: where it handed on to.
        failure: why it failed.
    """

    seq: int
    position: Position
    agent: str
    attempt: int
    started_at: float
    outcome: str = "running"
    duration_s: float | None = None
    keys: tuple[str, ...] = ()
    route: str | None = None
    failure: Failure | None = None

    def to_dict(self) -> dict[str, Json]:
        """Return the attempt as JSON."""
        return {
            "seq": self.seq,
            "position": self.position,
            "agent": self.agent,
            "attempt": self.attempt,
            "started_at": self.started_at,
            "outcome": self.outcome,
            "duration_seconds": self.duration_s,
            "keys": list(self.keys),
            "route": self.route,
            "error": None if self.failure is None else self.failure.to_dict(),
        }


def attempts_of(records: Sequence[facts.Record]) -> list[Attempt]:
    """Return the attempts of a run's steps in the order in which they began."""
    found: list[Attempt] = []
    running: dict[Position, Attempt] = {}
    due: dict[Position, float] = {}
    acting: dict[Position, str] = {}  # the agents of fallback chains that answer in another one's place
    for record in records:
        fact, at = record.fact, record.at
        if isinstance(fact, facts.StepStarted):
            started_at = max(at, due.pop(fact.position, at))
            one = Attempt(record.seq or 0, fact.position, acting.get(fact.position, fact.agent), fact.attempt, started_at)
            running[fact.position] = one
            found.append(one)
        else:
            if isinstance(fact, facts.StepRetried):
                due[fact.position] = fact.due_at
            elif isinstance(fact, facts.FallbackTaken):
                acting[fact.position] = fact.to
            elif isinstance(fact, facts.StepCompleted | facts.StepFailed):
                acting.pop(fact.position, None)
            _settle(running, fact, at)
    return found


def _settle(running: dict[Position, Attempt], fact: facts.Fact, at: float) -> None:
    match fact:
        case facts.StepCompleted():
            attempt = _end(running, fact.position, "completed", at)
            if attempt is not None:
                attempt.keys, attempt.route = fact.keys, fact.route
                attempt.duration_s = fact.duration_s if fact.attempts == 1 else attempt.duration_s
        case facts.StepRetried() | facts.FallbackTaken():
            _end(running, fact.position, "retried" if isinstance(fact, facts.StepRetried) else "replaced", at, fact.failure)
        case facts.StepFailed():
            attempt = _end(running, fact.position, "failed", at, fact.failure)
            if attempt is not None and fact.attempts == 1:
                attempt.duration_s = fact.duration_s
        case facts.WorkflowRecovering():
            for position in fact.in_flight:
                _end(running, position, "lost", None)
        case facts.FlowCut() | facts.JoinClosed():
            for position in [position for position in running if is_below(position, fact.position)]:
                _end(running, position, "cut", at, fact.failure if isinstance(fact, facts.FlowCut) else None)
        case facts.WorkflowFailed() | facts.WorkflowCancelled():
            for position in list(running):
                _end(running, position, "cut", at)
        case _:
            pass


def _end(
    running: dict[Position, Attempt], position: Position, outcome: str, at: float | None, failure: Failure | None = None
) -> Attempt | None:
    attempt = running.pop(position, None)
    if attempt is not None:
        attempt.outcome, attempt.failure = outcome, failure
        attempt.duration_s = None if at is None else max(0.0, at - attempt.started_at)
    return attempt


def flow_of(records: Sequence[facts.Record]) -> list[tuple[Position, str]]:
    """Return which way a run went: position and name of each step as it began, and of each choice, without times."""
    found: list[tuple[Position, str]] = []
    for record in records:
        match record.fact:
            case facts.StepStarted(position=position, agent=agent, attempt=1):
                found.append((position, agent))
            case facts.BranchTaken(position=position, name=name):
                found.append((position, f"takes {name}"))
            case facts.LoopEnded(position=position) as fact:
                found.append((position, f"ends after {fact.iterations} round{'s' * (fact.iterations != 1)} ({fact.reason})"))
            case facts.JoinClosed(position=position, counted=counted, reason=reason):
                found.append((position, f"goes on with {len(counted)} branch{'es' * (len(counted) != 1)} ({reason})"))
            case facts.RouteIgnored(position=position, route=route):
                found.append((position, f"hands on to {route}, which nothing encloses"))
            case _:
                pass
    return found


def sequence_diagram(records: Sequence[facts.Record], agent: str | None = None) -> str:
    """Return a run as a Mermaid sequence diagram, that of one agent where it is named."""
    names = list(dict.fromkeys(fact.agent for record in records if isinstance(fact := record.fact, facts.StepStarted)))
    if agent is not None:
        names = [name for name in names if name == agent]
    aliases = {name: f"agent{number}" for number, name in enumerate(names)}
    pattern = next((record.fact.pattern for record in records if isinstance(record.fact, facts.WorkflowCreated)), "")
    lines = ["sequenceDiagram", f"    participant run as {_text(pattern) or 'run'}"]
    lines += [f"    participant {alias} as {_text(name)}" for name, alias in aliases.items()]
    arrows = list(_arrows(records, aliases))
    lines += [f"    {arrow}" for arrow in arrows[:MOST_ARROWS]]
    if len(arrows) > MOST_ARROWS:
        lines.append(f"    Note over run: and {len(arrows) - MOST_ARROWS} more")
    return "\n".join(lines) + "\n"


def _arrows(records: Sequence[facts.Record], aliases: dict[str, str]) -> Iterator[str]:
    agents: dict[Position, str] = {}
    for record in records:
        fact = record.fact
        name = getattr(fact, "agent", None) or agents.get(getattr(fact, "position", ""), "")
        if name:
            agents[getattr(fact, "position", "")] = name
        if name in aliases:
            yield from _arrows_of_step(fact, aliases[name])
        elif not name:
            yield from _notes(fact)


def _arrows_of_step(fact: facts.Fact, alias: str) -> Iterator[str]:
    match fact:
        case facts.StepStarted():
            yield f"run->>{alias}: {fact.position}" + (f", attempt {fact.attempt}" if fact.attempt > 1 else "")
        case facts.StepCompleted():
            told = ", ".join(fact.keys) or "nothing changed"
            yield f"{alias}-->>run: {_text(told)}" + (f", on to {_text(fact.route)}" if fact.route else "")
        case facts.StepRetried():
            yield f"{alias}--xrun: {_text(str(fact.failure))}, again in {fact.wait_s:.3g} s"
        case facts.StepFailed():
            yield f"{alias}--xrun: {_text(str(fact.failure))}"
        case facts.ApprovalRequested():
            yield f"Note over {alias}: waits for approval"
        case facts.ApprovalGranted():
            yield f"Note over {alias}: approved" + (f" by {_text(fact.by)}" if fact.by else "")
        case facts.ApprovalRejected():
            yield f"Note over {alias}: rejected" + (f" by {_text(fact.by)}" if fact.by else "")
        case _:
            pass


def _notes(fact: facts.Fact) -> Iterator[str]:
    match fact:
        case facts.WorkflowPaused():
            yield f"Note over run: paused {_text(fact.reason)}".rstrip()
        case facts.WorkflowResumed():
            yield "Note over run: resumed"
        case facts.WorkflowRecovering():
            yield "Note over run: taken over"
        case facts.JoinClosed():
            yield f"Note over run: join {fact.position} closed, {fact.reason}"
        case facts.WorkflowCompleted(status=status) | facts.WorkflowFailed(status=status):
            yield f"Note over run: {status}"
        case facts.WorkflowCancelled():
            yield "Note over run: cancelled"
        case _:
            pass


def _text(text: str) -> str:
    """Return text as a message of the diagram; one that is long is cut."""
    cut = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"
    return escaped(cut.replace("\n", " "))
