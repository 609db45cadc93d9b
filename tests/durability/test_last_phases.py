"""Closed joins, error handlers and compensators of runs whose processes die: they go on where they were."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentflow.core.records import JoinClosed, StepStarted
from tests.durability.checker import faults_of
from tests.durability.world import Death, Life, World, make, one

ABC = {"mode": "collaborative", "collaborative_agents": ["a", "b", "c"], "max_process_deaths": 10}


def agent(world: World, seconds: float = 0.0, *, fails: bool = False, stubborn_s: float = 0.0, **answer: Any) -> Callable[..., Any]:
    """Return a handler that takes its time; once cancelled it goes on for `stubborn_s`."""

    async def handler(event: Any, state: Any, ctx: Any) -> Any:
        world.note(ctx)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            await asyncio.sleep(stubborn_s)
            raise
        if fails:
            raise ValueError("no")
        return answer

    return handler


def lives(world: World, flow: dict[str, Any], handlers: dict[str, Any], death: Death, away_s: float = 0.0, **sections: Any) -> Any:
    """Emit one event in a process that dies, go on with its run in another one, and return the result and how long that took."""

    async def emit(life: Life) -> None:
        runner = await life.start(make(flow, handlers, **sections))
        await (await runner.emit(one())).result()

    async def resume(life: Life) -> Any:
        runner = await life.start(make(flow, handlers, **sections))
        (handle,) = await runner.resume()
        result = await handle.result()
        took_s = life.loop.time()
        await runner.stop()
        return result, took_s

    world.process(emit, death)
    world.now += away_s
    result, took_s = world.process(resume)
    assert world.faults == []
    for run_id in world.run_ids:
        run = world.store._runs[run_id]
        assert faults_of(run.row, run.entries, world.store._plans.get(run.row.plan_hash)) == []
    return result, took_s


def test_a_join_has_what_is_left_of_its_time(world: World) -> None:
    """A process that died gives nothing back; what it had not answered runs again meanwhile."""
    handlers = {"a": agent(world, 1.0, a=1), "b": agent(world, 60.0), "c": agent(world, 60.0)}
    result, took_s = lives(world, {**ABC, "join_timeout_seconds": 10, "failure_threshold": 1.0}, handlers, Death(at_s=4.0))
    assert (result.status, dict(result.state), took_s) == ("partial", {"a": 1}, pytest.approx(6.0, abs=0.01))
    assert world.told(result.run_id, JoinClosed) == [JoinClosed("0", ("0.0",), "deadline")]


def test_a_deadline_that_passed_while_nobody_ran_closes_the_join_at_once(world: World) -> None:
    """Its default outputs count as they would have."""
    handlers = {"a": agent(world, 1.0, a=1), "b": agent(world, 60.0), "c": agent(world, 2.0, c=1)}
    flow = {**ABC, "join_timeout_seconds": 10, "failure_threshold": 0.0}
    agents = {"b": {"default_output": {"b": "default"}}}
    result, took_s = lives(world, flow, handlers, Death(at_s=9.0), agents=agents, away_s=60.0)
    assert (result.status, result.reason, took_s) == ("completed", "degraded", pytest.approx(0.0, abs=0.01))
    assert (dict(result.state), result.flags) == ({"a": 1, "b": "default", "c": 1}, ("degraded",))


def test_a_default_output_that_a_deadline_took_is_remembered(world: World) -> None:
    """The run is degraded, although the process that closed the join has died since."""
    flow = {"mode": "mixed", "collaborative_agents": ["a", "b"], "sequential_agents": ["c"], "max_process_deaths": 10}
    handlers = {"a": agent(world, 1.0, a=1), "b": agent(world, 60.0), "c": agent(world, 9.0, c=1)}
    agents = {"b": {"default_output": {"b": "default"}}}
    result, _ = lives(world, {**flow, "join_timeout_seconds": 2}, handlers, Death(at_s=5.0), agents=agents)
    assert (result.status, result.reason, result.flags) == ("completed", "degraded", ("degraded",))


def test_a_lost_join_is_closed_by_the_next_process(world: World) -> None:
    """It died while the others were being cancelled: they are not begun again."""
    handlers = {"a": agent(world, 1.0, fails=True), "b": agent(world, 60.0, stubborn_s=5.0), "c": agent(world, 60.0, stubborn_s=5.0)}
    result, _ = lives(world, {**ABC, "fail_fast": True, "failure_threshold": 0.0}, handlers, Death(at_s=2.0))
    assert (result.status, result.reason) == ("failed", "threshold")
    assert world.told(result.run_id, JoinClosed) == [JoinClosed("0", ("0.0",), "fail_fast")]
    assert [position for _, position, _ in world.ledger] == ["0.0", "0.1", "0.2"]


def test_what_stands_beside_a_lost_join_goes_on_in_the_next_process(world: World) -> None:
    """So does what follows it."""
    flow = {"mode": "collaborative", "collaborative_agents": ["lost", "d"], "max_process_deaths": 10}
    flows = {
        "join": {**ABC, "fail_fast": True, "failure_threshold": 0.0},
        "lost": {"mode": "sequential", "sequential_agents": ["join", "e"], "on_error": "continue"},
    }
    handlers = {"a": agent(world, 1.0, fails=True), "b": agent(world, 60.0, stubborn_s=5.0), "c": agent(world, 60.0)}
    handlers |= {"d": agent(world, 3.0, d=1), "e": agent(world, e=1)}
    result, took_s = lives(world, flow, handlers, Death(at_s=2.0), flows=flows)
    assert (result.status, dict(result.state), took_s) == ("partial", {"e": 1, "d": 1}, pytest.approx(3.0, abs=0.01))


def test_lost_joins_in_one_another_are_closed_by_the_next_process(world: World) -> None:
    """The inner one first; each once."""
    flows = {"inner": {**ABC, "fail_fast": True, "failure_threshold": 0.0}}
    flow = {"mode": "collaborative", "collaborative_agents": ["inner", "d", "e"], "max_process_deaths": 10}
    handlers = {"a": agent(world, 1.0, fails=True), "b": agent(world, 60.0, stubborn_s=9.0), "c": agent(world, 60.0)}
    handlers |= {"d": agent(world, 2.0, fails=True), "e": agent(world, 60.0, stubborn_s=9.0)}
    limits = {"fail_fast": True, "failure_threshold": 0.0}
    result, _ = lives(world, {**flow, **limits}, handlers, Death(at_s=3.0), flows=flows)
    assert (result.status, result.reason) == ("failed", "threshold")
    assert [fact.position for fact in world.told(result.run_id, JoinClosed)] == ["0.0", "0"]


@pytest.mark.parametrize("at_s", [0.5, 1.5, 2.5, 3.5])
def test_the_last_phases_go_on_where_they_were(world: World, at_s: float) -> None:
    """The handler and each compensator is called once more only where it had no answer yet."""
    flow = {"mode": "sequential", "sequential_agents": ["a", "b", "c"], "max_process_deaths": 10}
    handlers = {"a": agent(world), "b": agent(world), "c": agent(world, 1.0, fails=True)}
    handlers |= {"triage": agent(world, 1.0, noted=1), "undo_a": agent(world, 1.0, a=0), "undo_b": agent(world, 1.0, b=0)}
    agents = {"a": {"compensate": "undo_a"}, "b": {"compensate": "undo_b"}}
    result, _ = lives(world, flow, handlers, Death(at_s=at_s), agents=agents, error_routing={"error_handler": "triage"})
    assert (result.status, result.error.position, dict(result.state)) == ("failed", "0.2", {"noted": 1, "a": 0, "b": 0})
    called = [position for _, position, _ in world.ledger]
    assert list(dict.fromkeys(called)) == ["0.0", "0.1", "0.2", "!", "~0.1", "~0.0"]
    assert len(called) == len(world.told(result.run_id, StepStarted)) == 7
