"""loop: one agent or flow again and again, until it says so, a condition holds, or the rounds are used up."""

from __future__ import annotations

from agentflow.config.model import FlowConfig
from agentflow.core.plan import Call, Loop, Node, Unread


def loop(flow: FlowConfig) -> Node:
    """Repeat `loop_agent` at least once and at most `max_iterations` times."""
    return Loop(Call(flow.loop_agent or ""), flow.max_iterations, until=Unread(flow.until) if flow.until else None)
