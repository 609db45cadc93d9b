"""Bounds: what a plan can come to at most, counted before anything runs.

Each figure is a worst case over all ways through the plan: every branch of a Par runs, every Loop uses all its rounds, a
Branch takes its costliest case, every call fails until its last attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite
from typing import TypeVar, assert_never

from agentflow.core.plan import Branch, Call, Loop, Node, Par, Retry, Seq, children

Figure = TypeVar("Figure", int, float)

JITTER = 1.1  # a wait is at most a tenth longer than its policy says


@dataclass(frozen=True, slots=True)
class Bounds:
    """The worst case of a plan.

    Attributes:
        calls: attempts of agents, retries included.
        steps: calls of agents, retries not counted.
        hops: hand-offs of route flows.
        wall_s: seconds from start to end, when every handler obeys its time limit, waits for approvals not counted; None when
            no number can hold it.
    """

    calls: int
    steps: int
    hops: int
    wall_s: float | None


def bounds_of(plan: Node) -> Bounds:
    """Return the worst case of a plan."""
    return Bounds(worst_case_calls(plan), worst_case_steps(plan), worst_case_hops(plan), worst_case_seconds(plan))


def worst_case_calls(plan: Node) -> int:
    """Return how many attempts of agents there can be, retries included."""
    return _counted(plan, lambda call: 1 + call.retry.max_retries)


def worst_case_steps(plan: Node) -> int:
    """Return how many calls of agents there can be, each counted once however often it is retried."""
    return _counted(plan, lambda call: 1)


def worst_case_hops(plan: Node) -> int:
    """Return how many hand-offs the plan's route flows can make."""

    def count(node: Node, parts: list[int]) -> int:
        if isinstance(node, Loop):
            return (node.bound - 1) * node.is_handoff + node.bound * parts[0]
        return max(parts, default=0) if isinstance(node, Branch) else sum(parts)

    return _folded(plan, count)


def worst_case_seconds(plan: Node) -> float | None:
    """Return how long the plan can take, in seconds; None when that is beyond every number.

    A call takes its time limit at each attempt, and the longest waits between them. The branches of a Par go in waves of
    its concurrency. A flow's own time limit cuts what is below it.
    """
    seconds = _folded(plan, _seconds)
    return seconds if isfinite(seconds) else None


def nodes_in(plan: Node) -> int:
    """Return how many nodes the tree has; a flow that stands in several places counts in each."""
    return _folded(plan, lambda node, parts: 1 + sum(parts))


def _counted(plan: Node, of_call: Callable[[Call], int]) -> int:
    def count(node: Node, parts: list[int]) -> int:
        match node:
            case Call():
                return of_call(node)
            case Seq() | Par():
                return sum(parts)
            case Loop():
                return node.bound * parts[0]
            case Branch():
                return max(parts, default=0)
            case _:
                assert_never(node)

    return _folded(plan, count)


def _seconds(node: Node, parts: list[float]) -> float:
    match node:
        case Call():
            return node.timeout_s * (1 + node.retry.max_retries) + _waits(node.retry)
        case Seq():
            seconds = sum(parts)
        case Par():
            waves = -(-len(parts) // max(1, node.concurrency))
            seconds = waves * max(parts, default=0.0)
        case Loop():
            seconds = _times(node.bound, parts[0])
        case Branch():
            seconds = max(parts, default=0.0)
        case _:
            assert_never(node)
    limit = node.flow.timeout_s if node.flow is not None else None
    return seconds if limit is None else min(seconds, limit)


def _waits(retry: Retry) -> float:
    total, delay = 0.0, retry.initial_delay_s
    for _ in range(retry.max_retries):
        total += min(delay, retry.max_delay_s) * (JITTER if retry.jitter else 1.0)
        delay = min(delay * retry.factor, retry.max_delay_s)
    return total


def _times(count: int, seconds: float) -> float:
    try:
        return count * seconds
    except OverflowError:
        return inf


def _folded(plan: Node, fold: Callable[[Node, list[Figure]], Figure]) -> Figure:
    """Fold a plan from its leaves; a flow that stands in several places is folded once."""
    known: dict[int, Figure] = {}
    stack = [plan]
    while stack:
        node = stack[-1]
        parts = children(node)
        missing = {id(part): part for part in parts if id(part) not in known}
        if missing:
            stack.extend(missing.values())
        else:
            known[id(node)] = fold(node, [known[id(part)] for part in parts])
            stack.pop()
    return known[id(plan)]
