"""What is wrong with a graph beside the names of agents: nodes that nothing reaches, ways that never end, edges that are never taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.display import KeyPath
from agentflow.config.model import FlowConfig
from agentflow.modes.findings import Near
from agentflow.modes.graph import places_of
from agentflow.modes.limits import ROUTE
from agentflow.modes.steps import circle

Ways = Mapping[str, list[str]]  # for each node those that follow it, "" for the end


def mistakes(flow: FlowConfig, near: Near) -> Iterator[Diagnostic]:
    """Yield what is wrong with the nodes and edges beside the names of agents."""
    places = places_of(flow)
    yield from _tables(flow)
    yield from _edges(flow)
    if flow.entry is None:
        return
    if flow.entry not in places:
        hint = near(flow.entry, places) or "name a node, or the end of an edge"
        yield Diagnostic("AF0237", f"`entry` is `{flow.entry}`, and no node is called so", ("entry",), help=hint)
        return
    ways = _ways(flow, places)
    reached = _reached([flow.entry], ways)
    for name, at in places.items():
        if name not in reached:
            yield Diagnostic("AF0233", f"nothing leads to node `{name}`", at, help="add an edge to it, or take it out")
    yield from _circles(flow, places, ways)
    yield from _endless(places, ways, reached)


def _tables(flow: FlowConfig) -> Iterator[Diagnostic]:
    seen: set[str] = set()
    for index, table in enumerate(flow.nodes):
        if table.name in seen:
            yield Diagnostic("AF0225", f"two nodes are called `{table.name}`", ("nodes", index, "name"), help="rename one of them")
        seen.add(table.name)


def _edges(flow: FlowConfig) -> Iterator[Diagnostic]:
    """Yield each edge after one that is taken in any case."""
    always: dict[str, str] = {}
    for index, edge in enumerate(flow.edges):
        if edge.source in always:
            told = (
                f"the edge from `{edge.source}` to `{edge.target}` is never taken: the one to `{always[edge.source]}` before it always is"
            )
            key = "to" if edge.when is None else "when"
            yield Diagnostic("AF0235", told, ("edges", index, key), help="give the one before it a condition, or put it last")
        elif edge.when is None:
            always[edge.source] = edge.target


def _ways(flow: FlowConfig, places: Mapping[str, KeyPath]) -> Ways:
    ways: dict[str, list[str]] = {name: [] for name in places}
    for edge in flow.edges:
        ways[edge.source].append(edge.target if edge.target in places else "")
    for name in [name for name, targets in ways.items() if not targets]:
        ways[name].append("")  # a node that no edge leaves ends the graph
    for table in flow.nodes:
        target = (table.on_error or "").removeprefix(ROUTE)
        if target in places and target != table.on_error:
            ways[table.name].append(target)
    return ways


def _reached(start: Iterable[str], ways: Ways) -> set[str]:
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(ways.get(name, ()))
    return found


def _circles(flow: FlowConfig, places: Mapping[str, KeyPath], ways: Ways) -> Iterator[Diagnostic]:
    names = list(places)
    number = {name: index for index, name in enumerate(names)}
    found = circle([[number[target] for target in ways[name] if target] for name in names])
    if found and flow.max_visits is None:
        told = " -> ".join(names[index] for index in [*found, found[0]])
        yield Diagnostic("AF0236", f"nodes lead back to themselves: {told}", places[names[found[0]]], help="add max_visits to the flow")


def _endless(places: Mapping[str, KeyPath], ways: Ways, reached: set[str]) -> Iterator[Diagnostic]:
    """Yield the nodes from which every path goes on for ever."""
    before: dict[str, list[str]] = {}
    for name, targets in ways.items():
        for target in targets:
            before.setdefault(target, []).append(name)
    ending = _reached([""], before)
    endless = [name for name in places if name in reached and name not in ending]
    if endless:
        told = f"no path ends after {', '.join(f'`{name}`' for name in endless[:10])}"
        yield Diagnostic("AF0234", told, places[endless[0]], help='add an edge with to = "end"')
