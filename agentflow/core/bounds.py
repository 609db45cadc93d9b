"""Bounds: what a plan can come to at most, counted before anything runs.

Each figure is a worst case over all ways through the plan: every branch of a Par runs, every Loop uses all its rounds, a
Branch takes its costliest case, every call fails until its last attempt, and so do those it falls back on. Then each flow goes
on with the call that its `on_error` names, the costliest error handler is called, and every step is undone that can be.
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
        calls: attempts of agents, retries, corrections and fallbacks included.
        steps: calls of agents, each counted once however often it is retried, and whoever answers it.
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
    """Return how many attempts of agents there can be, retries, corrections and fallbacks included."""
    return _counted(plan, _attempts, 0) + _afterwards(plan, _attempts, 0)


def worst_case_steps(plan: Node) -> int:
    """Return how many calls of agents there can be, each counted once however often it is retried, and whoever answers it."""
    return _counted(plan, lambda call: 1, 0) + _afterwards(plan, lambda call: 1, 0)


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
    its concurrency. A flow's own time limit cuts what is below it, and a join's deadline its branches.
    """
    seconds = _folded(plan, _seconds) + _afterwards(plan, _time_of, 0.0)
    return seconds if isfinite(seconds) else None


def nodes_in(plan: Node) -> int:
    """Return how many nodes the tree has; a flow that stands in several places counts in each."""
    return _folded(plan, lambda node, parts: 1 + sum(parts))


def _counted(plan: Node, of_call: Callable[[Call], Figure], nothing: Figure) -> Figure:
    """Add up a figure of each call as often as it can be made; of a Branch the case with the most."""

    def count(node: Node, parts: list[Figure]) -> Figure:
        match node:
            case Call():
                return of_call(node)
            case Seq() | Par():
                total = sum(parts, nothing)
            case Loop():
                total = _times(node.bound, parts[0])
            case Branch():
                total = max(parts, default=nothing)
            case _:
                assert_never(node)
        return total if node.flow is None or node.flow.rescue is None else total + of_call(node.flow.rescue)

    return _folded(plan, count)


def _afterwards(plan: Node, of_call: Callable[[Call], Figure], nothing: Figure) -> Figure:
    """Add up a figure of the calls of the phases after the main one: an error handler, and a compensator for each step."""

    def undoing(call: Call) -> Figure:
        return nothing if call.policy is None or call.policy.compensate is None else of_call(call.policy.compensate)

    routes = None if isinstance(plan, Call) or plan.flow is None else plan.flow.errors
    handlers = () if routes is None else routes.calls
    return max(map(of_call, handlers), default=nothing) + _counted(plan, undoing, nothing)


def _attempts(call: Call) -> int:
    """Return how many attempts a step of this call can come to."""
    policy = call.policy
    if policy is None:
        return 1 + call.retry.max_retries
    return 1 + policy.self_correct + call.retry.max_retries + sum(map(_attempts, policy.fallback))


def _time_of(call: Call) -> float:
    """Return how long a step of this call can take: its time limit at each attempt, the waits between them, and its fallbacks."""
    corrections = 0 if call.policy is None else call.policy.self_correct
    seconds = call.timeout_s * (1 + corrections + call.retry.max_retries) + _waits(call.retry)
    return seconds if call.policy is None else seconds + sum(map(_time_of, call.policy.fallback))


def _seconds(node: Node, parts: list[float]) -> float:
    match node:
        case Call():
            return _time_of(node)
        case Seq():
            seconds = sum(parts)
        case Par():
            waves = -(-len(parts) // max(1, node.concurrency))
            seconds = waves * max(parts, default=0.0)
            seconds = seconds if node.join_timeout_s is None else min(seconds, node.join_timeout_s)
        case Loop():
            seconds = _times(node.bound, parts[0])
        case Branch():
            seconds = max(parts, default=0.0)
        case _:
            assert_never(node)
    if node.flow is None:
        return seconds
    seconds += 0.0 if node.flow.rescue is None else _time_of(node.flow.rescue)
    return seconds if node.flow.timeout_s is None else min(seconds, node.flow.timeout_s)


def _waits(retry: Retry) -> float:
    total, delay = 0.0, retry.initial_delay_s
    for _ in range(retry.max_retries):
        total += min(delay, retry.max_delay_s) * (JITTER if retry.jitter else 1.0)
        delay = min(delay * retry.factor, retry.max_delay_s)
    return total


def _times(count: int, figure: Figure) -> Figure:
    try:
        return count * figure
    except OverflowError:
        return figure * inf  # type: ignore[return-value] # only a float overflows


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
