"""Random configurations of the five modes, and handlers whose answers do not depend on when, or how often, they are asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from agentflow import AgentResult, Hook, Runner
from tests.durability.world import World, make

AGENTS = tuple("abcdef")
RETRIES = 2


@dataclass(frozen=True)
class Agent:
    """How an agent behaves.

    Attributes:
        rest_s: how long it takes.
        bad: how many of its attempts fail; more than RETRIES: all.
        is_careful: it does something through `ctx.once`.
        route: to whom it hands on, where that means anything.
        asks: whether its steps wait for a person.
    """

    rest_s: float = 0.0
    bad: int = 0
    is_careful: bool = False
    route: str | None = None
    asks: bool = False


@dataclass(frozen=True)
class Case:
    """A main flow, its nested flows, how the agents behave, whether there are hooks, and who is called when something has failed.

    `handling` says what the error handler does: "" (there is none), notes, fails or recovers; `undone` has the agents whose steps
    are undone when the run fails.
    """

    flow: Mapping[str, Any]
    flows: Mapping[str, Mapping[str, Any]]
    agents: Mapping[str, Agent]
    is_hooked: bool
    target: str
    handling: str = ""
    undone: frozenset[str] = frozenset()

    def runner(self, world: World) -> Runner:
        """Return a runner for it, which writes into the world's ledger."""
        handlers = {name: handler(world, agent) for name, agent in self.agents.items()}
        handlers |= {
            "rescue": handler(world, Agent(rest_s=0.5, is_careful=True)),
            "undo": undo(world),
            "triage": triage(world, self.handling),
        }
        limits = {"max_process_deaths": 100, "retry_attempts": RETRIES}
        retry = {"retry": {"initial_delay_seconds": 1.0, "jitter": False}}
        flows = {name: {**flow, **limits, **retry} for name, flow in self.flows.items()}
        agents: dict[str, dict[str, Any]] = {name: {"requires_approval": True} for name, agent in self.agents.items() if agent.asks}
        for name in self.undone:
            agents[name] = {**agents.get(name, {}), "compensate": "undo"}
        routing = {"error_handler": "triage"} if self.handling else {}
        runner = make({**self.flow, **limits, **retry}, handlers, flows=flows, agents=agents, error_routing=routing)
        if self.is_hooked:
            hook(runner)
        return runner


def handler(world: World, agent: Agent) -> Callable[..., Any]:
    """Return a handler that writes into the ledger, takes its time, may fail, and answers by what it saw."""

    async def answer(event: Any, state: Any, ctx: Any) -> Any:
        world.note(ctx)
        await asyncio.sleep(agent.rest_s)
        if agent.bad > RETRIES or ctx.attempt <= agent.bad:
            raise OSError(f"{ctx.agent} is busy")
        if agent.is_careful:
            state[f"{ctx.agent}-paid"] = await ctx.once("pay", lambda: world.effect(ctx, "pay"))
            await asyncio.sleep(agent.rest_s)
        state[ctx.agent] = state.get(ctx.agent, 0) + 1
        state["last"] = f"{ctx.agent} after {state.get('last', 'nobody')}"[:60]
        return AgentResult(state, route=agent.route if state[ctx.agent] < 3 else None)

    return answer


def undo(world: World) -> Callable[..., Any]:
    """Return a compensator whose answers come to the same in whichever order steps are undone."""

    async def answer(event: Any, state: Any, ctx: Any) -> Any:
        world.note(ctx)
        await asyncio.sleep(0.5)
        assert ctx.position == f"~{event.data['position']}"
        if ctx.attempt == 1:
            raise OSError("undo is busy")
        return {"undone": state.get("undone", 0) + 1}

    return answer


def triage(world: World, handling: str) -> Callable[..., Any]:
    """Return an error handler that does what it is told to."""

    async def answer(event: Any, state: Any, ctx: Any) -> Any:
        world.note(ctx)
        await asyncio.sleep(0.5)
        assert (ctx.position, event.data["event"]["data"]) == ("!", {"n": 1})
        if handling == "fails":
            raise OSError("triage is busy")
        return {"noted": event.data["error"]["type"], "recovered": handling == "recovers"}

    return answer


def hook(runner: Runner) -> None:
    """Register callbacks that change the state at each point but for errors."""

    async def before_event(args: Any) -> None:
        await asyncio.sleep(0.5)
        args.state["opened"] = args.state.get("opened", 0) + 1

    async def before_agent(args: Any) -> None:
        await asyncio.sleep(0.25)
        args.state[f"before-{args.agent}"] = True

    runner.register_callback(Hook.BEFORE_EVENT_HANDLING, "opens", before_event)
    runner.register_callback(Hook.BEFORE_AGENT_RUN, "injects", before_agent)
    runner.register_callback(Hook.AFTER_AGENT_RUN, "adds", lambda args: args.state.update({f"after-{args.agent}": True}))
    runner.register_callback(
        Hook.AFTER_EVENT_HANDLING, "closes", lambda args: args.state.update({"closed": args.state.get("closed", 0) + 1})
    )


_agents = st.builds(
    Agent,
    rest_s=st.sampled_from([0.0, 0.5, 1.0, 1.5]),
    bad=st.sampled_from([0, 0, 0, 0, 1, 2, 99]),
    is_careful=st.booleans(),
    route=st.sampled_from([None, None, *AGENTS]),
    asks=st.sampled_from([False, False, False, True]),
)


MODES = ("sequential", "collaborative", "mixed", "loop", "route")


@st.composite
def _flows(draw: st.DrawFn, names: tuple[str, ...], mode: str | None = None) -> dict[str, Any]:
    """Return a flow, of any mode where none is named, over agents and over flows that are there already."""
    mode = mode or draw(st.sampled_from(MODES))
    flow: dict[str, Any] = {"mode": mode}
    some = st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)
    if mode in ("sequential", "mixed"):
        flow["sequential_agents"] = draw(some)
    if mode in ("collaborative", "mixed"):
        flow["collaborative_agents"] = draw(some)
        flow["failure_threshold"] = draw(st.sampled_from([0.0, 0.5, 1.0]))
        flow["max_concurrency"] = draw(st.sampled_from([1, 2, 10]))
        if draw(st.sampled_from([False, False, True])):
            del flow["failure_threshold"]
            flow["quorum"] = draw(st.integers(1, len(flow["collaborative_agents"])))
    if mode != "collaborative":
        flow["on_error"] = draw(st.sampled_from(["stop", "stop", "continue", "route:rescue"]))
    if mode == "loop":
        flow |= {"loop_agent": draw(st.sampled_from(names)), "max_iterations": draw(st.integers(1, 3))}
        if draw(st.booleans()):
            flow["until"] = "has(state.a) && state.a >= 2"
    if mode == "route":
        flow |= {"default_agent": draw(st.sampled_from(AGENTS)), "max_hops": 6}
    return flow


@st.composite
def cases(draw: st.DrawFn, mode: str | None = None) -> Case:
    """Return a configuration, of any mode where none is named, with up to two nested flows, one of them in the other or not."""
    flows: dict[str, Mapping[str, Any]] = {}
    for name in ["inner", "outer"][: draw(st.integers(0, 2))]:
        flows[name] = draw(_flows((*AGENTS, *flows)))
    agents = {name: draw(_agents) for name in AGENTS}
    main = draw(_flows((*AGENTS, *flows), mode))
    target = draw(st.sampled_from([*AGENTS, *flows])) if main["mode"] == "route" else ""
    undone = draw(st.frozensets(st.sampled_from(AGENTS), max_size=3))
    return Case(main, flows, agents, draw(st.booleans()), target, draw(st.sampled_from(["", "notes", "fails", "recovers"])), undone)
