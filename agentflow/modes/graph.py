"""graph: nodes that edges lead from one to the next, one at a time; the first edge whose condition holds is taken."""

from __future__ import annotations

from agentflow.config.display import KeyPath
from agentflow.config.model import FlowConfig
from agentflow.config.patterns import NodeConfig
from agentflow.core.part import Template
from agentflow.core.plan import Branch, Call, Edge, Loop, Node, Unread
from agentflow.modes.limits import ROUTE
from agentflow.modes.members import Member

END = "end"  # where an edge ends the graph, unless a node is named so


def graph(flow: FlowConfig) -> Node:
    """Begin at `entry` and follow `edges`; each node is visited at most `max_visits` times (default 1)."""
    places = places_of(flow)
    tables = {table.name: table for table in reversed(flow.nodes)}
    nodes = tuple(_node(name, at, tables.get(name)) for name, at in places.items())
    visits = flow.max_visits or 1
    return Loop(
        Branch(nodes, routes={name: index for index, name in enumerate(places)}),
        max(1, len(nodes) * visits),
        is_handoff=True,
        entry=flow.entry or "",
        edges=tuple(_edge(flow, index, places) for index in range(len(flow.edges))),
        max_visits=visits,
    )


def places_of(flow: FlowConfig) -> dict[str, KeyPath]:
    """Return the nodes by name, each with the place that names it first; an entry alone is a graph of one node."""
    places: dict[str, KeyPath] = {}
    for index, table in enumerate(flow.nodes):
        places.setdefault(table.name, ("nodes", index, "name"))
    is_named = END in places or any(edge.source == END for edge in flow.edges)
    for index, edge in enumerate(flow.edges):
        places.setdefault(edge.source, ("edges", index, "from"))
        if edge.target != END or is_named:
            places.setdefault(edge.target, ("edges", index, "to"))
    for index, table in enumerate(flow.nodes):
        if table.on_error is not None and table.on_error.startswith(ROUTE):
            places.setdefault(table.on_error.removeprefix(ROUTE), ("nodes", index, "on_error"))
    if not places and flow.entry:
        places[flow.entry] = ("entry",)
    return places


def _node(name: str, at: KeyPath, table: NodeConfig | None) -> Call:
    if table is None:
        return Call(name, part=Member(at=at))
    agent = name if table.agent is None else table.agent
    member = Member(
        id="" if agent == name else name,
        input=None if table.input is None else Template(table.input),
        on_error=table.on_error or "",
        title=table.title,
        at=at if table.agent is None else (*at[:-1], "agent"),
    )
    return Call(agent, part=member)


def _edge(flow: FlowConfig, index: int, places: dict[str, KeyPath]) -> Edge:
    edge = flow.edges[index]
    when = None if edge.when is None else Unread(edge.when, ("edges", index, "when"))
    return Edge(edge.source, edge.target if edge.target in places else "", when)
