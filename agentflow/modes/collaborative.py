"""collaborative: all agents get the same event and their own copy of the state; patches merge in list order."""

from __future__ import annotations

from agentflow.config.model import FlowConfig
from agentflow.core.merge import Merge
from agentflow.core.plan import Call, Node, Par


def collaborative(flow: FlowConfig) -> Node:
    """Run `collaborative_agents` side by side."""
    keys = flow.merge if isinstance(flow.merge, dict) else {}
    default = flow.merge if isinstance(flow.merge, str) else "ordered"
    return Par(
        tuple(Call(name) for name in flow.collaborative_agents or ()),
        concurrency=flow.max_concurrency,
        failure_threshold=flow.failure_threshold,
        merge=Merge(default, keys),
        quorum=flow.quorum,
        fail_fast=flow.fail_fast,
        join_timeout_s=flow.join_timeout_seconds,
    )
