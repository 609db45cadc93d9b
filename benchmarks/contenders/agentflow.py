"""agentflow itself, through its public interface: a config, registered handlers, `await runner.run(Event(...))`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentflow import Event, Runner
from benchmarks.contender import Contender, Run
from benchmarks.workloads import Data, Handler, Workload, agent_names, copying, handlers, in_place, split_mixed


def flow_of(workload: Workload) -> dict[str, Any]:
    """Return the [orchestration] table that asks for the workload."""
    names = agent_names(workload)
    match workload.mode:
        case "route":
            return {"mode": "route"}
        case "sequential":
            return {"mode": "sequential", "sequential_agents": names}
        case "collaborative":
            return {"mode": "collaborative", "collaborative_agents": names}
        case "loop":
            return {"mode": "loop", "loop_agent": "counter", "max_iterations": workload.agents}
        case "mixed":
            first, then = split_mixed(names)
            return {"mode": "mixed", "collaborative_agents": first, "sequential_agents": then}


class AgentFlow(Contender):
    """Handlers as users write them: they change the state they were given and return it."""

    distributions = ("agentflow",)
    style: Callable[[Workload, str], Handler] = staticmethod(in_place)

    def orchestration(self, workload: Workload) -> dict[str, Any]:
        """Return the flow to run; a line that wants another one overrides this."""
        return flow_of(workload)

    def sections(self) -> dict[str, Any]:
        """Return what the config has besides; a line that wants more overrides this."""
        return {}

    async def build(self, workload: Workload) -> Run:
        """Start a runner and return the function that emits one event and waits for its result."""
        agents = handlers(workload, type(self).style)
        settings = {"orchestration": self.orchestration(workload), "agents": {name: {} for name in agents}, **self.sections()}
        self.runner = runner = Runner.from_dict(settings)
        for name, handler in agents.items():
            runner.register_agent(name, handler)
        await runner.start()
        if workload.mode == "route":

            async def run_routed(data: Data) -> Any:
                return await runner.run(Event("a_" + data["kind"], data))

            return run_routed
        target = next(iter(agents))

        async def run(data: Data) -> Any:
            return await runner.run(Event(target, data))

        return run

    def read(self, answer: Any) -> Data:
        """Return the final state, after making sure that the run says it completed."""
        if answer.status != "completed":
            raise AssertionError(f"status {answer.status}: {answer.error}")
        return dict(answer.state)

    async def close(self) -> None:
        """Stop the runner."""
        await self.runner.stop()


class AgentFlowCopy(AgentFlow):
    """Handlers that answer with a changed copy of the whole state."""

    style = staticmethod(copying)


class AgentFlowUntil(AgentFlow):
    """Loops that end by a condition instead of by their bound, which is one round further."""

    def orchestration(self, workload: Workload) -> dict[str, Any]:
        """Return the loop with `until` in place of the exact bound."""
        rounds = workload.agents
        return {**flow_of(workload), "max_iterations": rounds + 1, "until": f"state.i >= {rounds}"}

    def read(self, answer: Any) -> Data:
        """Return the final state, after making sure that the condition ended the loop."""
        if answer.reason != "condition_met":
            raise AssertionError(f"ended by {answer.reason}, not by its condition")
        return super().read(answer)


class AgentFlowDurable(AgentFlow):
    """The same with a journal on SQLite: each step is safe from a power cut before the next one begins."""

    def sections(self) -> dict[str, Any]:
        """Return the [journal] section."""
        return {"journal": {"url": f"sqlite:{self.make_folder() / 'journal.db'}", "durability": "full"}}
