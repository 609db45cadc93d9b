"""A plan as an indented tree for a person."""

from __future__ import annotations

from typing import assert_never

from agentflow.core.plan import Branch, Call, Loop, Node, Par, Seq, children

MOST_LINES = 2000


def lines_of(plan: Node) -> list[str]:
    """Return the tree's lines. A named flow that stands in several places is shown whole in the first."""
    tree = _Tree()
    tree.add(plan, "", "")
    return tree.lines


class _Tree:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self._shown: set[int] = set()

    def add(self, node: Node, indent: str, label: str) -> None:
        """Add a node and what is below it."""
        if len(self.lines) >= MOST_LINES:
            if len(self.lines) == MOST_LINES:
                self.lines.append("...")
            return
        is_repeated = not isinstance(node, Call) and node.flow is not None and id(node) in self._shown
        self.lines.append(indent + label + title(node) + (" (as above)" if is_repeated else ""))
        if is_repeated:
            return
        self._shown.add(id(node))
        for index, child in enumerate(children(node)):
            self.add(child, indent + "  ", _way(node, index))


def title(node: Node) -> str:
    """Return what a node does, with the name and mode of the flow that it is."""
    told = _does(node)
    if isinstance(node, Call) or node.flow is None:
        return told
    limit = f", within {node.flow.timeout_s:g} s" if node.flow.timeout_s is not None else ""
    return f"{node.flow.name} [{node.flow.mode}]: {told}{limit}"


def _does(node: Node) -> str:
    match node:
        case Call():
            retries = f", {node.retry.max_retries} retries" if node.retry.max_retries else ""
            approval = f", after approval within {node.approval_timeout_s:g} s" if node.approval_timeout_s is not None else ""
            return f"{node.agent} (at most {node.timeout_s:g} s{retries}{approval})"
        case Seq():
            return "one after another"
        case Par():
            return f"all at once, {node.concurrency} at a time; fails above {node.failure_threshold:g}; merge {node.merge.default}"
        case Loop():
            if node.is_handoff:
                return f"hand on, at most {node.bound - 1} times"
            return f"repeat, at most {node.bound} rounds" + (f", until {node.until.source}" if node.until is not None else "")
        case Branch():
            return "the one that is routed to" if node.routes is not None else "the first that applies"
        case _:
            assert_never(node)


def _way(node: Node, index: int) -> str:
    """Return what stands before a case: its condition, or the else."""
    if not isinstance(node, Branch) or node.routes is not None:
        return ""
    return f"if {node.conditions[index].source}: " if index < len(node.conditions) else "else: "
