"""Walks: which kind of walk a plan needs."""

from __future__ import annotations

from agentflow.core.agenda_walk import AgendaWalk, has_agenda
from agentflow.core.event import Event
from agentflow.core.map_walk import MapWalk, has_inputs
from agentflow.core.plan import Node, walk_nodes
from agentflow.core.policy_walk import PolicyWalk, has_policy
from agentflow.core.state import Scope
from agentflow.core.walk import Walk


def walk_of(plan: Node, event: Event, scope: Scope, *, is_noting: bool = False) -> Walk:
    """Return a walk through a plan, of the kind that the plan needs."""
    return kind_of(plan)(plan, event, scope, is_noting=is_noting)


def kind_of(plan: Node) -> type[Walk]:
    """Return the kind of walk that a plan needs; it looks through the whole plan, so ask once for each."""
    nodes = tuple(walk_nodes(plan))
    if any(map(has_agenda, nodes)):
        return AgendaWalk
    if any(map(has_inputs, nodes)):
        return MapWalk
    return PolicyWalk if any(map(has_policy, nodes)) else Walk
