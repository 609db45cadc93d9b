"""sequential: each agent gets the state the one before left; a failure stops and keeps the state so far."""

from __future__ import annotations

from agentflow.config.model import FlowConfig
from agentflow.core.plan import Node, Seq
from agentflow.modes.members import listed


def sequential(flow: FlowConfig) -> Node:
    """Run `sequential_agents` one after another."""
    return Seq(listed(flow, "sequential_agents"))
