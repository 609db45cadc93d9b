"""Ledger: what a run, a flow or an agent may use, has reserved and has used.

Before an attempt its figures are reserved, after it what it used is settled in their place: so what was used and what is
reserved never come to more than the budget by a reservation, and an attempt that reserves nothing overshoots by itself at most.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from agentflow.core.row import Row
from agentflow.core.values import Json

WARN_AT = 0.8


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be used at most; None stands for as much as one likes.

    Attributes:
        tokens: input and output tokens together.
        cost_usd: US dollars.
        seconds: of agents' work: the durations of all attempts together.
        calls: attempts.
        warn_at: the share (0 to 1, default 0.8) of any figure at which a warning is told, once.
    """

    tokens: int | None = None
    cost_usd: float | None = None
    seconds: float | None = None
    calls: int | None = None
    warn_at: float = WARN_AT


@dataclass(frozen=True, slots=True)
class Figures:
    """Amounts of what a budget speaks of."""

    tokens: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0
    calls: int = 0

    def __add__(self, other: Figures) -> Figures:
        return Figures(self.tokens + other.tokens, self.cost_usd + other.cost_usd, self.seconds + other.seconds, self.calls + other.calls)

    def __sub__(self, other: Figures) -> Figures:
        return Figures(self.tokens - other.tokens, self.cost_usd - other.cost_usd, self.seconds - other.seconds, self.calls - other.calls)


NAMES = tuple(field.name for field in fields(Figures))


@dataclass(frozen=True, slots=True)
class BudgetSnapshot(Row):
    """How a budget stands. `remaining` has None where there is no limit, and is never below 0."""

    consumed: dict[str, float]
    reserved: dict[str, float]
    limit: dict[str, float | None]
    remaining: dict[str, float | None]
    exhausted: str

    def to_dict(self) -> dict[str, Json]:
        """Return the snapshot as JSON."""
        return {
            "consumed": dict(self.consumed),
            "reserved": dict(self.reserved),
            "limit": dict(self.limit),
            "remaining": dict(self.remaining),
            "exhausted": self.exhausted,
        }


class Ledger:
    """One budget's account. `used` counts all that is settled, `reserved` what attempts in flight may still use."""

    __slots__ = ("budget", "is_warned", "reserved", "used")

    def __init__(self, budget: Budget, used: Figures = Figures()) -> None:
        self.budget = budget
        self.used = used
        self.reserved = Figures()
        self.is_warned = bool(self._over(budget.warn_at))

    def lacks(self, wanted: Figures) -> str:
        """Return the figure that does not suffice for an attempt that reserves `wanted`, "" when all do.

        Nothing begins once a figure is used up; what is reserved counts as used.
        """
        for name, limit in self.limits():
            taken, more = self._taken(name), float(getattr(wanted, name))
            if taken >= limit or taken + more > limit:
                return name
        return ""

    def reserve(self, wanted: Figures) -> None:
        """Set `wanted` aside; only after `lacks` has found nothing."""
        self.reserved += wanted

    def settle(self, wanted: Figures, used: Figures) -> bool:
        """Put what an attempt used in the place of what it had reserved; True when that passes the warning's mark for the first time."""
        self.reserved -= wanted
        self.used += used
        if self.is_warned or not self._over(self.budget.warn_at):
            return False
        self.is_warned = True
        return True

    def snapshot(self) -> BudgetSnapshot:
        """Return how the budget stands."""
        limits = {name: getattr(self.budget, name) for name in NAMES}
        remaining = {name: None if limit is None else max(limit - self._taken(name), 0) for name, limit in limits.items()}
        used, reserved = ({name: getattr(figures, name) for name in NAMES} for figures in (self.used, self.reserved))
        return BudgetSnapshot(used, reserved, limits, remaining, self._over(1.0))

    def _over(self, share: float) -> str:
        for name, limit in self.limits():
            if getattr(self.used, name) >= limit * share:
                return name
        return ""

    def _taken(self, name: str) -> float:
        return float(getattr(self.used, name) + getattr(self.reserved, name))

    def limits(self) -> list[tuple[str, float]]:
        """Return the figures that are bounded, with their bounds."""
        budget = self.budget
        return [(name, limit) for name in NAMES if (limit := getattr(budget, name)) is not None]
