"""plan_execute: a planner says what is to be done, its steps run in the order of their dependencies, a replanner may revise the rest."""

from __future__ import annotations

from collections.abc import Iterator

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.model import FlowConfig
from agentflow.core.part import REPLAN, SYNTHESIS, Results
from agentflow.core.plan import AGENDA, REVISION, WAVES, Agenda, Branch, Loop, Map, Node, Seq
from agentflow.modes.choices import of_no_use
from agentflow.modes.collaborative import merge_of
from agentflow.modes.findings import Near
from agentflow.modes.members import named, specialists


def plan_execute(flow: FlowConfig) -> Node:
    """Run `planner`, then the steps of its plan by `agents`, wave after wave; after each wave `replanner`; last `synthesizer`."""
    wave = Map(
        Branch(specialists(flow, "agents"), routes={}),
        AGENDA,
        most=flow.max_tasks,
        concurrency=flow.max_concurrency,
        failure_threshold=0.0,
        merge=merge_of(flow),
        is_bearing=flow.replanner is not None,
        default=flow.default_agent or "",
    )
    again = () if flow.replanner is None else (Map(named(flow, "replanner", Results(REPLAN)), REVISION, most=1),)
    replans = flow.max_replans if flow.replanner is not None else 0
    agenda = Agenda(WAVES, flow.planner or "", flow.max_tasks, flow.default_agent or "", replans)
    waves = Loop(Seq((wave, *again)), flow.max_tasks, agenda=agenda)
    last = () if flow.synthesizer is None else (named(flow, "synthesizer", Results(SYNTHESIS)),)
    return Seq((named(flow, "planner"), waves, *last))


def mistakes(flow: FlowConfig, near: Near) -> Iterator[Diagnostic]:
    """Yield, as advice, a key that counts only beside another."""
    if flow.replanner is None:
        yield from of_no_use(flow, "with a `replanner`", "max_replans")
