"""map_reduce: one agent for each item of a list, or one step for each part of the work; then a reducer on all results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.model import FlowConfig
from agentflow.core.part import REDUCE, Previous, Results
from agentflow.core.plan import OVER, STEPS, Branch, Call, Map, Node, Seq, children
from agentflow.modes.choices import most_items, of_no_use, said_twice
from agentflow.modes.findings import Near
from agentflow.modes.members import named, own_input, own_steps, routes_to, step
from agentflow.modes.steps import keys_of_other_modes, mistakes_in_ids, mistakes_in_phases


def map_reduce(flow: FlowConfig) -> Node:
    """Run `map` for each item of `over`, or the steps of phase "map"; then `reduce`, or the steps of phase "reduce", on the results."""
    if not flow.steps:
        return Seq((_many(flow, named(flow, "map"), OVER), named(flow, "reduce", Results(REDUCE))))
    maps = own_steps(flow, "map")
    reducers = [(index, own_input(table)) for index, table in enumerate(flow.steps) if table.phase == "reduce"]
    first = (step(flow, index, Results(REDUCE, told)) for index, told in reducers[:1])
    later = (step(flow, index, Previous(told)) for index, told in reducers[1:])
    return Seq((_many(flow, Branch(maps, routes=routes_to(maps)), STEPS), *first, *later))


def mistakes(flow: FlowConfig, near: Near) -> Iterator[Diagnostic]:
    """Yield what is wrong with the keys beside the names of agents."""
    yield from said_twice(flow, "steps", "map", "over", "reduce")
    yield from mistakes_in_ids(flow, near)
    yield from mistakes_in_phases(flow, {"map": (1, None), "reduce": (1, None)}, "map")
    yield from keys_of_other_modes(flow, "depends_on")
    if flow.steps:
        yield from of_no_use(flow, "with `over`", "max_tasks")
    if flow.map_failures == "skip":
        yield from of_no_use(flow, 'with map_failures = "fail"', "failure_threshold")


def _many(flow: FlowConfig, body: Call | Branch, source: str) -> Map:
    is_bearing = flow.map_failures == "skip"
    share = 1.0 if is_bearing else flow.failure_threshold if "failure_threshold" in flow.given else 0.0
    many = Map(
        body,
        source,
        flow.over or "",
        concurrency=flow.max_concurrency,
        failure_threshold=share,
        is_collecting=True,
        is_bearing=is_bearing,
    )
    return replace(many, most=most_items(flow) if source == OVER else max(1, len(children(body))))
