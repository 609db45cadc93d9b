"""Outputs: what a step has said goes on to whoever is given it, also where it says what the state had before."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentflow import AgentResult, Event, Runner, State
from agentflow.core.result import RunResult


def run(flow: dict[str, Any], data: dict[str, Any], journal: str | None = None, **handlers: Any) -> RunResult:
    """Run one event through a flow of these handlers."""
    sections = {"journal": {"url": "memory:", "durability": "none"}} if journal is None else {"journal": {"url": journal}}
    runner = Runner.from_dict({"orchestration": flow, "agents": {name: {} for name in handlers}, **sections}, environ={})
    for name, handler in handlers.items():
        runner.register_agent(name, handler)

    async def main() -> RunResult:
        async with runner:
            return await runner.run(Event("", data))

    return asyncio.run(main())


ANSWERS = {
    "a mapping": lambda event, state: {"n": 1, "list": [1], "m": 2},
    "a result": lambda event, state: AgentResult({"n": 1, "list": [1], "m": 2}),
    "a new state": lambda event, state: State({"n": 1, "list": [1], "m": 2}),
    "what was read": lambda event, state: {"n": state["n"], "list": state["list"], "m": 2},
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_pipeline_hands_on_exactly_what_a_stage_returned(answer: str) -> None:
    """The next stage gets every entry, also those that are in the state already with the same value."""
    flow = {"mode": "pipeline", "sequential_agents": ["a", "b"]}
    result = run(flow, {"n": 1, "list": [1]}, a=ANSWERS[answer], b=lambda event, state: {"got": event.data})
    expected = {"n": 1, "m": 2} if answer == "a new state" else {"n": 1, "list": [1], "m": 2}
    assert {**result.state["got"], "list": [1]} == {**expected, "list": [1]}
    assert result.outputs["a"]["n"] == 1


def test_what_a_stage_has_only_read_is_not_handed_on() -> None:
    """A list that was looked at, and not returned, is no part of the answer; what was set is, as it was or not."""

    def look(event: Event, state: Any) -> None:
        state["seen"] = len(state["list"])
        state["n"] = 1

    result = run(
        {"mode": "pipeline", "sequential_agents": ["a", "b"]}, {"n": 1, "list": [1]}, a=look, b=lambda event, state: {"got": event.data}
    )
    assert result.state["got"] == {"n": 1, "seen": 1}


def test_items_come_whole_to_the_reducer() -> None:
    """An item's answer that is in the state already is a result like the others."""
    flow = {"mode": "map_reduce", "map": "a", "over": "xs", "reduce": "b"}
    handlers = {"a": lambda event, state: {"half": event.data["item"] / 2}, "b": lambda event, state: {"all": event.data["results"]}}
    result = run(flow, {"xs": [2, 4], "half": 1.0}, **handlers)
    assert result.state["all"] == [{"half": 1.0}, {"half": 2.0}]


def test_what_was_there_already_is_no_change() -> None:
    """It reaches those who are given the output, and wins over nobody's change: entries that a branch leaves as they were do not merge."""
    steps = [{"id": "one", "agent": "a", "input": 1}, {"id": "two", "agent": "b"}]
    result = run({"mode": "parallel", "steps": steps}, {"n": 1}, a=lambda event, state: {"n": 2}, b=lambda event, state: {"n": 1, "m": 1})
    assert (dict(result.state), result.conflicts) == ({"n": 2, "m": 1}, [])
    assert result.outputs["two"] == {"n": 1, "m": 1}


def test_a_failed_stage_that_is_borne_leaves_what_went_before() -> None:
    """The stage after it gets what the last one that answered has said."""
    steps = [{"agent": "a"}, {"agent": "b", "on_error": "continue"}, {"agent": "c"}]

    def fail(event: Event, state: Any) -> None:
        raise ValueError("no")

    result = run(
        {"mode": "pipeline", "steps": steps}, {"x": 0}, a=lambda event, state: {"a": 1}, b=fail, c=lambda event, state: {"got": event.data}
    )
    assert (result.status, result.state["got"], list(result.errors)) == ("partial", {"a": 1}, ["b"])


def test_a_parallel_step_that_may_not_fail_fails_its_flow() -> None:
    """on_error = "stop" of a step is judged beside the threshold, and "continue" is not counted by it."""

    def fail(event: Event, state: Any) -> None:
        raise ValueError("no")

    def flow(on_error: str, threshold: float) -> dict[str, Any]:
        steps = [{"id": "one", "agent": "a", "on_error": on_error}, {"id": "two", "agent": "b"}]
        return {"mode": "parallel", "steps": steps, "failure_threshold": threshold}

    stopped = run(flow("stop", 1.0), {}, a=fail, b=lambda event, state: {"b": 1})
    assert stopped.error is not None
    assert (stopped.status, stopped.error.code) == ("failed", "AF0505")
    assert "step `one` failed" in stopped.error.message
    borne = run(flow("continue", 0.0), {}, a=fail, b=lambda event, state: {"b": 1})
    assert (borne.status, borne.state["b"], list(borne.errors)) == ("partial", 1, ["one"])


def test_a_failed_join_leaves_no_results() -> None:
    """A pipeline over a list that fails sets nothing, and its error names the agents that failed."""

    def fail(event: Event, state: Any) -> None:
        raise ValueError("no")

    result = run({"mode": "pipeline", "sequential_agents": ["a"], "over": "xs"}, {"xs": [1, 2]}, a=fail)
    assert "results" not in result.state
    assert list(result.errors) == ["a"]
    assert result.error is not None
    assert "a: ValueError: no" in result.error.message


async def _siblings(ctx: Any, seen: list[Any]) -> dict[str, Any]:
    await asyncio.sleep(0.01)
    seen.append(sorted(ctx.outputs))
    return {}


def test_a_step_sees_no_outputs_of_those_beside_it() -> None:
    """ctx.outputs has what came before the join, whichever branch has ended."""
    seen: list[Any] = []

    async def late(event: Event, state: Any, ctx: Any) -> dict[str, Any]:
        return await _siblings(ctx, seen)

    flow = {"mode": "mixed", "collaborative_agents": ["a", "b"], "sequential_agents": ["c"]}
    run(flow, {}, a=lambda event, state: {"a": 1}, b=late, c=late)
    assert seen == [[], ["a", "b"]]


@pytest.mark.parametrize("journal", [None, "memory:"])
def test_outputs_stand_in_the_order_of_the_file_though_steps_wait_for_each_other(journal: str | None) -> None:
    """A step that depends on a later one runs after it, and stands before it in the outputs."""
    steps = [
        {"id": "last", "agent": "a", "depends_on": ["first", "second"]},
        {"id": "second", "agent": "a", "depends_on": ["first"]},
        {"id": "first", "agent": "a"},
    ]
    seen: list[str] = []
    result = run({"mode": "parallel", "steps": steps}, {}, journal, a=lambda event, state, ctx: seen.append(ctx.position))
    assert (list(result.outputs), seen) == (["last", "second", "first"], ["0.0.0", "0.1.0", "0.2.0"])
