"""Hand-offs: what becomes of a route that a step names inside a route flow."""

from __future__ import annotations

from collections.abc import Mapping

from agentflow.core.failure import Failure, failure_of
from agentflow.core.frame import Frame
from agentflow.core.plan import Branch, Loop, Par
from agentflow.errors import HopLimitError, RoutingError, did_you_mean


def no_way(target: str | None, routes: Mapping[str, int]) -> Failure:
    """Return why a hand-off loop cannot go on to `target`."""
    if not target:
        what = "missing routing key: the event has neither a target nor metadata.route"
        return failure_of(RoutingError(what, hint="emit Event(target, ...), or run with --target NAME"))
    return failure_of(RoutingError(f"no agent or flow named `{target}`", hint=did_you_mean(target, routes)))


def hold(frame: Frame, route: str) -> None:
    """Keep a route at its route flow, or at the parallel branch it comes from, until the join has chosen among them."""
    while frame.parent is not None and type(frame.parent.node) is not Par:
        frame = frame.parent
        if type(frame.node) is Loop and frame.node.is_handoff:
            break
    frame.route = route


def hand_on(loop: Frame, frame: Frame, route: str) -> Failure | None:
    """Keep a route that a step names for its route flow, or say what is wrong with it."""
    branch = loop.node.body  # type: ignore[union-attr] # a hand-off loop
    known = (branch.routes if isinstance(branch, Branch) else None) or {}
    if route not in known:
        return failure_of(RoutingError(f"route `{route}` names no member of its flow", hint=did_you_mean(route, known)))
    hold(frame, route)
    return None


def end_hop(loop: Frame, node: Loop, failure: Failure | None) -> tuple[bool, Failure | None]:
    """Close a hop: is the hand-off loop over, and with what failure?"""
    if failure is not None or loop.route is None:
        return True, failure
    if loop.round < node.bound:
        return False, None
    cycle = " -> ".join([*loop.trail[-6:], loop.route])
    error = HopLimitError(f"max_hops = {node.bound - 1} reached: {cycle}", hint="end the cycle, or raise max_hops")
    return True, failure_of(error).at(agent=loop.trail[-1], position=loop.position, stage=loop.trail[-1])
