"""sequential: each agent gets the state the one before left; a failure stops and keeps the state so far."""

from __future__ import annotations

from agentflow.config.model import FlowConfig
from agentflow.core.plan import Call, Node, Seq


def sequential(flow: FlowConfig) -> Node:
    """Run `sequential_agents` one after another."""
    return Seq(tuple(Call(name) for name in flow.sequential_agents or ()))
