"""CrewAI Flows without any model, telemetry and tracing off: one Flow instance an event."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ.update(
    CREWAI_DISABLE_TELEMETRY="true",
    CREWAI_DISABLE_TRACKING="true",
    CREWAI_TRACING_ENABLED="false",
    OTEL_SDK_DISABLED="true",
)

from crewai.flow.flow import Flow, and_, listen, or_, router, start

from benchmarks.contender import Contender, Run
from benchmarks.workloads import KINDS, Data, Handler, Workload, handlers, split_mixed, updating


def method(name: str, handler: Handler, decorate: Callable[[Any], Any]) -> Any:
    """Return a handler in the shape of a Flow's method."""

    async def call(self: Any) -> None:
        for key, value in (await handler(None, self.state)).items():
            self.state[key] = value

    call.__name__ = call.__qualname__ = "run_" + name
    return decorate(call)


async def begin(self: Any) -> None:
    """Stand where the flow begins."""


async def join(self: Any) -> None:
    """Stand where parallel methods meet."""


class CrewFlow(Contender):
    """A Flow class made for each workload."""

    distributions = ("crewai",)

    async def build(self, workload: Workload) -> Run:
        """Make the class."""
        agents = handlers(workload, updating)
        methods = {"route": _route, "loop": _loop}.get(workload.mode, _joined)(workload, agents)
        flow = type("Steps", (Flow,), methods)

        async def run(data: Data) -> Any:
            made = flow(suppress_flow_events=True, max_method_calls=workload.agents + 1)
            await made.kickoff_async(inputs=data)
            return made.state

        return run

    def read(self, answer: Any) -> Data:
        """Return the flow's state."""
        return dict(answer)


def _route(workload: Workload, agents: dict[str, Handler]) -> dict[str, Any]:
    async def choose(self: Any) -> str:
        return "is_" + str(self.state["kind"])

    first = start()(begin)
    methods = {"begin": first, "choose": router(first)(choose)}
    for kind in KINDS:
        methods["run_a_" + kind] = method("a_" + kind, agents["a_" + kind], listen("is_" + kind))
    return methods


def _loop(workload: Workload, agents: dict[str, Handler]) -> dict[str, Any]:
    rounds = workload.agents

    async def choose(self: Any) -> str:
        return "again" if self.state["i"] < rounds else "done"

    first = start()(begin)
    turn = method("counter", agents["counter"], listen(or_(first, "again")))
    return {"begin": first, "run_counter": turn, "choose": router(turn)(choose)}


def _joined(workload: Workload, agents: dict[str, Handler]) -> dict[str, Any]:
    names = list(agents)
    parallel = {"collaborative": names, "mixed": split_mixed(names)[0]}.get(workload.mode, [])
    methods = {"run_" + name: method(name, agents[name], start()) for name in parallel}
    after: Any = and_(*methods.values()) if methods else None
    if len(parallel) == len(names):
        return {**methods, "join": listen(after)(join)}
    for name in names[len(parallel) :]:
        after = method(name, agents[name], listen(after) if after is not None else start())
        methods["run_" + name] = after
    return methods
