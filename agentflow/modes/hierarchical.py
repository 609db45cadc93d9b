"""hierarchical: a supervisor whose members may be flows with supervisors of their own, to a bounded depth."""

from __future__ import annotations

from collections.abc import Iterator

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.model import FlowConfig
from agentflow.core.plan import Call, Node, children
from agentflow.modes.supervisor import supervisor

_LED = frozenset({"supervisor", "hierarchical"})


def hierarchical(flow: FlowConfig) -> Node:
    """Do what `supervisor` does; flows among `agents` are the levels below."""
    return supervisor(flow)


def mistakes_in_depth(flow: FlowConfig, plan: Node) -> Iterator[Diagnostic]:
    """Yield that a linked plan has more levels of supervisors than `max_depth`."""
    levels = 1 + _levels(plan, {})
    if levels > flow.max_depth:
        told = f"there are {levels} levels of supervisors, and `max_depth` is {flow.max_depth}"
        yield Diagnostic("AF0239", told, ("agents",), "key", "raise max_depth, or take a level out")


def _levels(node: Node, known: dict[int, int]) -> int:
    """Return how many levels of supervisors are below a node; `known` holds those of nodes that were looked at."""
    if id(node) not in known:
        below = max((_levels(child, known) + _is_led(child) for child in children(node)), default=0)
        known[id(node)] = below
    return known[id(node)]


def _is_led(node: Node) -> bool:
    return not isinstance(node, Call) and node.flow is not None and node.flow.mode in _LED
