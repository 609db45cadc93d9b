"""mixed: a collaborative phase, then a sequential one on what it came to."""

from __future__ import annotations

from agentflow.config.model import FlowConfig
from agentflow.core.plan import Node, Seq
from agentflow.modes.collaborative import collaborative
from agentflow.modes.sequential import sequential


def mixed(flow: FlowConfig) -> Node:
    """Run `collaborative_agents` side by side, then `sequential_agents` one after another; either list may be missing."""
    phases = [collaborative(flow)] if flow.collaborative_agents else []
    phases += [sequential(flow)] if flow.sequential_agents else []
    return Seq(tuple(phases))
