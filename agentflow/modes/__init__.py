"""Modes: each is a pure function from a flow's configuration to a plan. The table MODES holds them by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.model import FlowConfig
from agentflow.core.plan import Node
from agentflow.modes import decision_tree as tree
from agentflow.modes import graph_checks, map_reduce, orchestrator_workers, parallel, pipeline, plan_execute
from agentflow.modes.collaborative import collaborative
from agentflow.modes.findings import Near
from agentflow.modes.graph import graph
from agentflow.modes.hierarchical import hierarchical, mistakes_in_depth
from agentflow.modes.loop import loop
from agentflow.modes.mixed import mixed
from agentflow.modes.peer_to_peer import peer_to_peer
from agentflow.modes.route import route
from agentflow.modes.sequential import sequential
from agentflow.modes.supervisor import supervisor

Orchestrator: TypeAlias = Callable[[FlowConfig], Node]


@dataclass(frozen=True, slots=True)
class Mode:
    """One mode.

    Attributes:
        plan: the function from a flow's configuration to a plan whose calls name agents and flows. It takes flows with mistakes, too.
        keys: the flow keys that this mode reads and not every mode does.
        needs: of each group of keys at least one must be given.
        summary: what it does, in a line.
        everyone: the key that stands for all enabled agents where it is missing; "" for none.
        mistakes: what is wrong with the keys beside the names of agents, each with its place in the flow's table.
        mistakes_in_plan: the same of the linked plan.
    """

    plan: Orchestrator
    keys: frozenset[str] = frozenset()
    needs: tuple[tuple[str, ...], ...] = ()
    summary: str = ""
    everyone: str = ""
    mistakes: Callable[[FlowConfig, Near], Iterable[Diagnostic]] = lambda flow, near: ()
    mistakes_in_plan: Callable[[FlowConfig, Node], Iterable[Diagnostic]] = lambda flow, plan: ()


_MANY = frozenset({"max_concurrency", "failure_threshold"})
_MERGED = _MANY | {"merge"}
_JOIN = _MERGED | {"quorum", "fail_fast", "join_timeout_seconds", "aggregate"}
_LED = _MERGED | {"supervisor", "agents", "max_rounds", "synthesizer", "default_agent"}
_WORKERS = _MANY | {"planner", "workers", "synthesizer", "max_tasks", "default_agent", "steps"}
_PLANNED = frozenset(
    {"planner", "agents", "replanner", "max_replans", "max_tasks", "synthesizer", "default_agent", "max_concurrency", "merge"}
)

MODES: Mapping[str, Mode] = {
    "route": Mode(route, frozenset({"max_hops", "default_agent"}), (), "the event's target answers, and may hand on"),
    "collaborative": Mode(
        collaborative,
        _JOIN | {"collaborative_agents"},
        (),
        "all at once on the same event, patches merged in list order",
        everyone="collaborative_agents",
    ),
    "sequential": Mode(sequential, frozenset({"sequential_agents"}), (("sequential_agents",),), "one after another on one state"),
    "loop": Mode(loop, frozenset({"loop_agent", "max_iterations", "until"}), (("loop_agent",),), "one again and again, until it is done"),
    "mixed": Mode(
        mixed,
        _JOIN | {"collaborative_agents", "sequential_agents"},
        (("collaborative_agents", "sequential_agents"),),
        "all at once, then one after another",
    ),
    "parallel": Mode(
        parallel.parallel,
        _JOIN | {"steps"},
        (("steps",),),
        "steps at once, each with its own input, in the order of what they depend on",
        mistakes=parallel.mistakes,
    ),
    "pipeline": Mode(
        pipeline.pipeline,
        _MANY | {"steps", "sequential_agents", "over", "max_tasks"},
        (("steps", "sequential_agents"),),
        "the answer of each is the input of the next",
        mistakes=pipeline.mistakes,
    ),
    "map_reduce": Mode(
        map_reduce.map_reduce,
        _MANY | {"steps", "map", "over", "reduce", "map_failures", "max_tasks"},
        (("map", "steps"), ("over", "steps"), ("reduce", "steps")),
        "one agent for each item of a list, then one on all results",
        mistakes=map_reduce.mistakes,
    ),
    "orchestrator_workers": Mode(
        orchestrator_workers.orchestrator_workers,
        _WORKERS,
        (("planner", "steps"), ("workers", "steps")),
        "a planner makes tasks, workers do them, one sums up",
        mistakes=orchestrator_workers.mistakes,
    ),
    "supervisor": Mode(supervisor, _LED, (("supervisor",), ("agents",)), "one says who works next, round after round"),
    "hierarchical": Mode(
        hierarchical,
        _LED | {"max_depth"},
        (("supervisor",), ("agents",)),
        "supervisors over flows with supervisors",
        mistakes_in_plan=mistakes_in_depth,
    ),
    "peer_to_peer": Mode(peer_to_peer, _MERGED | {"agents", "max_messages"}, (("agents",),), "agents send each other messages"),
    "plan_execute": Mode(
        plan_execute.plan_execute,
        _PLANNED,
        (("planner",), ("agents",)),
        "a planner makes a plan, its steps run, the rest may be replanned",
        mistakes=plan_execute.mistakes,
    ),
    "decision_tree": Mode(
        tree.decision_tree,
        frozenset({"branches", "max_hops"}),
        (("branches",),),
        "questions lead to the agent that answers",
        mistakes=tree.mistakes,
    ),
    "graph": Mode(
        graph,
        frozenset({"nodes", "edges", "entry", "max_visits"}),
        (("entry",),),
        "edges with conditions lead from one node to the next",
        mistakes=graph_checks.mistakes,
    ),
}

# Names that a registered mode may not take: what is read as `collaborative`.
RESERVED_MODES = frozenset({"collaborate"})
