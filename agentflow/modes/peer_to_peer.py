"""peer_to_peer: agents send each other messages, until none is left, they agree, or there were enough."""

from __future__ import annotations

from agentflow.config.model import FlowConfig
from agentflow.core.plan import AGENDA, MAILBOX, Agenda, Branch, Loop, Map, Node
from agentflow.modes.collaborative import merge_of
from agentflow.modes.members import listed, routes_to


def peer_to_peer(flow: FlowConfig) -> Node:
    """Deliver at most `max_messages` messages among `agents`."""
    members = listed(flow, "agents")
    mail = Map(
        Branch(members, routes=routes_to(members)),
        AGENDA,
        most=max(1, len(members)),
        concurrency=flow.max_concurrency,
        failure_threshold=flow.failure_threshold,
        merge=merge_of(flow),
    )
    return Loop(mail, flow.max_messages, agenda=Agenda(MAILBOX, "", most=flow.max_messages))
