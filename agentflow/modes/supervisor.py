"""supervisor: one agent says who works next, round after round, until it says that it is done."""

from __future__ import annotations

from agentflow.config.model import FlowConfig
from agentflow.core.part import SYNTHESIS, Results
from agentflow.core.plan import AGENDA, DELEGATION, Agenda, Branch, Loop, Map, Node, Seq
from agentflow.modes.collaborative import merge_of
from agentflow.modes.members import named, specialists


def supervisor(flow: FlowConfig) -> Node:
    """Call `supervisor` at most `max_rounds` times, and after each call those of `agents` that it named."""
    members = specialists(flow, "agents")
    most = max(1, len(members))
    default = flow.default_agent or ""
    work = Map(
        Branch(members, routes={}),
        AGENDA,
        most=most,
        concurrency=flow.max_concurrency,
        failure_threshold=flow.failure_threshold,
        merge=merge_of(flow),
        default=default,
    )
    agenda = Agenda(DELEGATION, flow.supervisor or "", most=flow.max_rounds * most, default=default)
    rounds = Loop(Seq((named(flow, "supervisor"), work)), flow.max_rounds, agenda=agenda)
    return rounds if flow.synthesizer is None else Seq((rounds, named(flow, "synthesizer", Results(SYNTHESIS))))
