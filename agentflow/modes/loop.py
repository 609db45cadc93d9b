"""loop: one agent or flow again and again, until it says so, a condition holds, or the rounds are used up."""

from __future__ import annotations

from agentflow.config.model import FlowConfig
from agentflow.core.plan import Loop, Node, Unread
from agentflow.modes.members import named


def loop(flow: FlowConfig) -> Node:
    """Repeat `loop_agent` at least once and at most `max_iterations` times."""
    return Loop(named(flow, "loop_agent"), flow.max_iterations, until=Unread(flow.until) if flow.until else None)
