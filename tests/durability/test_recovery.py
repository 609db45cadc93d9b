"""What survives a restart of a run's process: waits, counts, plans, what hooks did. And what does not: a step that kills."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentflow import Hook, Runner
from agentflow.core.records import EventPatched, StepRetried, StepStarted, WorkflowFailed, WorkflowPaused, WorkflowRecovering
from tests.durability.checker import faults_of
from tests.durability.world import BEGAN, Death, Life, World, make, one

LINE = {"mode": "sequential", "sequential_agents": ["a", "b"]}


async def _count(event: Any, state: Any, ctx: Any) -> dict[str, int]:
    return {ctx.agent: state.get(ctx.agent, 0) + 1}


async def _emitted(life: Life, runner: Runner, *events: Any) -> list[Any]:
    """Start a runner, emit, and wait for all results."""
    await life.start(runner)
    handles = [await runner.emit(event) for event in events]
    return [await handle.result() for handle in handles]


async def _resumed(life: Life, runner: Runner) -> list[Any]:
    """Start a runner and wait for all that it goes on with."""
    await life.start(runner)
    return [await handle.result() for handle in await runner.resume()]


def _check(world: World) -> None:
    assert [] == world.faults
    for run_id in world.run_ids:
        run = world.store._runs[run_id]
        assert [] == faults_of(run.row, run.entries, world.store._plans.get(run.row.plan_hash))


# --- retries ---


def _bad(world: World, times: int, at: list[float]) -> Runner:
    async def fail(event: Any, state: Any, ctx: Any) -> dict[str, int]:
        world.note(ctx)
        at.append(asyncio.get_running_loop().time() + world.now - BEGAN)
        if len(at) <= times:
            raise OSError("busy")
        return {"a": ctx.attempt}

    retry = {"max_retries": 3, "initial_delay_seconds": 10, "backoff_factor": 2, "jitter": False}
    return make({"mode": "sequential", "sequential_agents": ["a"]}, {"a": fail}, agents={"a": {"retry": retry}})


@pytest.mark.parametrize("died_at_s", [2.0, 9.9, 15.0, 29.0])
def test_a_wait_between_attempts_survives_a_restart(world: World, died_at_s: float) -> None:
    """The next attempt begins when it was due before the restart, not later and not sooner."""
    at: list[float] = []
    assert None is world.process(lambda life: _emitted(life, _bad(world, 2, at), one()), Death(at_s=died_at_s))
    (result,) = world.process(lambda life: _resumed(life, _bad(world, 2, at)))
    assert ("completed", {"a": 3}) == (result.status, dict(result.state))
    assert [0.0, 10.0, 30.0] == [round(moment, 1) for moment in at]
    _check(world)


def test_an_attempt_that_was_due_while_nobody_ran_begins_at_once(world: World) -> None:
    """A wait that ended between two processes is not waited for again."""
    at: list[float] = []
    world.process(lambda life: _emitted(life, _bad(world, 1, at), one()), Death(at_s=2.0))
    world.now += 1000
    (result,) = world.process(lambda life: _resumed(life, _bad(world, 1, at)))
    assert "completed" == result.status
    assert [0.0, 1002.0] == [round(moment, 1) for moment in at]
    _check(world)


def test_the_count_of_failures_is_not_reset(world: World) -> None:
    """A step that has used its retries before and after restarts fails: each failure counts once, in whichever process."""
    at: list[float] = []
    results = None
    for died_at_s in (5.0, 8.0, 30.0):
        world.process(
            lambda life: _resumed(life, _bad(world, 99, at)) if at else _emitted(life, _bad(world, 99, at), one()), Death(at_s=died_at_s)
        )
    results = world.process(lambda life: _resumed(life, _bad(world, 99, at)))
    assert ("failed", 4) == (results[0].status, results[0].error.attempts)
    assert 4 == len(at)
    assert [1, 2, 3] == [fact.attempt for fact in world.told(world.run_ids[0], StepRetried)]
    _check(world)


def test_an_attempt_that_a_crash_ended_is_no_failure(world: World) -> None:
    """A crash uses up no retry: a step without retries is attempted again after one."""

    async def slow(event: Any, state: Any, ctx: Any) -> dict[str, int]:
        world.note(ctx)
        await asyncio.sleep(1)
        return {"a": ctx.attempt}

    world.process(lambda life: _emitted(life, make(LINE, {"a": slow, "b": _count}), one()), Death(at_s=0.5))
    (result,) = world.process(lambda life: _resumed(life, make(LINE, {"a": slow, "b": _count})))
    assert {"a": 2, "b": 1} == dict(result.state)
    _check(world)


def test_failures_of_one_round_are_not_those_of_the_next(world: World) -> None:
    """Failures that were recorded before a crash count against the step they were of, not against what its task goes on with."""

    def runner() -> Runner:
        async def bad_twice(event: Any, state: Any, ctx: Any) -> dict[str, int]:
            world.note(ctx)
            await asyncio.sleep(1)
            if ctx.attempt <= 2:
                raise OSError("busy")
            return {"a": state.get("a", 0) + 1}

        retry = {"initial_delay_seconds": 1, "jitter": False}
        return make({"mode": "loop", "loop_agent": "a", "max_iterations": 3, "retry_attempts": 2, "retry": retry}, {"a": bad_twice})

    world.process(lambda life: _emitted(life, runner(), one()), Death(at_s=2.5))
    (result,) = world.process(lambda life: _resumed(life, runner()))
    assert ("completed", 3) == (result.status, result.state["a"])
    _check(world)


# --- steps that kill ---


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_step_that_kills_its_process_becomes_a_dead_letter_and_others_go_on(world: World, most: int) -> None:
    """After `max_process_deaths` deaths in flight a run fails, flagged dead_lettered; what was in flight beside it ends well."""

    def runner(life: Life) -> Runner:
        async def kill(event: Any, state: Any, ctx: Any) -> None:
            world.note(ctx)
            await asyncio.sleep(1)
            life.die()
            await asyncio.sleep(1)

        async def good(event: Any, state: Any, ctx: Any) -> dict[str, int]:
            world.note(ctx)
            await asyncio.sleep(0.5)
            return {"a": ctx.attempt}

        return make({"mode": "route", "max_process_deaths": most}, {"poison": kill, "a": good})

    async def first(life: Life) -> Any:
        return await _emitted(life, runner(life), one("poison"), one("a"), one("poison"), one("a"))

    assert None is world.process(first)
    for _ in range(4 * most):
        results = world.process(lambda life: _resumed(life, runner(life)))
        if results is not None:
            break
    assert {"poison": "failed", "a": "completed"} == {
        str(world.facts(run_id)[0].target): world.row(run_id).state for run_id in world.run_ids
    }
    dead = [run_id for run_id in world.run_ids if world.row(run_id).flags == ("dead_lettered",)]
    assert 2 == len(dead)
    for run_id in dead:
        (end,) = world.told(run_id, WorkflowFailed)
        assert (("dead_lettered",), "AF0512", "poison") == (end.flags, end.failure.code, end.failure.agent)
        assert most == len([place for place in world.ledger if place[0] == run_id])
    print(f"\ndeaths: {world.counts['deaths']}, dead letters: {len(dead)}")
    _check(world)


def test_a_step_beside_one_that_kills_is_no_dead_letter(world: World) -> None:
    """A step that was in flight whenever another one killed its process is not blamed for it: suspects are tried one by one."""

    def runner(life: Life) -> Runner:
        async def kill(event: Any, state: Any, ctx: Any) -> None:
            world.note(ctx)
            await asyncio.sleep(1)
            life.die()
            await asyncio.sleep(1)

        async def slow(event: Any, state: Any, ctx: Any) -> dict[str, int]:
            world.note(ctx)
            await asyncio.sleep(2)
            return {"a": ctx.attempt}

        return make({"mode": "route"}, {"poison": kill, "a": slow})

    async def first(life: Life) -> Any:
        return await _emitted(life, runner(life), one("a"), one("poison"), one("a"))

    assert None is world.process(first)
    for _ in range(12):
        if world.process(lambda life: _resumed(life, runner(life))) is not None:
            break
    assert ["completed", "failed", "completed"] == [world.row(run_id).state for run_id in world.run_ids]
    _check(world)


def test_a_callback_that_kills_its_process_becomes_a_dead_letter(world: World) -> None:
    """Deaths in BEFORE_EVENT_HANDLING count against the first step: such an event does not kill processes for ever."""

    def runner(life: Life) -> Runner:
        async def kill(args: Any) -> None:
            life.die()
            await asyncio.sleep(1)

        made = make(LINE, {"a": _count, "b": _count})
        made.register_callback(Hook.BEFORE_EVENT_HANDLING, "kills", kill)
        return made

    assert None is world.process(lambda life: _emitted(life, runner(life), one()))
    lives = 1
    while world.process(lambda life: _resumed(life, runner(life))) is None:
        lives += 1
        assert lives < 10
    assert (3, "failed", ("dead_lettered",)) == (lives, world.row(world.run_ids[0]).state, world.row(world.run_ids[0]).flags)


def test_done_clears_the_count_of_deaths(world: World) -> None:
    """Deaths count against a step, not against its run: one death in each of many steps makes no dead letter."""
    names = list("abcdef")

    def runner(life: Life) -> Runner:
        async def die_once(event: Any, state: Any, ctx: Any) -> dict[str, int]:
            world.note(ctx)
            if ctx.attempt <= 2:
                life.die()
                await asyncio.sleep(1)
            return {ctx.agent: ctx.attempt}

        return make({"mode": "sequential", "sequential_agents": names}, dict.fromkeys(names, die_once))

    results = world.process(lambda life: _emitted(life, runner(life), one()))
    while results is None:
        results = world.process(lambda life: _resumed(life, runner(life)))
    assert ("completed", dict.fromkeys(names, 3)) == (results[0].status, dict(results[0].state))
    assert 12 == world.counts["deaths"]
    assert 12 == len(world.told(world.run_ids[0], WorkflowRecovering))
    _check(world)


# --- time limits ---


def _timed(world: World, **sections: Any) -> Runner:
    async def slow(event: Any, state: Any, ctx: Any) -> dict[str, int]:
        world.note(ctx)
        await asyncio.sleep(2)
        return {ctx.agent: ctx.attempt}

    names = list("abcdefgh")
    flow = {"mode": "sequential", "sequential_agents": names, **sections.pop("flow", {})}
    return make(flow, dict.fromkeys(names, slow), **sections)


@pytest.mark.parametrize("is_nested", [False, True])
@pytest.mark.parametrize("away_s", [0.0, 4.0, 100.0])
def test_a_time_limit_counts_on_across_a_restart(world: World, is_nested: bool, away_s: float) -> None:
    """The time of a flow, the main one or one in it, is counted from its first step, whatever happened to its process."""

    def runner() -> Runner:
        if not is_nested:
            return _timed(world, flow={"timeout_seconds": 10})
        inner = {"mode": "sequential", "sequential_agents": list("bcdefgh"), "timeout_seconds": 10}
        return _timed(world, flow={"sequential_agents": ["a", "inner"]}, flows={"inner": inner})

    began = world.now + (2.0 if is_nested else 0.0)
    world.process(lambda life: _emitted(life, runner(), one()), Death(at_s=5.0))
    world.now += away_s

    async def go_on(life: Life) -> Any:
        return await _resumed(life, runner()), life.time()

    (result,), ended_at = world.process(go_on)
    assert ("timed_out", "timeout") == (result.status, result.reason)
    assert pytest.approx(max(10.0, 5.0 + away_s - (2.0 if is_nested else 0.0)), abs=0.2) == ended_at - began
    _check(world)


@pytest.mark.parametrize(("limit_s", "status"), [(17, "completed"), (13, "timed_out")])
@pytest.mark.parametrize("is_nested", [False, True])
@pytest.mark.parametrize("is_killed", [False, True])
def test_a_time_limit_stands_still_while_a_run_is_paused(world: World, is_killed: bool, is_nested: bool, limit_s: int, status: str) -> None:
    """A pause costs a run and the flows in it none of their time and gives none back, also where the process died meanwhile."""

    def runner() -> Runner:
        inner = {"mode": "sequential", "sequential_agents": list("abcdefgh"), "timeout_seconds": limit_s}
        if not is_nested:
            return _timed(world, flow={"timeout_seconds": limit_s})
        return _timed(world, flow={"sequential_agents": ["inner"]}, flows={"inner": inner})

    async def pause(life: Life) -> Any:
        handle = await (await life.start(runner())).emit(one())
        await asyncio.sleep(3)
        await handle.pause("lunch")
        await asyncio.sleep(1000)
        if is_killed:
            life.die()
            await asyncio.sleep(1)
        await handle.resume()
        return await handle.result()

    async def go_on(life: Life) -> Any:
        (handle,) = await (await life.start(runner())).resume(world.run_ids[0])
        return await handle.result()

    result = world.process(pause) or world.process(go_on)
    assert status == result.status
    _check(world)


# --- plans ---


def test_a_run_whose_agent_is_missing_waits_for_it(world: World) -> None:
    """A run that needs an agent without a handler is paused, and goes on once it is registered."""

    async def slow(event: Any, state: Any, ctx: Any) -> dict[str, int]:
        await asyncio.sleep(1)
        return {"a": 1}

    async def without(life: Life) -> str:
        runner = make({"mode": "sequential", "sequential_agents": ["a"]}, {"a": slow})
        await life.start(runner)
        (handle,) = await runner.resume()
        told = await handle.wait()
        await runner.stop()
        return told

    world.process(lambda life: _emitted(life, make(LINE, {"a": slow, "b": _count}), one()), Death(at_s=0.5))
    (run_id,) = world.run_ids
    for _ in range(2):
        assert "paused" == world.process(without)
        assert ("paused", "missing_agent: b") == (world.row(run_id).state, world.row(run_id).reason)
    assert ["missing_agent: b"] == [fact.reason for fact in world.told(run_id, WorkflowPaused)]
    (result,) = world.process(lambda life: _resumed(life, make(LINE, {"a": slow, "b": _count})))
    assert ("completed", {"a": 1, "b": 1}) == (result.status, dict(result.state))
    _check(world)


def test_a_run_goes_on_under_the_plan_it_was_accepted_with(world: World) -> None:
    """A changed configuration is for new events: what was accepted before it ends under the plan recorded for it."""

    async def slow(event: Any, state: Any, ctx: Any) -> dict[str, int]:
        await asyncio.sleep(1)
        return {ctx.agent: ctx.attempt}

    changed = {"mode": "collaborative", "collaborative_agents": ["c", "b", "a"], "retry_attempts": 5}
    handlers = dict.fromkeys("abc", slow)

    async def go_on(life: Life) -> list[Any]:
        runner = await life.start(make(changed, handlers))
        old = [await handle.result() for handle in await runner.resume()]
        return [*old, await runner.run(one())]

    world.process(lambda life: _emitted(life, make(LINE, handlers), one()), Death(at_s=0.5))
    old, new = world.process(go_on)
    assert [{"a": 2, "b": 1}, {"a": 1, "b": 1, "c": 1}] == [dict(old.state), dict(new.state)]
    assert 2 == len({world.row(run_id).plan_hash for run_id in world.run_ids})
    assert ["sequential", "collaborative"] == [world.row(run_id).pattern for run_id in world.run_ids]
    _check(world)


# --- hooks ---


@pytest.mark.parametrize("append", range(1, 5))
@pytest.mark.parametrize("is_written", [False, True])
def test_what_event_hooks_set_is_recorded_once(world: World, append: int, is_written: bool) -> None:
    """The patch before the run goes with the first answer, that after it with the end; no crash doubles either."""

    def runner() -> Runner:
        made = make(LINE, {"a": _count, "b": _count})
        made.register_callback(
            Hook.BEFORE_EVENT_HANDLING, "opens", lambda args: args.state.update({"opened": args.state.get("opened", 0) + 1})
        )
        made.register_callback(
            Hook.AFTER_EVENT_HANDLING, "closes", lambda args: args.state.update({"closed": args.state.get("closed", 0) + 1})
        )
        return made

    async def live(life: Life) -> list[Any]:
        return await _resumed(life, runner()) if world.run_ids else await _emitted(life, runner(), one())

    results = world.process(live, Death(append=append, is_written=is_written))
    results = results or world.process(live)
    expected = {"opened": 1, "a": 1, "b": 1, "closed": 1}
    if results:
        assert expected == dict(results[0].state)
    (run_id,) = world.run_ids
    assert ["before", "after"] == [fact.when for fact in world.told(run_id, EventPatched)]
    last = world.types(run_id)
    assert ["EventPatched", "WorkflowCompleted"] == last[-2:]
    assert last.index("EventPatched") < last.index("StepCompleted")
    _check(world)


def test_a_state_is_the_same_from_a_snapshot_as_from_the_first_record(world: World) -> None:
    """With a snapshot after every few records a run of many rounds that dies often ends as without any."""
    flow = {"mode": "loop", "loop_agent": "a", "max_iterations": 30, "max_process_deaths": 100}

    def runner() -> Runner:
        async def slow(event: Any, state: Any, ctx: Any) -> dict[str, Any]:
            world.note(ctx)
            await asyncio.sleep(1)
            return {"a": state.get("a", 0) + 1, "seen": [*state.get("seen", []), state["iteration"]], "text": "x" * 50}

        return make(flow, {"a": slow}, journal={"url": "memory:", "snapshot_every": 5})

    results = world.process(lambda life: _emitted(life, runner(), one()), Death(at_s=2.5))
    while results is None:
        results = world.process(lambda life: _resumed(life, runner()), Death(at_s=3.5))
    assert (30, list(range(30))) == (results[0].state["a"], results[0].state["seen"])
    assert world.store._runs[world.run_ids[0]].snapshot is not None
    assert world.counts["deaths"] >= 8
    starts = world.told(world.run_ids[0], StepStarted)
    assert len({(fact.position, fact.attempt) for fact in starts}) == len(starts) == len(world.ledger)
    _check(world)
