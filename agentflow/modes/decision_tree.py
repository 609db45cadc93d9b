"""decision_tree: questions over the event and the state lead to the agent that answers, which may hand on to another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.display import KeyPath
from agentflow.config.model import FlowConfig
from agentflow.config.patterns import BranchConfig
from agentflow.core.plan import Branch, Call, Loop, Node, Unread, walk_nodes
from agentflow.modes.findings import Near
from agentflow.modes.members import Member

Way: TypeAlias = str | BranchConfig | list[BranchConfig]
Rows: TypeAlias = list[tuple[BranchConfig, KeyPath]]  # questions that are asked one after another, each with its place


def decision_tree(flow: FlowConfig) -> Node:
    """Ask the questions of `branches`; the member that they lead to may hand on, at most `max_hops` times."""
    tree = _asked(_rows(flow.branches, ("branches",)))
    members: dict[str, Call] = {}
    for node in walk_nodes(tree):
        if isinstance(node, Call):
            members.setdefault(node.agent, node)
    routes = {"": 0, **{name: number for number, name in enumerate(members, 1)}}
    return Loop(Branch((tree, *members.values()), routes=routes), flow.max_hops + 1, is_handoff=True, entry="")


def mistakes(flow: FlowConfig, near: Near) -> Iterator[Diagnostic]:
    """Yield each question that is never asked, and each way that leads nowhere."""
    waiting = [_rows(flow.branches, ("branches",))]
    while waiting:
        rows = waiting.pop()
        for row, at in rows:
            if row.otherwise is not None and row is not rows[-1][0]:
                told = "the questions after this one are never asked: it has an else"
                yield Diagnostic("AF0238", told, (*at, "else"), "key", "move the else to the last one, or the others into it")
            for key, way in (("then", row.then), ("else", row.otherwise)):
                if way == []:
                    yield Diagnostic("AF0204", f"`{key}` is empty", (*at, key), help="name an agent or flow, or ask another question")
                elif way is not None and not isinstance(way, str):
                    waiting.append(_rows(way, (*at, key)))


def _asked(rows: Rows) -> Branch:
    ways = [_way(row.then, (*at, "then")) for row, at in rows]
    last, at = rows[-1] if rows else (None, ())
    if last is not None and last.otherwise is not None:
        ways.append(_way(last.otherwise, (*at, "else")))
    return Branch(tuple(ways), tuple(Unread(row.when, (*at, "when")) for row, at in rows))


def _way(way: Way, path: KeyPath) -> Node:
    return Call(way, part=Member(at=path)) if isinstance(way, str) else _asked(_rows(way, path))


def _rows(way: BranchConfig | list[BranchConfig], path: KeyPath) -> Rows:
    return [(way, path)] if isinstance(way, BranchConfig) else [(row, (*path, index)) for index, row in enumerate(way)]
