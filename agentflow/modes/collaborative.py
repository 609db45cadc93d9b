"""collaborative: all agents get the same event and their own copy of the state; patches merge in list order."""

from __future__ import annotations

from agentflow.config.model import FlowConfig
from agentflow.core.aggregate import Aggregate
from agentflow.core.merge import Merge
from agentflow.core.plan import Call, Node, Par
from agentflow.modes.members import listed


def collaborative(flow: FlowConfig) -> Node:
    """Run `collaborative_agents` side by side."""
    return side_by_side(flow, listed(flow, "collaborative_agents"))


def side_by_side(flow: FlowConfig, members: tuple[Call, ...]) -> Par:
    """Return the join of members, judged and merged as their flow says."""
    return Par(
        members,
        concurrency=flow.max_concurrency,
        failure_threshold=flow.failure_threshold,
        merge=merge_of(flow),
        quorum=flow.quorum,
        fail_fast=flow.fail_fast,
        join_timeout_s=flow.join_timeout_seconds,
        aggregate=None if flow.aggregate is None else Aggregate(flow.aggregate),
    )


def merge_of(flow: FlowConfig) -> Merge:
    """Return how the patches of a flow's members meet."""
    keys = flow.merge if isinstance(flow.merge, dict) else {}
    return Merge(flow.merge if isinstance(flow.merge, str) else "ordered", keys)
