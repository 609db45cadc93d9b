"""pipeline: the answer of each is the input of the next; with `over` each item goes through all of them by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.model import FlowConfig
from agentflow.core.part import Previous, Template
from agentflow.core.plan import OVER, Map, Node, Seq
from agentflow.modes.choices import most_items, of_no_use, said_twice
from agentflow.modes.findings import Near
from agentflow.modes.members import listed, own_input, retold, step
from agentflow.modes.steps import keys_of_other_modes, mistakes_in_ids


def pipeline(flow: FlowConfig) -> Node:
    """Run `steps`, or `sequential_agents`, one after another, each on what the one before set."""
    first, *later = flow.steps or (None,)
    if first is None:
        head, *rest = listed(flow, "sequential_agents") or (None,)
        members = () if head is None else (head, *(retold(call, Previous()) for call in rest))
    else:
        data = None if first.input is None else Template(first.input, is_data=True)
        following = (step(flow, index, Previous(own_input(table))) for index, table in enumerate(later, 1))
        members = (step(flow, 0, data), *following)
    stages = Seq(members)
    if flow.over is None:
        return stages
    many = Map(stages, OVER, flow.over, concurrency=flow.max_concurrency, failure_threshold=flow.failure_threshold, is_collecting=True)
    many = replace(many, most=most_items(flow))
    return Seq((many,))


def mistakes(flow: FlowConfig, near: Near) -> Iterator[Diagnostic]:
    """Yield what is wrong with the keys beside the names of agents."""
    yield from said_twice(flow, "steps", "sequential_agents")
    yield from mistakes_in_ids(flow, near)
    yield from keys_of_other_modes(flow, "phase", "depends_on")
    if flow.over is None:
        yield from of_no_use(flow, "with `over`", "max_concurrency", "failure_threshold", "max_tasks")
