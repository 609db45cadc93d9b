"""Microsoft Agent Framework: its graph of executors, and its functional workflows.

One workflow serves events that follow one another; a workflow refuses concurrent runs, so events in flight at once get
one each, as its documentation asks. No telemetry exporter is configured.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Never

from agent_framework import Case, Default, FunctionExecutor, WorkflowBuilder, WorkflowContext, step, workflow

from benchmarks.contender import Contender, Run
from benchmarks.workloads import KINDS, Data, Handler, Workload, copying, handlers, split_mixed, union

logging.getLogger("agent_framework").setLevel(logging.ERROR)


def runner_of(workload: Workload, make: Callable[[], Any]) -> Run:
    """Return the run function over one workflow, or over a new one an event where they are in flight at once."""
    if workload.delay:

        async def run_new(data: Data) -> Any:
            return await make().run(data)

        return run_new
    made = make()

    async def run(data: Data) -> Any:
        return await made.run(data)

    return run


class GraphWorkflow(Contender):
    """Executors joined by edges; messages between them are the state."""

    distributions = ("agent-framework-core", "pydantic")

    async def build(self, workload: Workload) -> Run:
        """Build the workflow."""
        agents = handlers(workload, copying)
        return runner_of(workload, lambda: graph_of(workload, agents))

    def read(self, answer: Any) -> Data:
        """Return the workflow's output."""
        state: Data = answer.get_outputs()[-1]
        return state


def passing(name: str, handler: Handler, takes: Any = dict) -> Any:
    """Return an executor that sends its answer on."""

    async def call(message: Any, ctx: Any) -> None:
        await ctx.send_message(await handler(None, message))

    call.__annotations__ = {"message": takes, "ctx": WorkflowContext[dict]}
    return FunctionExecutor(call, id=name)


def ending(name: str, handler: Handler, takes: Any = dict) -> Any:
    """Return an executor whose answer is the workflow's output."""

    async def call(message: Any, ctx: Any) -> None:
        await ctx.yield_output(await handler(None, message))

    call.__annotations__ = {"message": takes, "ctx": WorkflowContext[Never, dict]}
    return FunctionExecutor(call, id=name)


async def unchanged(event: Any, state: Any) -> Any:
    """Stand where the graph needs an executor that does nothing."""
    return state


async def joined(event: Any, states: list[Data]) -> Data:
    """Merge what the parallel executors sent."""
    return union({}, states)


def graph_of(workload: Workload, agents: dict[str, Handler]) -> Any:
    """Build the graph of a workload."""
    if workload.mode == "route":
        return _route(workload, agents)
    if workload.mode == "loop":
        return _loop(workload, agents["counter"])
    names = list(agents)
    parallel = {"collaborative": names, "mixed": split_mixed(names)[0]}.get(workload.mode, [])
    rest = names[len(parallel) :]
    chain = [(ending if name == names[-1] else passing)(name, agents[name]) for name in rest]
    if not parallel:
        return _builder(workload, chain[0]).add_chain(chain).build()
    fan_out = passing("fan_out", unchanged)
    join = (passing if rest else ending)("join", joined, list[dict])  # type: ignore[type-arg]
    branches = [passing(name, agents[name]) for name in parallel]
    builder = _builder(workload, fan_out).add_fan_out_edges(fan_out, branches).add_fan_in_edges(branches, join)
    return (builder.add_chain([join, *chain]) if chain else builder).build()


def _builder(workload: Workload, start: Any) -> Any:
    return WorkflowBuilder(start_executor=start, max_iterations=workload.agents + 20, name=workload.id)


def _route(workload: Workload, agents: dict[str, Handler]) -> Any:
    router = passing("router", unchanged)
    targets = {kind: ending("a_" + kind, agents["a_" + kind]) for kind in KINDS}
    cases: list[Any] = [Case(condition=lambda state, kind=kind: state["kind"] == kind, target=targets[kind]) for kind in KINDS[:-1]]
    cases.append(Default(target=targets[KINDS[-1]]))
    return _builder(workload, router).add_switch_case_edge_group(router, cases).build()


def _loop(workload: Workload, handler: Handler) -> Any:
    rounds = workload.agents

    async def turn(message: Any, ctx: Any) -> None:
        state = await handler(None, message)
        if state["i"] < rounds:
            await ctx.send_message(state)
        else:
            await ctx.yield_output(state)

    turn.__annotations__ = {"message": dict, "ctx": WorkflowContext[dict, dict]}
    executor = FunctionExecutor(turn, id="counter")
    return _builder(workload, executor).add_edge(executor, executor).build()


class FunctionalWorkflow(GraphWorkflow):
    """A plain async function whose calls are steps."""

    async def build(self, workload: Workload) -> Run:
        """Wrap the handlers as steps and build the workflow."""
        steps = {name: _step(name, handler) for name, handler in handlers(workload, copying).items()}
        definition = workflow(_function(workload, steps))
        return runner_of(workload, definition.build)


def _step(name: str, handler: Handler) -> Any:
    async def call(state: dict) -> dict:  # type: ignore[type-arg]
        answer: Data = await handler(None, state)
        return answer

    call.__name__ = call.__qualname__ = "run_" + name
    return step(name=call.__name__, replay_key=lambda state: f"{name}{state.get('i')}")(call)


def _function(workload: Workload, steps: dict[str, Any]) -> Any:
    names = list(steps)
    parallel = {"collaborative": names, "mixed": split_mixed(names)[0]}.get(workload.mode, [])

    async def route(state: dict) -> dict:  # type: ignore[type-arg]
        answer: Data = await steps["a_" + state["kind"]](state)
        return answer

    async def loop(state: dict) -> dict:  # type: ignore[type-arg]
        while state["i"] < workload.agents:
            state = await steps["counter"](state)
        return state

    async def joined_steps(state: dict) -> dict:  # type: ignore[type-arg]
        if parallel:
            state = union(state, await asyncio.gather(*[steps[name](state) for name in parallel]))
        for name in names[len(parallel) :]:
            state = await steps[name](state)
        return state

    return {"route": route, "loop": loop}.get(workload.mode, joined_steps)
