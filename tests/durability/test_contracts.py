"""Contracts and aggregates of runs whose processes die: they are those of the plan that was recorded, and come to the same."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from agentflow import Runner, app
from agentflow.core.records import StepCompleted, StepFailed, StepRetried
from agentflow.errors import SchemaExtraError
from tests.durability.checker import faults_of
from tests.durability.world import Death, Life, World, make, one

STATE: Mapping[str, Any] = {
    "properties": {"verdict": {"enum": ["pass", "fail"]}, "score": {"type": "number", "maximum": 1}, "text": {"type": "string"}},
    "additionalProperties": False,
    "required": ["text"],
}
AGENTS: Mapping[str, Any] = {
    "a": {"writes": ["verdict"]},
    "b": {"writes": ["verdict"]},
    "c": {"writes": ["verdict"]},
    "d": {"output_schema": {"required": ["score"], "properties": {"score": {"maximum": 1}}}, "self_correct": 1},
    "e": {"writes": ["text"]},
}
FLOWS: Mapping[str, Any] = {
    "panel": {"mode": "collaborative", "collaborative_agents": ["a", "b", "c"], "aggregate": "vote", "max_process_deaths": 100},
    "rounds": {"mode": "loop", "loop_agent": "d", "max_iterations": 2, "state_schema": {"properties": {"score": {"minimum": 0}}}},
}
MAIN: Mapping[str, Any] = {"mode": "sequential", "sequential_agents": ["panel", "rounds", "e"], "max_process_deaths": 100}


def handlers(world: World, text: Any = "done") -> dict[str, Any]:
    """Return handlers of which one learns from its first mistake in each round, and the last one gives a text."""

    async def review(event: Any, state: Any, ctx: Any) -> Any:
        world.note(ctx)
        await asyncio.sleep({"a": 0.3, "b": 0.1, "c": 0.2}[ctx.agent])
        return {"verdict": "fail" if ctx.agent == "b" else "pass"}

    async def score(event: Any, state: Any, ctx: Any) -> Any:
        world.note(ctx)
        await asyncio.sleep(0.25)
        return {"score": 0.5 if "correction" in event.data else 3}

    async def close(event: Any, state: Any, ctx: Any) -> Any:
        world.note(ctx)
        await asyncio.sleep(0.25)
        return {"text": text}

    return dict.fromkeys("abc", review) | {"d": score, "e": close}


def runner_of(world: World, text: Any = "done", **changes: Any) -> Runner:
    """Return a runner with all contracts, or with what a later configuration has in their place."""
    main = {**MAIN, "state_schema": changes.get("state_schema", STATE)}
    flows = {name: {"max_process_deaths": 100, **flow} for name, flow in FLOWS.items()}
    return make(
        main, handlers(world, text), agents=changes.get("agents", AGENTS), flows=flows, journal={"url": "memory:", "snapshot_every": 4}
    )


async def live(life: Life, runner: Runner) -> Any:
    """Begin the run, or go on with it, and return what it came to."""
    runner = await life.start(runner)
    handles = await runner.resume()
    handle = handles[0] if handles else await runner.emit(one(id="event"))
    result = await handle.result()
    await runner.stop()
    error = result.error and (result.error.code, result.error.message, result.error.position)
    return result.status, dict(result.state), result.outputs, error


def check(world: World) -> None:
    assert [] == world.faults
    row = world.row(world.run_ids[0])
    assert [] == faults_of(row, world.store._runs[row.run_id].entries, world.store._plans.get(row.plan_hash))


def decisions(world: World) -> list[str]:
    kinds = StepRetried | StepCompleted | StepFailed
    told = [fact for fact in world.facts(world.run_ids[0]) if isinstance(fact, kinds)]
    return sorted(f"{fact.position} {type(fact).__name__} {getattr(fact, 'failure', '')}" for fact in told)


def test_contracts_hold_where_a_process_died_at_any_append() -> None:
    """Verdict, corrections, state and outputs are as if no process had died, be the run's last step good or refused."""
    for text, status in (("done", "completed"), (7, "failed")):
        whole = World()
        expected = whole.process(lambda life: live(life, runner_of(whole, text)))  # noqa: B023 - called at once
        assert (expected[0], expected[1].get("verdict"), expected[1]["score"]) == (status, "pass", 0.5)
        assert (expected[3] and expected[3][0]) == (None if text == "done" else "AF0305")
        assert sum("StepRetried" in one and "maximum of 1" in one for one in decisions(whole)) == 2
        deaths = 0
        for at in range(1, 100):
            world = World()
            told = world.process(lambda life: live(life, runner_of(world, text)), Death(append=at, is_written=at % 2 == 0))  # noqa: B023
            if told is not None:
                break
            deaths += 1
            assert expected == world.process(lambda life: live(life, runner_of(world, text)))  # noqa: B023
            assert decisions(whole) == decisions(world)
            check(world)
        assert deaths >= 8


def test_a_run_keeps_the_contracts_it_was_accepted_with(world: World) -> None:
    """Also where the configuration has none any more; what is new goes by the new ones, and the other way round."""
    free: dict[str, Any] = {"state_schema": {}, "agents": {name: {"self_correct": 1} for name in AGENTS}}
    world.process(lambda life: live(life, runner_of(world, 7)), Death(at_s=1.0))
    status, _, _, error = world.process(lambda life: live(life, runner_of(world, 7, **free)))
    assert (status, error[0]) == ("failed", "AF0305")
    check(world)

    other = World()
    other.process(lambda life: live(life, runner_of(other, 7, **free)), Death(at_s=0.1))
    status, state, _, error = other.process(lambda life: live(life, runner_of(other, 7)))
    assert (status, state["text"], error) == ("completed", 7, None)
    check(other)


def test_a_run_waits_for_the_extra_that_its_schemas_need(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not installed the run is left alone, and is not taken for damaged: who has it goes on."""

    def absent(source: Any) -> Any:
        raise SchemaExtraError("what checks schemas is not installed: jsonschema", hint="pip install 'agentflow[schema]'")

    async def without(life: Life) -> Any:
        runner = await life.start(
            make(MAIN, handlers(world), flows={"panel": FLOWS["panel"], "rounds": {"mode": "loop", "loop_agent": "d"}})
        )
        (handle,) = await runner.resume()
        with pytest.raises(SchemaExtraError):
            await handle.result()

    world.process(lambda life: live(life, runner_of(world)), Death(at_s=0.1))
    with monkeypatch.context() as patched:
        patched.setattr(app, "compile_schema", absent)
        world.process(without)
    assert "corrupt" not in world.row(world.run_ids[0]).flags
    status, state, _, _ = world.process(lambda life: live(life, runner_of(world)))
    assert (status, state["verdict"]) == ("completed", "pass")
    check(world)
