"""Modes: each is a pure function from a flow's configuration to a plan. The table MODES holds them by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from agentflow.config.model import FlowConfig
from agentflow.core.plan import Node
from agentflow.modes.collaborative import collaborative
from agentflow.modes.loop import loop
from agentflow.modes.mixed import mixed
from agentflow.modes.route import route
from agentflow.modes.sequential import sequential

Orchestrator: TypeAlias = Callable[[FlowConfig], Node]


@dataclass(frozen=True, slots=True)
class Mode:
    """One mode.

    Attributes:
        plan: the function from a flow's configuration to a plan whose calls name agents and flows.
        keys: the flow keys that this mode reads and not every mode does.
        needs: of each group of keys at least one must be given.
        summary: what it does, in a line.
    """

    plan: Orchestrator
    keys: frozenset[str] = frozenset()
    needs: tuple[tuple[str, ...], ...] = ()
    summary: str = ""


_JOIN = frozenset({"collaborative_agents", "merge", "failure_threshold", "max_concurrency", "quorum", "fail_fast", "join_timeout_seconds"})

MODES: Mapping[str, Mode] = {
    "route": Mode(route, frozenset({"max_hops", "default_agent"}), (), "the event's target answers, and may hand on"),
    "collaborative": Mode(collaborative, _JOIN, (), "all at once on the same event, patches merged in list order"),
    "sequential": Mode(sequential, frozenset({"sequential_agents"}), (("sequential_agents",),), "one after another on one state"),
    "loop": Mode(loop, frozenset({"loop_agent", "max_iterations", "until"}), (("loop_agent",),), "one again and again, until it is done"),
    "mixed": Mode(
        mixed,
        _JOIN | {"sequential_agents"},
        (("collaborative_agents", "sequential_agents"),),
        "all at once, then one after another",
    ),
}

LATER_MODES = (
    "parallel",
    "pipeline",
    "map_reduce",
    "orchestrator_workers",
    "supervisor",
    "hierarchical",
    "peer_to_peer",
    "plan_execute",
    "decision_tree",
    "graph",
)

# Names that a registered mode may not take: those of modes to come, and what is read as `collaborative`.
RESERVED_MODES = frozenset({*LATER_MODES, "collaborate"})
