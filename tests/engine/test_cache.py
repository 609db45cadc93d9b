"""The cache: answers that serve other calls of the same agent with the same input, for a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from agentflow import AgentResult, Event, Hook, Runner
from agentflow.core.records import AnswerReused

MakeRunner = Callable[..., Runner]
SEQUENCE: Mapping[str, Any] = {"mode": "sequential", "sequential_agents": ["a"]}
CACHED = {"a": {"cache": {"ttl_seconds": 60}}}


class Counting:
    """A handler that counts its calls, and answers with their number."""

    def __init__(self, times_to_fail: int = 0) -> None:
        self.calls = 0
        self.times_to_fail = times_to_fail

    async def __call__(self, event: Event, state: Any) -> Any:
        self.calls += 1
        if self.calls <= self.times_to_fail:
            raise OSError("busy")
        return {"n": self.calls, "list": [self.calls]}


@pytest.mark.parametrize("sections", [{}, {"journal": {"url": "memory:"}}])
async def test_the_same_input_is_answered_from_the_cache(make_runner: MakeRunner, sections: Any) -> None:
    """The handler is not called, the run says so in its records, and uses no call."""
    handler, facts = Counting(), []
    async with make_runner(SEQUENCE, {"a": handler}, agents=CACHED, **sections) as runner:
        first = await runner.run(Event("", {"x": 1}))
        runner.observe(lambda record: facts.append(record.fact))
        second = await runner.run(Event("", {"x": 1}))
    assert handler.calls == 1
    assert dict(first.state) == dict(second.state) == {"x": 1, "n": 1, "list": [1]}
    assert second.outputs == first.outputs
    assert (first.usage.calls, second.usage.calls, second.status) == (1, 0, "completed")
    assert [type(fact).__name__ for fact in facts][1:4] == ["StepStarted", "AnswerReused", "StepCompleted"]
    assert [(fact.position, fact.agent) for fact in facts if isinstance(fact, AnswerReused)] == [("0.0", "a")]


async def test_an_answer_expires(make_runner: MakeRunner) -> None:
    """After `ttl_seconds` from when it was given, however often it was used since; a wall clock that jumps changes nothing."""
    handler = Counting()
    async with make_runner(SEQUENCE, {"a": handler}, agents=CACHED) as runner:
        runner._adapters.clock.time = iter([*[1e9, 2e9] * 50]).__next__
        for seconds, calls in ((0, 1), (59, 1), (2, 2), (59, 2), (0.5, 2), (0.6, 3)):
            await asyncio.sleep(seconds)
            assert dict((await runner.run(Event())).state)["n"] == calls == handler.calls


@pytest.mark.parametrize(
    "other",
    [
        Event("", {"x": 2}),
        Event("", {"x": 1, "y": None}),
        Event("", {"x": True}),
        Event("", {"x": 1.0}),
        Event("", {"x": "1"}),
        Event("", {"x": 1}, metadata={"tone": "dry"}),
    ],
)
async def test_another_input_is_another_call(make_runner: MakeRunner, other: Event) -> None:
    """Data and metadata count, to the type."""
    handler = Counting()
    async with make_runner(SEQUENCE, {"a": handler}, agents=CACHED) as runner:
        await runner.run(Event("", {"x": 1}))
        await runner.run(other)
    assert handler.calls == 2


async def test_what_the_step_sees_counts(make_runner: MakeRunner) -> None:
    """What steps before it have set, and what a hook injects."""
    handler, injected = Counting(), iter([1, 2, 2])
    flow = {"mode": "sequential", "sequential_agents": ["set", "a"]}
    values = iter([1, 2, 2, 2, 2, 2])

    async def set_v(event: Event, state: Any) -> dict[str, int]:
        return {"v": next(values)}

    def inject(args: Any) -> None:
        if args.agent == "a":
            args.state["hint"] = next(injected)

    async with make_runner(flow, {"set": set_v, "a": handler}, agents=CACHED) as runner:
        for calls in (1, 2, 2):
            await runner.run(Event())
            assert handler.calls == calls
        runner.register_callback(Hook.BEFORE_AGENT_RUN, "inject", inject)
        for calls in (3, 4, 4):
            await runner.run(Event())
            assert handler.calls == calls


async def test_other_agents_and_agents_without_it_are_called(make_runner: MakeRunner) -> None:
    """A cache is its agent's own."""
    handlers = {"a": Counting(), "b": Counting(), "c": Counting()}
    flow = {"mode": "collaborative", "collaborative_agents": ["a", "b", "c"]}
    async with make_runner(flow, handlers, agents={**CACHED, "b": CACHED["a"]}) as runner:
        for _ in range(3):
            await runner.run(Event())
    assert [handler.calls for handler in handlers.values()] == [1, 1, 3]


async def test_who_gets_an_answer_cannot_change_it_for_others(make_runner: MakeRunner) -> None:
    """Nor can who gave it: each has a copy."""
    kept: dict[str, Any] = {"list": [1]}

    async def a(event: Event, state: Any) -> Any:
        return kept

    async def spoil(event: Event, state: Any) -> None:
        state["list"].append(2)

    flow = {"mode": "sequential", "sequential_agents": ["a", "spoil"]}
    async with make_runner(flow, {"a": a, "spoil": spoil}, agents=CACHED) as runner:
        for _ in range(3):
            result = await runner.run(Event())
            assert dict(result.state) == {"list": [1, 2]}
            result.state["list"].append(3)
            result.outputs["a"]["list"].append(4)
            kept["list"].append(5)


async def test_failures_are_not_kept(make_runner: MakeRunner) -> None:
    """Nor what a fallback or a default output has answered in its place; what a retry answered is."""
    for agent, most in (({"default_output": {"n": 0}}, 3), ({"fallback": ["b"]}, 3), ({"retry": {"max_retries": 1}}, 2)):
        handler = Counting(times_to_fail=1 if "retry" in agent else 9)
        async with make_runner(SEQUENCE, {"a": handler, "b": Counting()}, agents={"a": {**CACHED["a"], **agent}}) as runner:
            for _ in range(3):
                assert (await runner.run(Event())).status == "completed"
        assert handler.calls == most


async def test_a_fallback_has_its_own_cache(make_runner: MakeRunner) -> None:
    """It is not called again, although the agent before it is."""
    handlers = {"a": Counting(times_to_fail=9), "b": Counting()}
    async with make_runner(SEQUENCE, handlers, agents={"a": {"fallback": ["b"]}, "b": CACHED["a"]}) as runner:
        assert [dict((await runner.run(Event())).state)["n"] for _ in range(3)] == [1, 1, 1]
    assert [handler.calls for handler in handlers.values()] == [3, 1]


async def test_routes_and_removals_are_part_of_an_answer(make_runner: MakeRunner) -> None:
    """A cached step hands on as the first one did."""
    called: list[str] = []

    async def a(event: Event, state: Any) -> AgentResult:
        called.append("a")
        del state["x"]
        return AgentResult(state, route="b")

    async def b(event: Event, state: Any) -> dict[str, Any]:
        called.append("b")
        return {"saw": "x" in state}

    async with make_runner({"mode": "route"}, {"a": a, "b": b}, agents=CACHED) as runner:
        results = [await runner.run(Event("a", {"x": 1})) for _ in range(2)]
    assert called == ["a", "b", "b"]
    assert [dict(result.state) for result in results] == [{"saw": False}] * 2


async def test_hooks_see_cached_answers_too(make_runner: MakeRunner) -> None:
    """BEFORE and AFTER of the agent come as ever, and what AFTER changes is not what is kept."""
    seen: list[Any] = []
    async with make_runner(SEQUENCE, {"a": Counting()}, agents=CACHED) as runner:
        runner.register_callback(Hook.AFTER_AGENT_RUN, "after", lambda args: seen.append(args.state["n"]) or args.state.update({"n": 99}))
        results = [await runner.run(Event()) for _ in range(2)]
    assert seen == [1, 1]
    assert [result.state["n"] for result in results] == [99, 99]


async def test_rounds_of_a_loop_see_other_states(make_runner: MakeRunner) -> None:
    """So its rounds are calls of their own, and a second run is answered as a whole."""
    handler = Counting()
    async with make_runner({"mode": "loop", "loop_agent": "a", "max_iterations": 3}, {"a": handler}, agents=CACHED) as runner:
        first = await runner.run(Event())
        assert handler.calls == 3
        assert dict((await runner.run(Event())).state) == dict(first.state)
    assert handler.calls == 3
