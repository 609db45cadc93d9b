"""Google ADK without any model: its workflow agents, and its graph of function nodes.

One in-memory session an event, whose state is the event's data; it is deleted afterwards so that memory does not grow.
The final state is folded from the deltas of the events that the run yields.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import AsyncIterator
from typing import Any

from google.adk.agents import BaseAgent, LoopAgent, ParallelAgent, SequentialAgent
from google.adk.agents.run_config import RunConfig
from google.adk.events import Event, EventActions
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService
from google.adk.workflow import START, FunctionNode, JoinNode, Workflow
from google.genai import types

from benchmarks.contender import Contender, Run
from benchmarks.workloads import KINDS, Data, Handler, Workload, handlers, split_mixed, updating

logging.getLogger("google_adk").setLevel(logging.ERROR)
APPLICATION = {"app_name": "benchmarks", "user_id": "someone"}
GO = types.Content(role="user", parts=[types.Part(text="go")])


class Adk(Contender):
    """Runs a root agent or node through ADK's Runner; subclasses build the root."""

    distributions = ("google-adk", "google-genai", "pydantic")

    def root(self, workload: Workload, agents: dict[str, Handler]) -> dict[str, Any]:
        """Return the Runner's keyword for the root and the root itself."""
        raise NotImplementedError

    async def build(self, workload: Workload) -> Run:
        """Build the runner over an in-memory session service."""
        sessions = InMemorySessionService()
        root = self.root(workload, handlers(workload, updating))
        runner = Runner(app_name=APPLICATION["app_name"], session_service=sessions, **root)
        config = RunConfig(max_llm_calls=0)
        numbers = itertools.count()

        async def run(data: Data) -> Any:
            session = f"event{next(numbers)}"
            await sessions.create_session(**APPLICATION, session_id=session, state=data)
            state = dict(data)
            async for event in runner.run_async(user_id=APPLICATION["user_id"], session_id=session, run_config=config, new_message=GO):
                if event.actions and event.actions.state_delta:
                    state.update(event.actions.state_delta)
            await sessions.delete_session(**APPLICATION, session_id=session)
            return state

        return run


class Leaf(BaseAgent):  # type: ignore[misc]
    """An agent that runs one handler and yields what it changed; `last` ends the loop around it."""

    handler: Any
    last: int = 0

    async def _run_async_impl(self, ctx: Any) -> AsyncIterator[Event]:
        delta = await self.handler(None, ctx.session.state)
        ends = True if self.last and delta["i"] >= self.last else None
        yield Event(
            author=self.name,
            invocation_id=ctx.invocation_id,
            branch=ctx.branch,
            actions=EventActions(state_delta=delta, escalate=ends),
        )


class Router(BaseAgent):  # type: ignore[misc]
    """An agent that hands over to the sub-agent of the event's kind."""

    async def _run_async_impl(self, ctx: Any) -> AsyncIterator[Event]:
        chosen = self.find_sub_agent("run_a_" + ctx.session.state["kind"])
        async for event in chosen.run_async(ctx):
            yield event


class Agents(Adk):
    """SequentialAgent, ParallelAgent and LoopAgent over custom agents."""

    def root(self, workload: Workload, agents: dict[str, Handler]) -> dict[str, Any]:
        """Return the tree of agents."""
        last = workload.agents if workload.mode == "loop" else 0
        leaves = [Leaf(name="run_" + name, handler=handler, last=last) for name, handler in agents.items()]
        root: Any
        match workload.mode:
            case "route":
                root = Router(name="root", sub_agents=leaves)
            case "loop":
                root = LoopAgent(name="root", sub_agents=leaves, max_iterations=workload.agents)
            case "sequential":
                root = SequentialAgent(name="root", sub_agents=leaves)
            case "collaborative":
                root = ParallelAgent(name="root", sub_agents=leaves)
            case "mixed":
                count = len(split_mixed(list(agents))[0])
                first = ParallelAgent(name="first", sub_agents=leaves[:count])
                root = SequentialAgent(name="root", sub_agents=[first, *leaves[count:]])
        return {"agent": root}


def function_node(name: str, handler: Handler, rounds: int = 0) -> Any:
    """Return a node that runs one handler and writes what it changed; with `rounds` it says whether to go again."""

    async def call(ctx: Any) -> None:
        for key, value in (await handler(None, ctx.state)).items():
            ctx.state[key] = value
        if rounds:
            ctx.route = "again" if ctx.state["i"] < rounds else "done"

    call.__name__ = "run_" + name
    return FunctionNode(func=call)


async def router(ctx: Any) -> None:
    """Choose the route of the event's kind."""
    ctx.route = ctx.state["kind"]


async def done(ctx: Any) -> None:
    """Stand where the loop ends."""


class WorkflowGraph(Adk):
    """The graph Workflow of function nodes."""

    def root(self, workload: Workload, agents: dict[str, Handler]) -> dict[str, Any]:
        """Return the graph."""
        rounds = workload.agents if workload.mode == "loop" else 0
        nodes = {name: function_node(name, handler, rounds) for name, handler in agents.items()}
        return {"node": Workflow(name="root", edges=edges_of(workload, nodes))}


def edges_of(workload: Workload, nodes: dict[str, Any]) -> list[Any]:
    """Return the edges of a workload."""
    ordered = list(nodes.values())
    if workload.mode == "route":
        choose = FunctionNode(func=router)
        return [(START, choose), (choose, {kind: nodes["a_" + kind] for kind in KINDS})]
    if workload.mode == "loop":
        turn = ordered[0]
        return [(START, turn), (turn, {"again": turn, "done": FunctionNode(func=done)})]
    if workload.mode == "sequential":
        return [(START, *ordered)]
    count = len(ordered) if workload.mode == "collaborative" else len(split_mixed(list(nodes))[0])
    parallel, rest = tuple(ordered[:count]), ordered[count:]
    join = JoinNode(name="join")
    edges: list[Any] = [(START, parallel), (parallel, join)]
    return [*edges, (join, *rest)] if rest else edges
