"""Steps that wait for a person: in each mode, addressed by position, answered once, whatever becomes of the process meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from agentflow import AgentResult, Runner
from agentflow.core.records import ApprovalGranted, ApprovalRejected, ApprovalRequested, StepStarted
from agentflow.errors import IllegalTransitionError
from tests.durability.checker import faults_of
from tests.durability.world import Death, Life, World, make, one

# By mode: the flow, the event's target, and where agent b waits, in order.
MODES: dict[str, tuple[Mapping[str, Any], str, tuple[str, ...]]] = {
    "sequential": ({"mode": "sequential", "sequential_agents": ["a", "b", "c"]}, "", ("0.1",)),
    "collaborative": ({"mode": "collaborative", "collaborative_agents": ["a", "b", "c"]}, "", ("0.1",)),
    "mixed": ({"mode": "mixed", "collaborative_agents": ["a", "c"], "sequential_agents": ["b"]}, "", ("0.1.0",)),
    "loop": ({"mode": "loop", "loop_agent": "b", "max_iterations": 2}, "", ("0#1", "0#2")),
    "route": ({"mode": "route"}, "a", ("0#2.1",)),
}


def _runner(world: World, mode: str, **b: Any) -> Runner:
    async def count(event: Any, state: Any, ctx: Any) -> AgentResult:
        world.note(ctx)
        await asyncio.sleep(0.5)
        state[ctx.agent] = state.get(ctx.agent, 0) + 1
        return AgentResult(state, route={"a": "b", "b": "c"}.get(ctx.agent) if mode == "route" else None)

    flow = {"failure_threshold": 0.0} if mode == "collaborative" else {}
    return make({**MODES[mode][0], **flow}, dict.fromkeys("abc", count), agents={"b": {"requires_approval": True, **b}})


async def _started(life: Life, mode: str, **b: Any) -> Runner:
    return await life.start(_runner(life.world, mode, **b))


def _check(world: World) -> None:
    assert [] == world.faults
    for run_id in world.run_ids:
        run = world.store._runs[run_id]
        assert [] == faults_of(run.row, run.entries, world.store._plans.get(run.row.plan_hash))


@pytest.mark.parametrize("is_killed", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_a_step_waits_for_its_approval_in_each_mode(world: World, mode: str, is_killed: bool) -> None:
    """A run is paused when nothing but people can move it on; an approval at its position lets the step run, after a kill too."""
    places = MODES[mode][2]

    async def emit(life: Life) -> None:
        handle = await (await _started(life, mode)).emit(one(MODES[mode][1]))
        assert "paused" == await handle.wait()
        if is_killed:
            life.die()
            await asyncio.sleep(1)

    async def answer(life: Life) -> Any:
        runner = await _started(life, mode)
        (handle,) = await runner.resume()
        for place in places:
            assert "paused" == await handle.wait()
            row = world.row(handle.run_id)
            assert ("paused", "approval", (place,)) == (row.state, row.reason, row.waiting)
            assert row.due_at is not None
            assert await handle.approve(place, by="somebody", note="fine")
            assert not await handle.approve(place)
            assert not await handle.reject(place)
        return await handle.result()

    world.process(emit)
    result = world.process(answer)
    expected = {"b": 2} if mode == "loop" else {"a": 1, "b": 1, "c": 1}
    assert ("completed", expected) == (result.status, dict(result.state))
    (run_id,) = world.run_ids
    assert list(places) == [fact.position for fact in world.told(run_id, ApprovalRequested)]
    assert [(place, "somebody", "fine") for place in places] == [
        (fact.position, fact.by, fact.note) for fact in world.told(run_id, ApprovalGranted)
    ]
    for place in places:
        mine = [type(fact).__name__ for fact in world.facts(run_id) if getattr(fact, "position", "") == place]
        assert mine.index("ApprovalRequested") < mine.index("ApprovalGranted") < mine.index("StepStarted")
        assert 1 == mine.count("StepStarted")
    _check(world)


@pytest.mark.parametrize("mode", MODES)
def test_a_rejection_fails_the_step(world: World, mode: str) -> None:
    """A rejected step fails without an attempt; what was written before it stays."""

    async def main(life: Life) -> Any:
        handle = await (await _started(life, mode)).emit(one(MODES[mode][1]))
        await handle.wait()
        assert await handle.reject("b", by="somebody", reason="too dear")
        return await handle.result()

    result = world.process(main)
    assert "failed" == result.status
    assert "AF0511" == result.errors["b"].code
    assert "too dear" in result.errors["b"].message
    (run_id,) = world.run_ids
    assert MODES[mode][2][0] not in [fact.position for fact in world.told(run_id, StepStarted)]
    assert not any(position == MODES[mode][2][0] for _, position, _ in world.ledger)
    _check(world)


@pytest.mark.parametrize("died_for_s", [None, 10.0, 500.0])
def test_a_deadline_is_a_rejection(world: World, died_for_s: float | None) -> None:
    """An approval that nobody gives in time is a rejection, also when the time ran out while no process was there."""

    async def emit(life: Life) -> Any:
        handle = await (await _started(life, "sequential", approval_timeout_seconds=100)).emit(one())
        assert "paused" == await handle.wait()
        if died_for_s is not None:
            life.die()
        return await handle.result(), life.time()

    async def resume(life: Life) -> Any:
        (handle,) = await (await _started(life, "sequential")).resume()
        return await handle.result(), life.time()

    began = world.now
    told = world.process(emit)
    if told is None:
        world.now += died_for_s or 0.0
        told = world.process(resume)
    result, ended_at = told
    assert ("failed", "AF0511") == (result.status, result.errors["b"].code)
    assert pytest.approx(max(100.5, 0.5 + (died_for_s or 0.0)), abs=0.1) == ended_at - began
    (rejected,) = world.told(world.run_ids[0], ApprovalRejected)
    assert "deadline" == rejected.by
    _check(world)


def test_an_approval_is_for_the_input_that_was_seen(world: World) -> None:
    """An approval with the digest of another input is refused, and records nothing."""

    async def main(life: Life) -> Any:
        runner = await _started(life, "sequential")
        first, second = await runner.emit(one("", {"price": 1})), await runner.emit(one("", {"price": 1000}))
        await first.wait()
        await second.wait()
        digests = [world.told(handle.run_id, ApprovalRequested)[0].digest for handle in (first, second)]
        assert digests[0] != digests[1]
        before = len(world.facts(second.run_id))
        with pytest.raises(IllegalTransitionError):
            await second.approve("b", digest=digests[0])
        assert before == len(world.facts(second.run_id))
        assert await second.approve("b", digest=digests[1])
        assert await first.approve("b", digest=digests[0])
        return await first.result(), await second.result()

    assert ["completed", "completed"] == [result.status for result in world.process(main)]
    _check(world)


def test_two_runs_and_two_rounds_do_not_mix(world: World) -> None:
    """An approval reaches one position of one run: not that of another run, nor the same step of another round."""

    async def main(life: Life) -> Any:
        runner = await _started(life, "loop")
        first, second = await runner.emit(one()), await runner.emit(one())
        await first.wait()
        await second.wait()
        assert not await first.approve("0#2")
        assert await first.approve("0#1")
        await first.wait()
        assert (("0#2",), ("0#1",)) == (world.row(first.run_id).waiting, world.row(second.run_id).waiting)
        assert not await first.approve("0#1")
        assert await second.reject("0#1")
        assert await first.approve("0#2")
        return await first.result(), await second.result()

    first, second = world.process(main)
    assert ("completed", {"b": 2}) == (first.status, dict(first.state))
    assert ("failed", "error") == (second.status, second.reason)
    _check(world)


def test_branches_wait_beside_each_other(world: World) -> None:
    """Waiting branches are answered in any order, before and after a kill; an agent's name is refused where two of it wait."""
    flow = {"mode": "collaborative", "collaborative_agents": ["left", "right", "b"]}
    flows = {"left": {"mode": "sequential", "sequential_agents": ["b"]}, "right": {"mode": "sequential", "sequential_agents": ["a", "b"]}}

    def runner() -> Runner:
        async def count(event: Any, state: Any, ctx: Any) -> dict[str, int]:
            world.note(ctx)
            await asyncio.sleep(0.5)
            return {f"{ctx.agent} at {ctx.position}": 1}

        return make(flow, {"a": count, "b": count}, flows=flows, agents={"b": {"requires_approval": True}})

    async def emit(life: Life) -> None:
        handle = await (await life.start(runner())).emit(one())
        await asyncio.sleep(0.1)
        assert {"0.0.0", "0.2"} == set(handle._run.waiting)
        assert not handle.is_done
        assert await handle.approve("0.2")
        assert "paused" == await handle.wait()
        with pytest.raises(IllegalTransitionError, match=r"0\.0\.0, 0\.1\.1|2 steps"):
            await handle.approve("b")
        assert await handle.approve("0.1.1")
        life.die()
        await asyncio.sleep(1)

    async def answer(life: Life) -> Any:
        (handle,) = await (await life.start(runner())).resume()
        assert "paused" == await handle.wait()
        assert ("0.0.0",) == world.row(handle.run_id).waiting
        assert await handle.approve("b")
        return await handle.result()

    world.process(emit)
    result = world.process(answer)
    assert ("completed", 4) == (result.status, len(result.state))
    _check(world)


@pytest.mark.parametrize("append", range(1, 9))
@pytest.mark.parametrize("is_written", [False, True])
def test_an_approval_is_given_once_wherever_the_process_dies(world: World, append: int, is_written: bool) -> None:
    """A grant that was recorded is not asked for again, one that was not is; the step runs after it alone."""

    async def live(life: Life) -> Any:
        runner = await _started(life, "sequential")
        handles = await runner.resume() or [await runner.emit(one("", id="event"))]
        if "paused" == await handles[0].wait():
            assert await handles[0].approve("b")
        return await handles[0].result()

    result = world.process(live, Death(append=append, is_written=is_written))
    if result is None and [world.row(run_id) for run_id in world.run_ids if not world.row(run_id).is_open] == []:
        result = world.process(live)
    (run_id,) = world.run_ids
    assert "completed" == world.row(run_id).state
    assert 1 == len(world.told(run_id, ApprovalGranted)) == len(world.told(run_id, ApprovalRequested))
    _check(world)
