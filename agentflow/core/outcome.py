"""Answer: what a call came to. Outcome: what a walk came to."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TypeAlias

from agentflow.core.failure import Failure
from agentflow.core.merge import Conflict
from agentflow.core.plan import Position
from agentflow.core.state import Patch
from agentflow.errors import AttemptLimitError, HistoryLimitError, HopLimitError, JoinError

_REASONS = {
    HopLimitError.code: "hop_limit",
    HistoryLimitError.code: "history_limit",
    JoinError.code: "threshold",
    AttemptLimitError.code: "attempt_limit",
    "timeout": "timeout",
    "budget": "budget",
}
HANDLER, COMPENSATION = "!", "~"  # how positions of the phases after the main one begin
_PHASES = {"": -1, HANDLER: 1, COMPENSATION: 2}
_NUMBERS = re.compile(r"\d+")


Answer: TypeAlias = Patch | Failure  # what a call came to


@dataclass(slots=True)
class Outcome:
    """How a walk stands or ended.

    `reason` is completed, partial, degraded, condition_met, max_iterations, hop_limit, history_limit, attempt_limit, threshold,
    timeout, budget or error. `handling` says what came of the error handler: "" (none was called), recovered, handled or failed.
    `errors` has the failure of each agent or flow that failed for good, `conflicts` the keys on which branches collided.
    """

    reason: str = "completed"
    failure: Failure | None = None
    is_partial: bool = False
    is_degraded: bool = False
    handling: str = ""
    errors: dict[str, Failure] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)

    def tell(self, name: str, failure: Failure) -> None:
        """Keep the failure of an agent or flow: of several the one that stands last in the plan, whichever came last."""
        if name not in self.errors or rank_of(self.errors[name].position) <= rank_of(failure.position):
            self.errors[name] = failure

    def degrade(self, failure: Failure) -> None:
        """Keep the failure of a step that its `default_output` has answered."""
        self.is_degraded = True
        self.tell(failure.agent, failure)

    def close(self) -> None:
        """Say why the walk ended, and put all in the plan's order, in which order soever its calls were completed."""
        if self.failure is not None:
            self.reason = _REASONS.get(self.failure.code, "error")
        elif self.is_partial and self.reason == "completed":
            self.reason = "partial"
        elif self.is_degraded and self.reason == "completed":
            self.reason = "degraded"
        if len(self.errors) > 1:
            self.errors = dict(sorted(self.errors.items(), key=lambda item: (rank_of(item[1].position), item[0])))
        self.conflicts.sort(key=lambda conflict: rank_of(conflict.position))


def rank_of(position: Position) -> list[int]:
    """Return what orders positions: of the run as a whole, of steps as they stand in the plan, of the handler, of compensators."""
    return [_PHASES.get(position[:1], 0), *(int(number) for number in _NUMBERS.findall(position))]
