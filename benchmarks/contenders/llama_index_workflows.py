"""LlamaIndex Workflows: a Workflow class made for each workload, its steps joined by event classes."""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable
from typing import Any, Union

from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from benchmarks.contender import Contender, Run
from benchmarks.workloads import KINDS, Data, Handler, Workload, copying, handlers, split_mixed, union

MOST_WORKERS = 16  # of one step, at once


class Begin(StartEvent):  # type: ignore[misc]
    """Carries the state into the workflow."""

    state: dict  # type: ignore[type-arg]


def event_class(name: str) -> Any:
    """Return a new class of events that carry a state."""
    fields = {"__annotations__": {"state": dict}, "__module__": __name__}
    return types.new_class(name, (Event,), {}, lambda namespace: namespace.update(fields))


def method(name: str, takes: Any, gives: Any, body: Callable[[Any, Any], Awaitable[Any]]) -> Any:
    """Return a step whose annotations, which the library reads, are those given."""

    async def call(self: Any, ctx: Any, ev: Any) -> Any:
        return await body(ctx, ev)

    call.__annotations__ = {"ctx": Context, "ev": takes, "return": gives}
    call.__name__, call.__qualname__ = name, "Flow." + name
    return step(num_workers=MOST_WORKERS)(call)


def plain_method(name: str, takes: Any, gives: Any, body: Callable[[Any], Awaitable[Any]]) -> Any:
    """Return a step that needs no context; the library calls it with less ado."""

    async def call(self: Any, ev: Any) -> Any:
        return await body(ev)

    call.__annotations__ = {"ev": takes, "return": gives}
    call.__name__, call.__qualname__ = name, "Flow." + name
    return step(num_workers=MOST_WORKERS)(call)


class LlamaIndexWorkflows(Contender):
    """One Workflow instance, `run` per event."""

    distributions = ("llama-index-workflows", "pydantic")

    async def build(self, workload: Workload) -> Run:
        """Make the class and one instance of it."""
        agents = handlers(workload, copying)
        match workload.mode:
            case "route":
                methods = route_steps(agents)
            case "loop":
                methods = loop_steps(agents["counter"], workload.agents)
            case "sequential":
                methods = chain_steps(agents, Begin)
            case "collaborative":
                methods = parallel_steps(agents, None)
            case "mixed":
                first, then = split_mixed(list(agents))
                joined = event_class("Joined")
                methods = parallel_steps({name: agents[name] for name in first}, joined)
                methods |= chain_steps({name: agents[name] for name in then}, joined)
        flow = type("Flow", (Workflow,), {**methods, "__module__": __name__})(timeout=None, verbose=False)

        async def run(data: Data) -> Any:
            return await flow.run(start_event=Begin(state=data))

        return run


def route_steps(agents: dict[str, Handler]) -> dict[str, Any]:
    """Return a router and the four agents it chooses from."""
    kinds = {kind: event_class("Is_" + kind) for kind in KINDS}

    async def choose(event: Any) -> Any:
        return kinds[event.state["kind"]](state=event.state)

    methods = {"router": plain_method("router", Begin, Union[tuple(kinds.values())], choose)}  # noqa: UP007
    for kind, cls in kinds.items():
        methods["run_" + kind] = plain_method("run_" + kind, cls, StopEvent, last(agents["a_" + kind]))
    return methods


def last(handler: Handler) -> Callable[[Any], Awaitable[Any]]:
    """Return the body of a step whose answer ends the workflow."""

    async def body(event: Any) -> Any:
        return StopEvent(result=await handler(None, event.state))

    return body


def onward(handler: Handler, following: Any) -> Callable[[Any], Awaitable[Any]]:
    """Return the body of a step whose answer goes on as an event of another class."""

    async def body(event: Any) -> Any:
        return following(state=await handler(None, event.state))

    return body


def loop_steps(handler: Handler, rounds: int) -> dict[str, Any]:
    """Return one step that sends the state back to itself."""
    again = event_class("Again")

    async def body(event: Any) -> Any:
        state = await handler(None, event.state)
        return again(state=state) if state["i"] < rounds else StopEvent(result=state)

    return {"turn": plain_method("turn", Union[Begin, again], Union[again, StopEvent], body)}  # noqa: UP007


def chain_steps(agents: dict[str, Handler], takes: Any) -> dict[str, Any]:
    """Return agents that follow one another, the first taking the given class of event, the last ending it all."""
    methods = {}
    names = list(agents)
    for name in names[:-1]:
        following = event_class("After_" + name)
        methods["run_" + name] = plain_method("run_" + name, takes, following, onward(agents[name], following))
        takes = following
    methods["run_" + names[-1]] = plain_method("run_" + names[-1], takes, StopEvent, last(agents[names[-1]]))
    return methods


def parallel_steps(agents: dict[str, Handler], following: Any | None) -> dict[str, Any]:
    """Return a fan-out, its agents and their join; the join ends the workflow where nothing follows."""
    inputs = {name: event_class("For_" + name) for name in agents}
    done = event_class("Done")
    wanted = [done] * len(agents)

    async def fan_out(context: Any, event: Any) -> None:
        for cls in inputs.values():
            context.send_event(cls(state=event.state))

    async def join(context: Any, event: Any) -> Any:
        events = context.collect_events(event, wanted)
        if events is None:
            return None
        state = union({}, [one.state for one in events])
        return following(state=state) if following else StopEvent(result=state)

    gives: Any = Union[(*inputs.values(), types.NoneType)]
    methods = {"fan_out": method("fan_out", Begin, gives, fan_out)}
    methods["join"] = method("join", done, (following or StopEvent) | None, join)
    for name, cls in inputs.items():
        methods["run_" + name] = plain_method("run_" + name, cls, done, onward(agents[name], done))
    return methods
