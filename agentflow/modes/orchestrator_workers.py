"""orchestrator_workers: a planner makes tasks, workers do them side by side, a synthesizer makes one answer of the results."""

from __future__ import annotations

from collections.abc import Iterator

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.model import FlowConfig
from agentflow.core.part import SYNTHESIS, Results
from agentflow.core.plan import STEPS, TASKS, Branch, Map, Node, Seq
from agentflow.modes.choices import of_no_use, said_twice
from agentflow.modes.findings import Near
from agentflow.modes.members import named, own_input, own_steps, routes_to, specialists, step
from agentflow.modes.steps import keys_of_other_modes, mistakes_in_ids, mistakes_in_phases


def orchestrator_workers(flow: FlowConfig) -> Node:
    """Run `planner`, then `workers` for the tasks that it sets, then `synthesizer`; or the steps of these three phases."""
    if flow.steps:
        return _of_steps(flow)
    workers = Branch(specialists(flow, "workers"), routes={})
    tasks = Map(
        workers,
        TASKS,
        most=flow.max_tasks,
        concurrency=flow.max_concurrency,
        failure_threshold=flow.failure_threshold,
        is_collecting=True,
        default=flow.default_agent or "",
    )
    last = () if flow.synthesizer is None else (named(flow, "synthesizer", Results(SYNTHESIS)),)
    return Seq((named(flow, "planner"), tasks, *last))


def mistakes(flow: FlowConfig, near: Near) -> Iterator[Diagnostic]:
    """Yield what is wrong with the keys beside the names of agents."""
    yield from said_twice(flow, "steps", "planner", "workers", "synthesizer")
    yield from mistakes_in_ids(flow, near)
    yield from mistakes_in_phases(flow, {"plan": (0, 1), "work": (1, None), "synthesize": (0, 1)}, "work")
    yield from keys_of_other_modes(flow, "depends_on")
    if flow.steps:
        yield from of_no_use(flow, "without `steps`", "max_tasks", "default_agent")


def _of_steps(flow: FlowConfig) -> Node:
    work = own_steps(flow, "work")
    body = Branch(work, routes=routes_to(work))
    many = Map(
        body,
        STEPS,
        most=max(1, len(work)),
        concurrency=flow.max_concurrency,
        failure_threshold=flow.failure_threshold,
        is_collecting=True,
    )
    ends = [(index, table) for index, table in enumerate(flow.steps) if table.phase == "synthesize"]
    return Seq((*own_steps(flow, "plan"), many, *(step(flow, index, Results(SYNTHESIS, own_input(table))) for index, table in ends)))
