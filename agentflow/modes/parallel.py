"""parallel: steps side by side, each with its own input; one that depends on others begins when they have ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.model import FlowConfig
from agentflow.core.plan import Node, Part, Seq
from agentflow.modes.collaborative import side_by_side
from agentflow.modes.findings import Near
from agentflow.modes.members import own_steps
from agentflow.modes.steps import keys_of_other_modes, levels, mistakes_in_ids


def parallel(flow: FlowConfig) -> Node:
    """Run `steps` side by side; with `depends_on` level by level, one join after the other."""
    members = own_steps(flow)
    in_levels = levels(flow.steps)
    if len(in_levels) == 1:
        return side_by_side(flow, members)
    ranked = [replace(call, part=replace(call.part or Part(), order=number)) for number, call in enumerate(members, 1)]
    return Seq(tuple(side_by_side(flow, tuple(ranked[index] for index in level)) for level in in_levels))


def mistakes(flow: FlowConfig, near: Near) -> Iterator[Diagnostic]:
    """Yield what is wrong with the steps beside the names of agents."""
    yield from mistakes_in_ids(flow, near)
    yield from keys_of_other_modes(flow, "phase")
