"""`subscribes`: who takes an event because of its target, beside whoever it is meant for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentflow import Event, Hook, Runner, RunResult
from agentflow.config.diagnostics import ConfigError
from agentflow.errors import EventLimitError, MissingHandlerError
from tests.runner.conftest import MakeRunner

KEPT = pytest.mark.parametrize("kept", [{}, {"journal": {"url": "memory:"}}], ids=["unrecorded", "recorded"])


async def tell(event: Event, state: Any, ctx: Any) -> dict[str, Any]:
    """Answer who was called for what."""
    return {ctx.agent: f"{event.target} {event.data.get('n')}"}


async def fail(event: Event, state: Any) -> None:
    """Raise."""
    raise OSError("no")


def takers(**patterns: list[str]) -> dict[str, Any]:
    """Return tables of agents that subscribe."""
    return {name: {"subscribes": told} for name, told in patterns.items()}


def told(tree: dict[str, RunResult]) -> list[dict[str, Any]]:
    """Return what agents have answered, run by run."""
    return [{name: patch[name] for name, patch in result.outputs.items()} for result in tree.values()]


@KEPT
async def test_each_subscriber_has_a_run_of_its_own(make_runner: MakeRunner, kept: dict[str, Any]) -> None:
    """In the order of the file, under the event's own run, whoever that one calls; disabled agents take nothing."""
    agents = takers(b=["order.*"], c=["x", "order.?"], d=["order"], e=["*"]) | {"off": {"subscribes": ["*"], "enabled": False}}
    flow = {"mode": "sequential", "sequential_agents": ["a"]}
    async with make_runner(flow, dict.fromkeys("abcde", tell), agents=agents, **kept) as runner:
        handle = await runner.emit(Event("order.7", {"n": 1}))
        tree = await handle.tree()
        assert [{name: "order.7 1"} for name in "abce"] == told(tree)
        assert handle.run_id == next(iter(tree))
        assert {"a": "order.7 1"} == (await handle.result()).outputs["a"]
        assert [{"a": "other 2"}, {"e": "other 2"}] == told(await (await runner.emit(Event("other", {"n": 2}))).tree())
        assert [{"a": " 3"}] == told(await (await runner.emit(Event("", {"n": 3}))).tree())


@KEPT
async def test_an_event_for_subscribers_alone_calls_nobody_else(make_runner: MakeRunner, kept: dict[str, Any]) -> None:
    """In mode route its own run is done at once, with the event's data as its state; nobody's event is an error as ever."""
    async with make_runner({}, {"a": tell, "b": tell}, agents=takers(b=["order.*"]), **kept) as runner:
        handle = await runner.emit(Event("order.new", {"n": 1}))
        result = await handle.result()
        assert ("completed", {"n": 1}, {}, 0) == (result.status, result.state.to_dict()["data"], result.outputs, result.usage.calls)
        assert [{}, {"b": "order.new 1"}] == told(await handle.tree())
        assert [{"a": "a 1"}] == told(await (await runner.emit(Event("a", {"n": 1}))).tree())
        assert "RoutingError" == (await runner.run(Event("nobody"))).error.type  # type: ignore[union-attr]
        steered = await runner.emit(Event("order.new", {"n": 2}, {"route": "a"}))
        assert [{"a": "order.new 2"}, {"b": "order.new 2"}] == told(await steered.tree())


@KEPT
async def test_a_member_that_subscribes_to_its_own_name_works_twice(make_runner: MakeRunner, kept: dict[str, Any]) -> None:
    """Once as the member, once as the subscriber."""
    async with make_runner({}, {"a": tell}, agents=takers(a=["a"]), **kept) as runner:
        assert [{"a": "a 1"}] * 2 == told(await (await runner.emit(Event("a", {"n": 1}))).tree())


@KEPT
async def test_one_failing_subscriber_stops_neither_the_others_nor_the_root(make_runner: MakeRunner, kept: dict[str, Any]) -> None:
    """Its run fails by itself, with all its limits: retries, the error handler of the configuration."""
    seen: list[Any] = []

    async def triage(event: Event, state: Any) -> None:
        seen.append(event.data["agent"])

    agents = takers(b=["x"], c=["x"]) | {"triage": {}}
    agents["b"]["retry"] = {"max_retries": 2}
    handlers = {"a": tell, "b": fail, "c": tell, "triage": triage}
    flow = {"mode": "sequential", "sequential_agents": ["a"]}
    async with make_runner(flow, handlers, agents=agents, error_routing={"error_handler": "triage"}, **kept) as runner:
        tree = await (await runner.emit(Event("x", {"n": 1}))).tree()
        assert ["completed", "failed", "completed"] == [result.status for result in tree.values()]
        assert 3 == [*tree.values()][1].error.attempts  # type: ignore[union-attr]
    assert ["b"] == seen


@KEPT
async def test_events_of_callbacks_have_subscribers_too(make_runner: MakeRunner, kept: dict[str, Any]) -> None:
    """They belong to the same root."""
    async with make_runner({}, {"a": tell, "b": tell}, agents=takers(b=["note"]), **kept) as runner:

        @runner.on(Hook.AFTER_AGENT_RUN)
        async def note(args: Any) -> None:
            if args.event.target == "a":
                await args.runner.emit(Event("note", {"n": 2}))

        assert [{"a": "a 1"}, {}, {"b": "note 2"}] == told(await (await runner.emit(Event("a", {"n": 1}))).tree())


@KEPT
async def test_subscribers_of_what_subscribers_emit(make_runner: MakeRunner, kept: dict[str, Any]) -> None:
    """A ring of two goes on until the root's bound is reached, and ends there."""

    async def ping(event: Event, state: Any, ctx: Any) -> None:
        ctx.emit(Event("pong" if event.target == "ping" else "ping"))

    agents = takers(a=["ping"], b=["pong"])
    async with make_runner({"max_events": 11}, {"a": ping, "b": ping}, agents=agents, **kept) as runner:
        tree = await (await runner.emit(Event("ping"))).tree()
        assert 1 + 11 == len(tree)
        assert ["failed"] == [result.status for result in tree.values() if result.status != "completed"]


async def test_an_event_of_more_subscribers_than_max_events_is_refused(make_runner: MakeRunner) -> None:
    """Where it is emitted: half of them would be nobody's wish."""
    async with make_runner({"max_events": 1}, dict.fromkeys("abc", tell), agents=takers(b=["x"], c=["x"])) as runner:
        with pytest.raises(EventLimitError, match="2 agents"):
            await runner.emit(Event("x"))
        assert 0 == len(runner._engine.runs)  # type: ignore[union-attr]


async def test_a_subscriber_needs_a_handler(make_runner: MakeRunner) -> None:
    """It is called although no flow reaches it."""
    flow = {"mode": "sequential", "sequential_agents": ["a"]}
    with pytest.raises(MissingHandlerError, match="b"):
        await make_runner(flow, {"a": tell}, agents=takers(b=["x"])).start()


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    """An empty one: it would be read and ignored."""
    with pytest.raises(ConfigError, match="is empty, and matches no event"):
        Runner.from_dict({"orchestration": {}, "agents": takers(a=[""])})


async def test_the_same_event_again_has_the_same_subscribers(make_runner: MakeRunner) -> None:
    """Nobody is called twice for one event that was emitted twice."""
    calls: list[str] = []

    async def count(event: Event, state: Any, ctx: Any) -> None:
        calls.append(ctx.agent)

    agents = takers(b=["x"])
    flow = {"mode": "sequential", "sequential_agents": ["a"]}
    async with make_runner(flow, {"a": count, "b": count}, agents=agents, journal={"url": "memory:"}) as runner:
        first = await runner.emit(Event("x", id="once"))
        tree = await first.tree()
        again = await runner.emit(Event("x", id="once"))
        assert first.run_id == again.run_id
        assert list(tree) == list(await again.tree())
        assert 2 == len(await runner.runs(children=True))
    assert ["a", "b"] == calls


@KEPT
async def test_subscribers_have_the_turn_that_their_event_has_in_its_session(make_runner: MakeRunner, kept: dict[str, Any]) -> None:
    """They begin with the event's own run, not before it is its turn, and the session's next event waits for them."""
    order: list[str] = []

    async def note(event: Event, state: Any, ctx: Any) -> None:
        assert ctx.session_id == "s"
        order.append(f"{ctx.agent}{event.data['n']} begins")
        await asyncio.sleep(2 if ctx.agent == "b" else 1)
        order.append(f"{ctx.agent}{event.data['n']} ends")

    flow = {"mode": "sequential", "sequential_agents": ["a"]}
    async with make_runner(flow, {"a": note, "b": note}, agents=takers(b=["x"]), **kept) as runner:
        handles = [await runner.emit(Event("x", {"n": n}, session_id="s")) for n in range(3)]
        for handle in handles:
            assert 2 == len(await handle.tree())
    for n in range(3):
        assert {f"a{n} begins", f"b{n} begins"} == set(order[4 * n : 4 * n + 2])
        assert [f"a{n} ends", f"b{n} ends"] == order[4 * n + 2 : 4 * n + 4]


async def test_retry_and_fork_of_an_event_call_its_subscribers_no_more(make_runner: MakeRunner) -> None:
    """They have runs of their own, which can be forked and tried again by themselves."""
    flow = {"mode": "sequential", "sequential_agents": ["a"]}
    async with make_runner(flow, {"a": fail, "b": tell}, agents=takers(b=["x"]), journal={"url": "memory:"}) as runner:
        handle = await runner.emit(Event("x", {"n": 1}))
        first, second = await handle.tree()
        assert 1 == len(await (await runner.fork(first)).tree())
        fork = await runner.fork(second)
        assert [{"b": "x 1"}] == told(await fork.tree())
        assert (await runner.get(fork.run_id)).row.root_id is None
