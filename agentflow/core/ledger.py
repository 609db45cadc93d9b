"""Ledger: what a run, a flow or an agent may use, has reserved and has used.

Before an attempt its figures are reserved, after it what it used is settled in their place: so what was used and what is
reserved never come to more than the budget by a reservation, and an attempt that reserves nothing overshoots by itself at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

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
    """How a budget stands; it does not change any more.

    Attributes:
        consumed: what was used, by figure: tokens, cost_usd, seconds, calls.
        reserved: what attempts in flight have set aside.
        limit: what may be used; None for as much as one likes.
        remaining: what is neither used nor reserved; None where there is no limit, and never below 0.
        exhausted: the figure that is used up, "" while none is.
    """

    consumed: Mapping[str, float]
    reserved: Mapping[str, float]
    limit: Mapping[str, float | None]
    remaining: Mapping[str, float | None]
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

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.used = self.reserved = Figures()
        self.is_warned = False

    def lacks(self, wanted: Figures) -> str:
        """Return the figure that does not suffice for an attempt that reserves `wanted`, "" when all do.

        Nothing begins once a figure is used up; what is reserved counts as used.
        """
        for name, limit in self.limits():
            taken, more = self.taken(name), float(getattr(wanted, name))
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
        if self.is_warned or not self.over(self.budget.warn_at):
            return False
        self.is_warned = True
        return True

    def snapshot(self) -> BudgetSnapshot:
        """Return how the budget stands."""
        limits = {name: getattr(self.budget, name) for name in NAMES}
        remaining = {name: None if limit is None else max(limit - self.taken(name), 0) for name, limit in limits.items()}
        used, reserved = ({name: getattr(figures, name) for name in NAMES} for figures in (self.used, self.reserved))
        views = MappingProxyType(used), MappingProxyType(reserved), MappingProxyType(limits), MappingProxyType(remaining)
        return BudgetSnapshot(*views, self.over(1.0))

    def over(self, share: float) -> str:
        """Return the first figure of which a share of its limit is used, "" for none."""
        for name, limit in self.limits():
            if getattr(self.used, name) >= limit * share:
                return name
        return ""

    def taken(self, name: str) -> float:
        """Return how much of a figure is used or reserved."""
        taken: float = getattr(self.used, name) + getattr(self.reserved, name)  # a whole number stays one
        return taken

    def limits(self) -> list[tuple[str, float]]:
        """Return the figures that are bounded, with their bounds."""
        budget = self.budget
        return [(name, limit) for name in NAMES if (limit := getattr(budget, name)) is not None]
