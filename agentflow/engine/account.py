"""Account: what one run has of its budgets while it is open."""

from __future__ import annotations

from dataclasses import dataclass, field

from agentflow.core.failure import Failure
from agentflow.core.ledger import Ledger
from agentflow.core.plan import Call, Position


@dataclass(slots=True)
class Account:
    """What one run has of its budgets.

    Attributes:
        ledgers: by scope: "" for the run, "agent:NAME", "flow:POSITION".
        reserved: the calls for which attempts in flight have reserved, by position.
        denials: why a call that is about to begin may not, by position.
        exhausted: the scopes that were told to be used up.
        denied: why nothing of the run begins any more.
    """

    ledgers: dict[str, Ledger] = field(default_factory=dict)
    reserved: dict[Position, Call] = field(default_factory=dict)
    denials: dict[Position, Failure] = field(default_factory=dict)
    exhausted: set[str] = field(default_factory=set)
    denied: Failure | None = None
