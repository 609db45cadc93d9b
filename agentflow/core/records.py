"""Records: facts about a run, in the past tense, never changed.

Observers get each as a `Record`: run, time and fact. `BranchTaken`, `LoopEnded` and `RouteIgnored` are choices that the
walk makes by itself; the others come from the engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from agentflow.core.failure import Failure
from agentflow.core.plan import Position
from agentflow.core.values import Json


@dataclass(frozen=True, slots=True)
class WorkflowCreated:
    """A run began: which event it serves and which flow it walks."""

    event_id: str
    target: str
    pattern: str
    session_id: str | None


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step's first attempt began."""

    position: Position
    agent: str


@dataclass(frozen=True, slots=True)
class StepRetried:
    """A step's attempt failed and is made again after a wait; `attempt` is the number of the one that failed."""

    position: Position
    agent: str
    attempt: int
    wait_s: float
    failure: Failure


@dataclass(frozen=True, slots=True)
class StepCompleted:
    """A step has its answer; `keys` names what it set."""

    position: Position
    agent: str
    attempts: int
    duration_s: float
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StepFailed:
    """A step failed for good, after its last attempt."""

    position: Position
    agent: str
    attempts: int
    duration_s: float
    failure: Failure


@dataclass(frozen=True, slots=True)
class StepAbandoned:
    """A handler did not end although it was cancelled twice; what it still does is nobody's."""

    position: Position
    agent: str


@dataclass(frozen=True, slots=True)
class BranchTaken:
    """A branch took case number `case`, by a condition or a route; `name` is that case's agent or flow."""

    position: Position
    case: int
    name: str


@dataclass(frozen=True, slots=True)
class LoopEnded:
    """A counting loop ended after `iterations` rounds; `reason` is condition_met, max_iterations or error.

    `final` holds the loop's own keys (`iteration`, `loop_complete`, `loop_completed`), which leave the state with it.
    """

    position: Position
    reason: str
    iterations: int
    final: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class RouteIgnored:
    """A step named a route, and no route flow encloses it."""

    position: Position
    route: str


@dataclass(frozen=True, slots=True)
class WorkflowEnded:
    """A run ended: its status, reason and, where it failed, why."""

    status: str
    reason: str
    duration_s: float | None
    failure: Failure | None = None


Note: TypeAlias = BranchTaken | LoopEnded | RouteIgnored
Fact: TypeAlias = WorkflowCreated | StepStarted | StepRetried | StepCompleted | StepFailed | StepAbandoned | Note | WorkflowEnded


@dataclass(frozen=True, slots=True)
class Record:
    """One fact about one run; `at` is in seconds since the epoch."""

    run_id: str
    at: float
    fact: Fact

    @property
    def type(self) -> str:
        """The fact's name, e.g. `StepCompleted`."""
        return type(self.fact).__name__

    def to_dict(self) -> dict[str, Json]:
        """Return the record as JSON."""
        row: dict[str, Json] = {"run_id": self.run_id, "at": self.at, "type": self.type}
        for name in type(self.fact).__slots__:
            value = getattr(self.fact, name)
            if isinstance(value, Failure):
                value = value.to_dict()
            elif isinstance(value, tuple):
                value = list(value)
            elif isinstance(value, Mapping):
                value = dict(value)
            row[name] = value
        return row
