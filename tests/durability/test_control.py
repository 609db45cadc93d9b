"""Pause, resume and cancel: durable before they are acknowledged, and obeyed whatever handlers and processes do."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from agentflow import Runner
from agentflow.core.records import FlowCut, StepStarted, WorkflowCancelled, WorkflowPaused, WorkflowResumed
from agentflow.errors import IllegalTransitionError
from tests.durability.checker import ENDS, faults_of
from tests.durability.world import Death, Life, World, make, one

NAMES = list("abcd")


def _runner(world: World, **flow: Any) -> Runner:
    async def slow(event: Any, state: Any, ctx: Any) -> dict[str, int]:
        world.note(ctx)
        await asyncio.sleep(1)
        return {ctx.agent: ctx.attempt}

    return make({"mode": "sequential", "sequential_agents": NAMES} | flow, dict.fromkeys(NAMES, slow))


def _check(world: World) -> None:
    assert [] == world.faults
    for run_id in world.run_ids:
        run = world.store._runs[run_id]
        assert [] == faults_of(run.row, run.entries, world.store._plans.get(run.row.plan_hash))


async def _results(life: Life, runner: Runner) -> list[Any]:
    await life.start(runner)
    return [await handle.result() for handle in await runner.resume()]


@pytest.mark.parametrize("commit_s", [0.0, 0.3])
def test_a_pause_is_durable_when_it_is_acknowledged(world: World, commit_s: float) -> None:
    """A pause that was acknowledged holds after a kill right behind it; the step in flight is made again after the resume."""

    async def emit(life: Life) -> None:
        handle = await (await life.start(_runner(world))).emit(one())
        await asyncio.sleep(1.5)
        await handle.pause("lunch")
        assert ["lunch"] == [fact.reason for fact in world.told(handle.run_id, WorkflowPaused)]
        life.die()
        await asyncio.sleep(1)

    async def look(life: Life) -> tuple[int, str]:
        runner = await life.start(_runner(world))
        (handle,) = await runner.resume()
        await asyncio.sleep(100)
        return len(world.ledger), await handle.wait()

    async def go_on(life: Life) -> Any:
        runner = await life.start(_runner(world))
        (handle,) = await runner.resume(world.run_ids[0])
        return await handle.result()

    world.process(emit, commit_s=commit_s)
    calls = len(world.ledger)
    assert (calls, "paused") == world.process(look, commit_s=commit_s)
    assert ("paused", "lunch") == (world.row(world.run_ids[0]).state, world.row(world.run_ids[0]).reason)
    result = world.process(go_on, commit_s=commit_s)
    assert ("completed", set(NAMES)) == (result.status, set(result.state))
    assert [2] == [attempts for attempts in result.state.values() if attempts != 1]
    _check(world)


@pytest.mark.parametrize("append", range(2, 7))
@pytest.mark.parametrize("is_written", [False, True])
def test_pause_and_resume_wherever_the_process_dies(world: World, append: int, is_written: bool) -> None:
    """However far a pause or its end got before a kill, the run comes to its end once it is resumed by name."""

    async def emit(life: Life) -> Any:
        handle = await (await life.start(_runner(world))).emit(one("", id="event"))
        await asyncio.sleep(0.5)
        await handle.pause("lunch")
        assert "paused" == await handle.wait()
        await asyncio.sleep(10)
        await handle.resume("me")
        return await handle.result()

    async def go_on(life: Life) -> Any:
        runner = await life.start(_runner(world))
        handles = await runner.resume(world.run_ids[0])
        return await handles[0].result()

    if world.process(emit, Death(append=append, is_written=is_written)) is None and world.row(world.run_ids[0]).is_open:
        world.process(go_on)
    assert "completed" == world.row(world.run_ids[0]).state
    _check(world)


def test_nothing_begins_while_a_run_is_paused(world: World) -> None:
    """Between a pause and its end no step is started, in the journal or outside; what was in flight finishes and is recorded."""

    async def main(life: Life) -> Any:
        handle = await (await life.start(_runner(world))).emit(one())
        await asyncio.sleep(0.5)
        await handle.pause("lunch")
        with pytest.raises(IllegalTransitionError):
            await handle.pause("again")
        await asyncio.sleep(50)
        assert 1 == len(world.ledger)
        await handle.resume("me")
        with pytest.raises(IllegalTransitionError):
            await handle.resume("me")
        return await handle.result()

    result = world.process(main)
    assert dict.fromkeys(NAMES, 1) == dict(result.state)
    facts = world.facts(world.run_ids[0])
    inside = facts[[type(fact) for fact in facts].index(WorkflowPaused) : [type(fact) for fact in facts].index(WorkflowResumed)]
    assert [] == [fact for fact in inside if isinstance(fact, StepStarted)]
    assert "StepCompleted" in [type(fact).__name__ for fact in inside]
    _check(world)


@pytest.mark.parametrize("mode", ["sequential", "collaborative", "loop"])
@pytest.mark.parametrize("commit_s", [0.0, 0.3])
@pytest.mark.parametrize("at_s", [0.0, 0.3, 0.5, 0.9])
def test_a_cancel_is_durable_when_it_is_acknowledged(world: World, mode: str, at_s: float, commit_s: float) -> None:
    """A cancel that was acknowledged holds after a kill right behind it, and no step starts after it in the journal."""
    flow = {"mode": mode, "collaborative_agents": NAMES, "loop_agent": "a"}

    async def emit(life: Life) -> None:
        handle = await (await life.start(_runner(world, **flow))).emit(one())
        await asyncio.sleep(at_s)
        await handle.cancel("enough")
        assert ["enough"] == [fact.cancelled for fact in world.told(handle.run_id, FlowCut)]
        life.die()
        await asyncio.sleep(1)

    world.process(emit, commit_s=commit_s)
    if world.row(world.run_ids[0]).is_open:
        (result,) = world.process(lambda life: _results(life, _runner(world, **flow)), commit_s=commit_s)
        assert ("cancelled", "enough") == (result.status, result.reason)
    types = world.types(world.run_ids[0])
    assert "StepStarted" not in types[types.index("FlowCut") :]
    assert ["enough"] == [fact.reason for fact in world.told(world.run_ids[0], WorkflowCancelled)]
    _check(world)


def test_a_completion_before_the_cancel_stands(world: World) -> None:
    """A run that has ended stays as it ended; cancelling it records nothing."""

    async def main(life: Life) -> Any:
        handle = await (await life.start(_runner(world))).emit(one())
        result = await handle.result()
        before = world.types(handle.run_id)
        await handle.cancel("late")
        assert before == world.types(handle.run_id)
        return result

    assert "completed" == world.process(main).status
    _check(world)


@pytest.mark.parametrize("is_returning", [False, True])
@pytest.mark.parametrize("is_hooked", [False, True])
def test_a_handler_that_swallows_its_cancellation_is_left_behind(world: World, is_hooked: bool, is_returning: bool) -> None:
    """A cancel ends within the grace and six seconds more; a handler that swallows it is recorded as abandoned, not as done."""

    async def stubborn(event: Any, state: Any, ctx: Any) -> dict[str, int]:
        world.note(ctx)
        for _ in range(1 if is_returning else 1000):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(100)
        return {"a": 1}

    async def main(life: Life) -> Any:
        runner = make({"mode": "sequential", "sequential_agents": ["a", "b"]}, {"a": stubborn, "b": stubborn})
        if is_hooked:
            from agentflow import Hook

            runner.register_callback(Hook.ALL, "looks", lambda args: None)
        handle = await (await life.start(runner)).emit(one())
        await asyncio.sleep(1)
        began = life.time()
        await handle.cancel("enough")
        assert life.time() - began < 0.1
        return await handle.result(), life.time() - began

    result, took_s = world.process(main)
    assert took_s <= 16
    assert ("cancelled", "enough", {}) == (result.status, result.reason, dict(result.state))
    types = world.types(world.run_ids[0])
    assert "StepCompleted" not in types
    if not is_returning:
        assert ("abandoned",) == result.flags == world.row(world.run_ids[0]).flags
    assert 1 == len(world.ledger)
    _check(world)


def test_a_cancelled_run_of_a_session_lets_the_next_one_begin(world: World) -> None:
    """What waits behind a cancelled run of its session begins after that run's end, not before."""

    async def main(life: Life) -> Any:
        runner = await life.start(_runner(world))
        first, second = await runner.emit(one(session_id="s")), await runner.emit(one(session_id="s"))
        await asyncio.sleep(0.5)
        await first.cancel("enough")
        return await first.result(), await second.result()

    assert ["cancelled", "completed"] == [result.status for result in world.process(main)]
    _check(world)


def test_a_run_that_waits_for_its_turn_is_cancelled_before_it_begins(world: World) -> None:
    """A queued run that is cancelled ends without a step, durably."""

    async def main(life: Life) -> Any:
        runner = await life.start(_runner(world))
        first, second = await runner.emit(one(session_id="s")), await runner.emit(one(session_id="s"))
        await second.cancel("enough")
        told = await second.result()
        return told, await first.result()

    assert ["cancelled", "completed"] == [result.status for result in world.process(main)]
    second = world.run_ids[1]
    assert ["WorkflowCreated", "FlowCut", "WorkflowCancelled"] == world.types(second)
    _check(world)


def test_stopping_leaves_runs_to_be_resumed(world: World) -> None:
    """A runner that stops ends no recorded run: it reports which can be resumed, and they go on elsewhere."""

    async def emit(life: Life) -> Any:
        runner = await life.start(_runner(world))
        handle = await runner.emit(one())
        await asyncio.sleep(1.5)
        report = await runner.stop(0.0)
        return handle.run_id, report

    run_id, report = world.process(emit)
    assert ((run_id,), ()) == (report.resumable, report.cancelled)
    assert [] == world.told(run_id, *ENDS)
    (result,) = world.process(lambda life: _results(life, _runner(world)))
    assert ("completed", {"a": 1, "b": 2, "c": 1, "d": 1}) == (result.status, dict(result.state))
    _check(world)


def test_a_pause_while_callbacks_run_survives_a_kill(world: World) -> None:
    """A run that was paused before its first callbacks had ended goes on with them after a kill."""
    from agentflow import Hook

    def runner() -> Runner:
        made = _runner(world)
        made.register_callback(Hook.BEFORE_EVENT_HANDLING, "waits", lambda args: asyncio.sleep(1))
        return made

    async def emit(life: Life) -> None:
        handle = await (await life.start(runner())).emit(one())
        await asyncio.sleep(0.5)
        await handle.pause("lunch")
        life.die()
        await asyncio.sleep(1)

    async def go_on(life: Life) -> Any:
        (handle,) = await (await life.start(runner())).resume(world.run_ids[0])
        return await handle.result()

    world.process(emit)
    result = world.process(go_on)
    assert ("completed", dict.fromkeys(NAMES, 1)) == (result.status, dict(result.state) | {"a": 1})
    _check(world)
