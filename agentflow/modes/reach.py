"""Reach: which flows a named route flow can hand on to without coming back to itself."""

from __future__ import annotations

from collections.abc import Mapping

from agentflow.config.model import Config, FlowConfig
from agentflow.core.plan import Branch, Call, Node, walk_nodes
from agentflow.modes import Mode


def plain_flows(config: Config, modes: Mapping[str, Mode]) -> list[str]:
    """List the flows that are no route flow and name none, directly or by way of others.

    What a flow names is what its mode's plan does; where there is no plan, the flow is taken for a route flow.
    """
    named_by: dict[str, list[str]] = {}
    waiting: list[str] = []
    for name, flow in config.flows.items():
        nodes = _nodes_of(flow, modes)
        if nodes is None or any(isinstance(node, Branch) and node.routes is not None and not node.cases for node in nodes):
            waiting.append(name)
        names = {node.agent for node in nodes or () if isinstance(node, Call)}
        for other in (*names, *(rule.use for rule in flow.switch)):
            named_by.setdefault(other, []).append(name)
    routing = set(waiting)
    while waiting:
        found = [name for name in named_by.get(waiting.pop(), ()) if name not in routing]
        routing.update(found)
        waiting.extend(found)
    return [name for name in config.flows if name not in routing]


def _nodes_of(flow: FlowConfig, modes: Mapping[str, Mode]) -> tuple[Node, ...] | None:
    """Return the nodes of a flow's plan, not linked; None where its mode is unknown or, registered by somebody else, gives no plan."""
    mode = modes.get(flow.mode)
    try:
        return None if mode is None else tuple(walk_nodes(mode.plan(flow)))
    except Exception:  # noqa: BLE001 - linking the flow tells of it
        return None
