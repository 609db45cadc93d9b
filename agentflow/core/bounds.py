"""Bounds: what a plan can come to at most, counted before anything runs.

Each figure is a worst case over all ways through the plan: every branch of a Par runs, every Loop uses all its rounds and every
Map has as many items as it may, a Branch takes its costliest case, every call fails until its last attempt, and so do those it
falls back on. Then each flow goes on with the call that its `on_error` names, the costliest error handler is called, and every
step is undone that can be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import Generic, TypeAlias, TypeVar, assert_never

from agentflow.core.plan import AGENDA, STEPS, Branch, Call, Loop, Map, Node, Par, Retry, Seq, agents_of, children

Figure = TypeVar("Figure", int, float)
Of: TypeAlias = Callable[[Node], Figure]  # the figure of a node below the one at hand

JITTER = 1.1  # a wait is at most a tenth longer than its policy says


@dataclass(frozen=True, slots=True)
class Bounds:
    """The worst case of a plan.

    Attributes:
        calls: attempts of agents, retries, corrections and fallbacks included.
        steps: calls of agents, each counted once however often it is retried, and whoever answers it.
        hops: hand-offs of route flows and decision trees, and ways from node to node in graphs.
        wall_s: seconds from start to end, when every handler obeys its time limit, waits for approvals not counted; None when
            no number can hold it.
    """

    calls: int
    steps: int
    hops: int
    wall_s: float | None


@dataclass(frozen=True, slots=True)
class _Measure(Generic[Figure]):
    """What is added up: a figure of each call, one of each loop itself, and what no flow can exceed."""

    nothing: Figure
    of_call: Callable[[Call], Figure]
    of_loop: Callable[[Loop], Figure] | None = None
    is_attempts: bool = False  # then a flow's budget of calls caps it


def bounds_of(plan: Node) -> Bounds:
    """Return the worst case of a plan."""
    return Bounds(worst_case_calls(plan), worst_case_steps(plan), worst_case_hops(plan), worst_case_seconds(plan))


def worst_case_calls(plan: Node) -> int:
    """Return how many attempts of agents there can be, retries, corrections and fallbacks included.

    A budget of calls caps those of its flow, `max_total_attempts` those that are made because others have failed.
    """
    most = _counted(plan, _Measure(0, _attempts, is_attempts=True)) + _afterwards(plan, _attempts, 0)
    flow = None if isinstance(plan, Call) else plan.flow
    return most if flow is None else min(most, worst_case_steps(plan) + flow.max_total_attempts)


def worst_case_steps(plan: Node) -> int:
    """Return how many calls of agents there can be, each counted once however often it is retried, and whoever answers it."""
    return _counted(plan, _Measure(0, lambda call: 1)) + _afterwards(plan, lambda call: 1, 0)


def worst_case_hops(plan: Node) -> int:
    """Return how often the plan's route flows, decision trees and graphs can go on from one member to another."""

    def hops(loop: Loop) -> int:
        return max(0, sum(often for often, _ in _visits(loop, lambda _: 0)) - 1) if loop.is_handoff else 0

    return _counted(plan, _Measure(0, lambda call: 0, hops))


def worst_case_tokens(plan: Node, of_agent: Mapping[str, int]) -> int | None:
    """Return how many tokens all attempts can come to, from those of one attempt by agent; None when an agent is not among them."""
    if any(agent not in of_agent for agent in agents_of(plan)):
        return None

    def tokens(call: Call) -> int:
        chain = () if call.policy is None else call.policy.fallback
        return own_attempts(call) * of_agent[call.agent] + sum(map(tokens, chain))

    return _counted(plan, _Measure(0, tokens)) + _afterwards(plan, tokens, 0)


def worst_case_seconds(plan: Node) -> float | None:
    """Return how long the plan can take, in seconds; None when that is beyond every number.

    A call takes its time limit at each attempt, and the longest waits between them. The branches of a Par and the items of a
    Map go in waves of its concurrency. A flow's own time limit cuts what is below it, and a join's deadline its branches.
    """
    seconds = _folded(plan, _seconds) + _afterwards(plan, _time_of, 0.0)
    return seconds if isfinite(seconds) else None


def nodes_in(plan: Node) -> int:
    """Return how many nodes the tree has; a flow that stands in several places counts in each."""

    def count(node: Node, of: Of[int]) -> int:
        return 1 + sum(map(of, children(node)))

    return _folded(plan, count)


def own_attempts(call: Call) -> int:
    """Return how many attempts of a call's own agent one step can come to."""
    return 1 + call.retry.max_retries + (0 if call.policy is None else call.policy.self_correct)


def most_items(node: Map) -> int:
    """Return how many items a Map has at most each time it begins."""
    return len(node.body.cases) if node.source == STEPS and isinstance(node.body, Branch) else node.most


def _counted(plan: Node, measure: _Measure[Figure]) -> Figure:
    """Add up a figure as often as it can come up; of a Branch the case with the most."""
    nothing = measure.nothing

    def count(node: Node, of: Of[Figure]) -> Figure:
        match node:
            case Call():
                return measure.of_call(node)
            case Seq() | Par():
                total = sum(map(of, children(node)), nothing)
            case Loop():
                total = nothing if measure.of_loop is None else measure.of_loop(node)
                total += sum((_times(often, of(part)) for often, part in _visits(node, of)), nothing)
            case Map(body=Branch(cases=cases)) if node.source == STEPS:
                total = sum(map(of, cases), nothing)
            case Map():
                total = _times(node.most, of(node.body))
            case Branch():
                total = max(map(of, node.cases), default=nothing)
            case _:
                assert_never(node)
        if node.flow is None:
            return total
        budget, rescue = node.flow.budget, node.flow.rescue
        if measure.is_attempts and budget is not None and budget.calls is not None:
            total = min(total, budget.calls)
        return total if rescue is None else total + measure.of_call(rescue)

    return _folded(plan, count)


def _visits(loop: Loop, of: Of[Figure], *, is_timed: bool = False) -> Iterator[tuple[int, Node]]:
    """Yield how often each part of a loop is done at worst, by what one time of it comes to.

    Of what a loop's agenda holds that is each item, or with `is_timed` as many items as are done at once: it holds so many over
    all its rounds, however they are spread.
    """
    if loop.is_handoff and isinstance(loop.body, Branch):
        cases, left = loop.body.cases, loop.bound
        for index in sorted(range(len(cases)), key=lambda index: of(cases[index]), reverse=True):
            often = min(left, _most_visits(loop, loop.body, index))
            left -= often
            yield often, cases[index]
        return
    body = loop.body
    for part in body.steps if isinstance(body, Seq) and body.flow is None else (body,):
        if loop.agenda is None or not isinstance(part, Map) or part.source != AGENDA or part.flow is not None:
            yield loop.bound, part
            continue
        items = min(loop.agenda.most, loop.bound * part.most)
        rounds, at_once = min(items, loop.bound), max(1, part.concurrency)
        waves = min(rounds + (items - rounds) // at_once, loop.bound * -(-part.most // at_once))
        yield waves if is_timed else items, part.body


def _most_visits(loop: Loop, body: Branch, case: int) -> int:
    """Return how often a member of a hand-off loop is visited at most; the root of a tree has no name, so nobody leads back to it."""
    if loop.entry == "" and (body.routes or {}).get("") == case:
        return 1
    return loop.max_visits or loop.bound


def _afterwards(plan: Node, of_call: Callable[[Call], Figure], nothing: Figure) -> Figure:
    """Add up a figure of the calls of the phases after the main one: an error handler, and a compensator for each step."""

    def undoing(call: Call) -> Figure:
        return nothing if call.policy is None or call.policy.compensate is None else of_call(call.policy.compensate)

    routes = None if isinstance(plan, Call) or plan.flow is None else plan.flow.errors
    handlers = () if routes is None else routes.calls
    return max(map(of_call, handlers), default=nothing) + _counted(plan, _Measure(nothing, undoing))


def _attempts(call: Call) -> int:
    """Return how many attempts a step of this call can come to."""
    return own_attempts(call) + (0 if call.policy is None else sum(map(_attempts, call.policy.fallback)))


def _time_of(call: Call) -> float:
    """Return how long a step of this call can take: its time limit at each attempt, the waits between them, and its fallbacks."""
    seconds = call.timeout_s * own_attempts(call) + _waits(call.retry)
    return seconds if call.policy is None else seconds + sum(map(_time_of, call.policy.fallback))


def _seconds(node: Node, of: Of[float]) -> float:
    match node:
        case Call():
            return _time_of(node)
        case Seq():
            seconds = sum(map(of, node.steps))
        case Par():
            seconds = _in_waves(len(node.branches), node.concurrency, max(map(of, node.branches), default=0.0))
            seconds = seconds if node.join_timeout_s is None else min(seconds, node.join_timeout_s)
        case Loop():
            seconds = sum(_times(often, of(part)) for often, part in _visits(node, of, is_timed=True))
        case Map():
            seconds = _in_waves(most_items(node), node.concurrency, of(node.body))
        case Branch():
            seconds = max(map(of, node.cases), default=0.0)
        case _:
            assert_never(node)
    if node.flow is None:
        return seconds
    seconds += 0.0 if node.flow.rescue is None else _time_of(node.flow.rescue)
    return seconds if node.flow.timeout_s is None else min(seconds, node.flow.timeout_s)


def _in_waves(count: int, at_once: int, seconds: float) -> float:
    return _times(-(-count // max(1, at_once)), seconds)


def _waits(retry: Retry) -> float:
    total, delay = 0.0, retry.initial_delay_s
    for _ in range(retry.max_retries):
        total += min(delay, retry.max_delay_s) * (JITTER if retry.jitter else 1.0)
        delay = min(delay * retry.factor, retry.max_delay_s)
    return total


def _times(count: int, figure: Figure) -> Figure:
    if not count:
        return 0
    try:
        return count * figure
    except OverflowError:
        return figure * inf  # type: ignore[return-value] # only a float overflows


def _folded(plan: Node, fold: Callable[[Node, Of[Figure]], Figure]) -> Figure:
    """Fold a plan from its leaves; a flow that stands in several places is folded once."""
    known: dict[int, Figure] = {}

    def of(node: Node) -> Figure:
        return known[id(node)]

    stack = [plan]
    while stack:
        node = stack[-1]
        missing = {id(part): part for part in children(node) if id(part) not in known}
        if missing:
            stack.extend(missing.values())
        else:
            known[id(node)] = fold(node, of)
            stack.pop()
    return known[id(plan)]
