"""route: the event's target answers; a route in its result hands on to the next; an empty one ends."""

from __future__ import annotations

from agentflow.config.model import FlowConfig
from agentflow.core.plan import Branch, Loop, Node


def route(flow: FlowConfig) -> Node:
    """Hand the event from member to member, at most `max_hops` times after the first.

    A branch by route without cases stands for every agent and flow that can be reached; the linker fills them in.
    """
    return Loop(Branch((), routes={}, default=flow.default_agent), flow.max_hops + 1, is_handoff=True)
