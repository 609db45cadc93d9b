"""A plan as an indented tree for a person."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from agentflow.core.bounds import most_items
from agentflow.core.diagram import ROUNDS, shown, source_told
from agentflow.core.ledger import NAMES, Budget
from agentflow.core.plan import CONTINUE, Branch, Call, Edge, ErrorRoutes, Flow, Loop, Map, Node, Par, Policy, Seq, children, part_of

MOST_LINES = 2000


def lines_of(plan: Node) -> list[str]:
    """Return the tree's lines. A named flow that stands in several places is shown whole in the first."""
    tree = _Tree()
    tree.add(plan, "", "")
    routes = None if isinstance(plan, Call) or plan.flow is None else plan.flow.errors
    return tree.lines if routes is None else [*tree.lines, *_handlers(routes)]


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
        if isinstance(node, Loop):
            self.lines += [f"{indent}  {_edge(edge, node.edges)}" for edge in node.edges]


def title(node: Node) -> str:
    """Return what a node does, with the name and mode of the flow that it is."""
    told = _does(node)
    if isinstance(node, Call) or node.flow is None:
        return told + _part(node)
    limit = f", within {node.flow.timeout_s:g} s" if node.flow.timeout_s is not None else ""
    return f"{shown(node)} [{node.flow.mode}]: {told}{limit}{_on_error(node.flow)}{_budget(node.flow.budget)}{_part(node)}"


def _does(node: Node) -> str:
    match node:
        case Call():
            retries = f", {node.retry.max_retries} retries" if node.retry.max_retries else ""
            approval = f", after approval within {node.approval_timeout_s:g} s" if node.approval_timeout_s is not None else ""
            return f"{shown(node)} (at most {node.timeout_s:g} s{retries}{approval}{_policy(node.policy)})"
        case Seq():
            return "one after another"
        case Par():
            limit = f"above {node.failure_threshold:g}" if node.quorum is None else f"below {node.quorum} successes"
            early = ", at once" if node.fail_fast else ""
            closing = f"; closed after {node.join_timeout_s:g} s" if node.join_timeout_s is not None else ""
            merge = f"merge {node.merge.default}" if node.aggregate is None else f"aggregate {node.aggregate.source}"
            return f"all at once, {node.concurrency} at a time; fails {limit}{early}; {merge}{closing}"
        case Map():
            most = f", at most {most_items(node):,}" if most_items(node) > 1 else ""
            kept = "kept for the next step" if node.is_collecting else f"merge {node.merge.default}"
            limit = "failures go to the next step" if node.is_bearing else f"fails above {node.failure_threshold:g}"
            return f"{source_told(node)}{most}, {node.concurrency} at a time; {limit}; {kept}"
        case Loop():
            return _repeats(node)
        case Branch():
            return "the one that is routed to" if node.routes is not None else "the first that applies"
        case _:
            assert_never(node)


def _repeats(node: Loop) -> str:
    if node.agenda is not None:
        rule, unit = ROUNDS[node.agenda.kind]
        replans = f", {node.agenda.most_replans} revisions" if node.agenda.most_replans else ""
        return f"repeat until {rule}, at most {node.bound:,} {unit}, {node.agenda.most:,} steps in all{replans}"
    if node.entry:
        return f"go from node to node, beginning at {node.entry}, each at most {node.max_visits or node.bound:,} times"
    if node.is_handoff and node.entry is not None:
        return f"answer the questions, then hand on, at most {node.bound - 1:,} times"
    if node.is_handoff:
        return f"hand on, at most {node.bound - 1} times"
    return f"repeat, at most {node.bound} rounds" + (f", until {node.until.source}" if node.until is not None else "")


def _edge(edge: Edge, edges: tuple[Edge, ...]) -> str:
    """Return a way from node to node, with what it is taken for."""
    is_else = edge.when is None and sum(other.source == edge.source for other in edges) > 1
    rule = "" if edge.when is None else f" if {edge.when.source}"
    return f"{'else ' if is_else else ''}{edge.source} -> {edge.target or 'end'}{rule}"


def _part(node: Node) -> str:
    """Return what a member's failure does where that is its own."""
    part = part_of(node)
    return f", on error: {part.on_error}" if part is not None and part.on_error else ""


def _policy(policy: Policy | None) -> str:
    if policy is None:
        return ""
    told = [f"{policy.self_correct} corrections"] if policy.self_correct else []
    if policy.fallback:
        errors = "" if policy.fallback_on is None else f" on {', '.join(policy.fallback_on)}"
        told.append(f"or else {', '.join(call.agent for call in policy.fallback)}{errors}")
    told += [] if policy.default_output is None else ["or else its default output"]
    told += [] if policy.cache_s is None else [f"answers kept for {policy.cache_s:g} s"]
    told += [] if policy.compensate is None else [f"undone by {policy.compensate.agent}"]
    told += ["in the background"] if policy.is_background else []
    return "".join(f", {text}" for text in told) + _budget(policy.budget)


def _on_error(flow: Flow) -> str:
    if flow.rescue is not None:
        return f", on error: {flow.rescue.agent}"
    return ", goes on after errors" if flow.on_error == CONTINUE else ""


def _budget(budget: Budget | None) -> str:
    if budget is None:
        return ""
    figures = [f"{figure:g} {name}" for name in NAMES if (figure := getattr(budget, name)) is not None]
    return f", budget {', '.join(figures)}"


def _handlers(routes: ErrorRoutes) -> Iterator[str]:
    """Yield a line for each way to a handler, the one that is looked for first coming first."""
    for kind, table in (("code", routes.codes), ("severity", routes.severities), ("category", routes.categories)):
        for key, call in table.items():
            yield f"when it fails with {kind} {key}: {title(call)}"
    if routes.default is not None:
        yield f"when it fails{' otherwise' if len(routes.calls) > 1 else ''}: {title(routes.default)}"


def _way(node: Node, index: int) -> str:
    """Return what stands before a case: its condition, or the else."""
    if not isinstance(node, Branch) or node.routes is not None:
        return ""  # a member's own line says who it is
    return f"if {node.conditions[index].source}: " if index < len(node.conditions) else "else: "
