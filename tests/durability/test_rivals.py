"""Two owners of one journal, a journal without room, one that fails, answers that are no JSON, and events that come again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentflow import Runner
from agentflow.core.append import Append
from agentflow.core.records import StepCompleted, StepFailed, StepStarted
from agentflow.errors import DuplicateEventError, FencedError, StorageError, StorageFullError
from tests.durability.checker import faults_of
from tests.durability.world import Door, Life, World, make, one

NAMES = list("abcd")


def _runner(world: World, **flow: Any) -> Runner:
    async def slow(event: Any, state: Any, ctx: Any) -> dict[str, int]:
        world.counts["calls"] += 1
        await asyncio.sleep(1)
        return {ctx.agent: ctx.attempt}

    return make({"mode": "sequential", "sequential_agents": NAMES} | flow, dict.fromkeys(NAMES, slow))


def _check(world: World) -> None:
    assert [] == world.faults
    for run_id in world.run_ids:
        run = world.store._runs[run_id]
        assert [] == faults_of(run.row, run.entries, world.store._plans.get(run.row.plan_hash))


def _is_full(append: Append) -> BaseException | None:
    return StorageFullError("no room left")


# --- two owners ---


@pytest.mark.parametrize(
    ("mode", "frozen_s"),
    [
        (mode, frozen_s)
        for mode in ("sequential", "collaborative", "loop")
        for frozen_s in (0.4, 0.9, 1.4, 2.9)
        if mode != "collaborative" or frozen_s < 1
    ],
)
def test_an_owner_that_was_frozen_past_its_epoch_is_refused(world: World, mode: str, frozen_s: float) -> None:
    """Who wakes after another owner has taken its run is refused by its next append, starts nothing more, and records nothing."""
    flow = {"mode": mode, "collaborative_agents": NAMES, "loop_agent": "a"}

    async def main(life: Life) -> Any:
        frozen, rival = _runner(world, **flow), _runner(world, **flow)
        await life.start(frozen)
        await life.start(rival, door=Door(life))
        handle = await frozen.emit(one())
        await asyncio.sleep(frozen_s)
        world.store._leases.release(frozen._engine.journals.owner)  # type: ignore[union-attr] # it did not renew it in time
        (taken,) = await rival.resume()
        assert handle.run_id == taken.run_id
        with pytest.raises(FencedError):
            await handle.result()
        assert "paused" == await handle.wait()
        result = await taken.result()
        await asyncio.sleep(10)
        return result

    result = world.process(main)
    assert "completed" == result.status
    (run_id,) = world.run_ids
    epochs = [entry.epoch for entry in world.store._runs[run_id].entries]
    assert sorted(epochs) == epochs
    assert {1, 2} == set(epochs)
    steps = {fact.position for fact in world.told(run_id, StepStarted)}
    assert len(steps) == len(world.told(run_id, StepCompleted))
    zombies = world.counts["calls"] - len(steps)
    assert zombies <= (4 if mode == "collaborative" else 1)
    print(f"\ncalls that were made twice: {zombies}")
    _check(world)


def test_a_frozen_owner_can_neither_pause_nor_cancel(world: World) -> None:
    """What people ask of the old owner is refused, and not in the journal."""

    async def main(life: Life) -> Any:
        frozen, rival = _runner(world), _runner(world)
        await life.start(frozen)
        await life.start(rival, door=Door(life))
        paused, cancelled = await frozen.emit(one()), await frozen.emit(one())
        await asyncio.sleep(0.5)
        world.store._leases.release(frozen._engine.journals.owner)  # type: ignore[union-attr] # it did not renew it in time
        taken = await rival.resume()
        with pytest.raises(FencedError):
            await paused.pause("lunch")
        with pytest.raises(FencedError):
            await cancelled.cancel("enough")
        with pytest.raises(FencedError):
            await cancelled.cancel("enough")
        return [await handle.result() for handle in taken]

    assert ["completed", "completed"] == [result.status for result in world.process(main)]
    for run_id in world.run_ids:
        assert {"WorkflowPaused", "FlowCut"}.isdisjoint(world.types(run_id))
    _check(world)


def test_an_owner_that_works_on_keeps_its_runs(world: World) -> None:
    """A live owner renews its lease: a rival takes nothing of it, however long a run goes on."""

    async def main(life: Life) -> Any:
        busy, rival = _runner(world, mode="loop", loop_agent="a", max_iterations=200), _runner(world)
        await life.start(busy)
        await life.start(rival, door=Door(life))
        handle = await busy.emit(one())
        for _ in range(19):
            await asyncio.sleep(10)
            assert [] == await rival.resume()
        return await handle.result()

    assert "completed" == world.process(main).status
    _check(world)


# --- no room ---


@pytest.mark.parametrize("commit_s", [0.0, 0.1])
def test_nothing_is_acknowledged_while_there_is_no_room(world: World, commit_s: float) -> None:
    """A full journal refuses events, keeps what steps have answered, and goes on by itself when there is room."""

    async def main(life: Life) -> Any:
        runner = await life.start(_runner(world))
        handle = await runner.emit(one())
        await asyncio.sleep(0.5)
        life.door.fault = _is_full
        with pytest.raises(StorageFullError):
            await runner.emit(one("", id="refused"))
        assert ["refused"] != [world.row(run_id).event_id for run_id in world.run_ids[1:]]
        await asyncio.sleep(20)
        assert 1 == world.counts["calls"]
        assert not handle.is_done
        life.door.fault = None
        again = await runner.emit(one("", id="refused"))
        began = life.time()
        result = await handle.result()
        assert life.time() - began <= 10
        return result, await again.result()

    results = world.process(main, commit_s=commit_s)
    assert [("completed", dict.fromkeys(NAMES, 1))] * 2 == [(result.status, dict(result.state)) for result in results]
    _check(world)


@pytest.mark.parametrize("full_at_s", [0.5, 1.5, 3.5])
def test_parallel_answers_wait_for_room(world: World, full_at_s: float) -> None:
    """Answers that come while there is no room are all recorded later, none of them twice, and no step runs again for it."""
    names = list("abcdef")

    async def main(life: Life) -> Any:
        async def slow(event: Any, state: Any, ctx: Any) -> dict[str, int]:
            world.note(ctx)
            await asyncio.sleep(1 + names.index(ctx.agent))
            return {ctx.agent: ctx.attempt}

        flow = {"mode": "mixed", "collaborative_agents": names, "sequential_agents": ["a"]}
        handle = await (await life.start(make(flow, dict.fromkeys(names, slow)))).emit(one())
        await asyncio.sleep(full_at_s)
        life.door.fault = _is_full
        await asyncio.sleep(15)
        life.door.fault = None
        return await handle.result()

    result = world.process(main)
    assert ("completed", dict.fromkeys(names, 1)) == (result.status, dict(result.state))
    assert 7 == len(world.ledger)
    _check(world)


@pytest.mark.parametrize("commit_s", [0.0, 0.1])
def test_what_nobody_waits_for_is_recorded_when_there_is_room(world: World, commit_s: float) -> None:
    """A run that comes to wait for a person while there is no room is recorded as paused by itself later, and goes on from there."""

    async def main(life: Life) -> Any:
        async def slow(event: Any, state: Any, ctx: Any) -> dict[str, int]:
            await asyncio.sleep(1)
            return {ctx.agent: ctx.attempt}

        flow = {"mode": "sequential", "sequential_agents": ["a", "b"]}
        runner = await life.start(make(flow, dict.fromkeys("ab", slow), agents={"b": {"requires_approval": True}}))
        handle = await runner.emit(one())
        life.door.fault = lambda append: _is_full(append) if "WorkflowPaused" in [entry.type for entry in append.entries] else None
        await asyncio.sleep(15)
        assert "running" == world.row(handle.run_id).state
        life.door.fault = None
        await asyncio.sleep(2)
        assert ("paused", "approval") == (world.row(handle.run_id).state, world.row(handle.run_id).reason)
        assert await handle.approve("b")
        return await handle.result()

    result = world.process(main, commit_s=commit_s)
    assert ("completed", {"a": 1, "b": 1}) == (result.status, dict(result.state))
    _check(world)


def test_a_run_can_be_cancelled_while_there_is_no_room(world: World) -> None:
    """A cancel of a run whose answers wait for room is acknowledged when there is some, and the run ends cancelled."""

    async def main(life: Life) -> Any:
        handle = await (await life.start(_runner(world))).emit(one())
        await asyncio.sleep(0.5)
        life.door.fault = _is_full
        await asyncio.sleep(5)
        asked = asyncio.ensure_future(_asked(handle))
        await asyncio.sleep(30)
        assert not asked.done()
        life.door.fault = None
        await asked
        return await handle.result()

    result = world.process(main)
    assert ("cancelled", "enough") == (result.status, result.reason)
    types = world.types(world.run_ids[0])
    assert "StepStarted" not in types[types.index("FlowCut") :]
    _check(world)


async def _asked(handle: Any) -> None:
    await handle.cancel("enough")


def test_a_kill_while_there_is_no_room_loses_nothing_acknowledged(world: World) -> None:
    """What waited for room is done again after a kill; what was recorded before stays."""

    async def emit(life: Life) -> None:
        await (await life.start(_runner(world))).emit(one())
        await asyncio.sleep(1.5)
        life.door.fault = _is_full
        await asyncio.sleep(5)
        life.die()
        await asyncio.sleep(1)

    async def go_on(life: Life) -> Any:
        (handle,) = await (await life.start(_runner(world))).resume()
        return await handle.result()

    world.process(emit)
    result = world.process(go_on)
    assert {"a": 1, "b": 2, "c": 1, "d": 1} == dict(result.state)
    _check(world)


# --- a journal that fails ---


@pytest.mark.parametrize("append", [2, 3, 5])
def test_a_run_whose_journal_fails_is_parked(world: World, append: int) -> None:
    """A write that fails otherwise parks its run, which can be resumed; other runs go on."""

    async def main(life: Life) -> Any:
        runner = await life.start(_runner(world))
        good, bad = await runner.emit(one()), await runner.emit(one())
        asked = 1

        def fault(told: Append) -> BaseException | None:
            nonlocal asked
            asked += told.run_id == bad.run_id
            is_hit = told.run_id == bad.run_id and asked == append
            return StorageError("the disk is broken") if is_hit else None

        life.door.fault = fault
        with pytest.raises(StorageError):
            await bad.result()
        assert "paused" == await bad.wait()
        return await good.result()

    async def go_on(life: Life) -> Any:
        (handle,) = await (await life.start(_runner(world))).resume()
        return await handle.result()

    assert "completed" == world.process(main).status
    assert [False, True] == [world.row(run_id).is_open for run_id in world.run_ids]
    result = world.process(go_on)
    assert ("completed", set(NAMES)) == (result.status, set(result.state))
    _check(world)


def test_an_event_whose_acceptance_fails_is_not_accepted(world: World) -> None:
    """When the first write fails `emit` raises and nothing of the event runs; the same event can be emitted again."""

    async def main(life: Life) -> Any:
        runner = await life.start(_runner(world))
        life.door.fault = lambda append: StorageError("the disk is broken")
        with pytest.raises(StorageError):
            await runner.emit(one("", id="event"))
        await asyncio.sleep(10)
        assert 0 == world.counts["calls"]
        life.door.fault = None
        return await (await runner.emit(one("", id="event"))).result()

    assert "completed" == world.process(main).status
    _check(world)


# --- answers and events ---


@pytest.mark.parametrize(("answer", "path"), [({"a": {"deep": [1, object()]}}, "deep"), ({"a": float("nan")}, "a"), ({"a": {1, 2}}, "a")])
def test_an_answer_that_is_no_json_fails_its_step(world: World, answer: Any, path: str) -> None:
    """A result that cannot be recorded fails the step, names the path, and is not tried again."""

    async def bad(event: Any, state: Any, ctx: Any) -> Any:
        world.note(ctx)
        return answer

    async def main(life: Life) -> Any:
        runner = await life.start(make({"mode": "sequential", "sequential_agents": ["a"], "retry_attempts": 3}, {"a": bad}))
        return await runner.run(one())

    result = world.process(main)
    assert ("failed", "InvalidValueError") == (result.status, result.error.type)
    assert path in result.error.message
    (failed,) = world.told(world.run_ids[0], StepFailed)
    assert path in failed.failure.message
    assert 1 == len(world.ledger)
    _check(world)


@pytest.mark.parametrize("is_hooked", [False, True])
@pytest.mark.parametrize("commit_s", [0.0, 0.1])
def test_the_same_event_again_has_the_same_run(world: World, is_hooked: bool, commit_s: float, capsys: pytest.CaptureFixture[str]) -> None:
    """An id names one event: the same body gives the same run, before and after its end and in another process; another is refused."""

    def runner() -> Runner:
        made = _runner(world)
        if is_hooked:
            from agentflow import Hook

            made.register_callback(Hook.ALL, "looks", lambda args: None)
        return made

    async def main(life: Life) -> Any:
        started = await life.start(runner())
        handles = await asyncio.gather(*[started.emit(one("", {"n": 1}, id="event")) for _ in range(3)])
        with pytest.raises(DuplicateEventError):
            await started.emit(one("", {"n": 2}, id="event"))
        results = [await handle.result() for handle in handles]
        results.append(await started.run(one("", {"n": 1}, id="event")))
        with pytest.raises(DuplicateEventError):
            await started.run(one("", {"n": 2}, id="event"))
        await started.stop()
        return results

    async def later(life: Life) -> Any:
        return [await (await life.start(runner())).run(one("", {"n": 1}, id="event"))]

    results = world.process(main, commit_s=commit_s) + world.process(later, commit_s=commit_s)
    (run_id,) = world.run_ids
    assert [(run_id, "completed", {"n": 1, **dict.fromkeys(NAMES, 1)})] * 5 == [
        (result.run_id, result.status, dict(result.state)) for result in results
    ]
    assert 4 == world.counts["calls"]
    assert "engine_fault" not in capsys.readouterr().err
    _check(world)


def test_the_same_event_again_while_its_run_waits_for_a_process(world: World) -> None:
    """An event whose run was left unfinished by a dead process is not run a second time when it is emitted again."""

    async def emit(life: Life) -> None:
        await (await life.start(_runner(world))).emit(one("", id="event"))
        await asyncio.sleep(0.5)
        life.die()
        await asyncio.sleep(1)

    async def again(life: Life) -> Any:
        runner = await life.start(_runner(world))
        handle = await runner.emit(one("", id="event"))
        (taken,) = await runner.resume()
        assert handle.run_id == taken.run_id
        return await taken.result()

    world.process(emit)
    assert "completed" == world.process(again).status
    assert 1 == len(world.run_ids)
    assert 5 == world.counts["calls"]
    _check(world)


def test_who_gives_up_waiting_takes_nothing_back(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A caller that stops waiting for `emit`, `pause` or `cancel` learns nothing of the outcome; the run and its commits go on."""

    async def main(life: Life) -> Any:
        runner = await life.start(_runner(world))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(runner.emit(one("", id="event")), 0.1)
        handle = await runner.emit(one("", id="event"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handle.pause("lunch"), 0.1)
        assert "paused" == await handle.wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handle.resume(), 0.1)
        return await handle.result()

    result = world.process(main, commit_s=0.4)
    assert ("completed", set(NAMES)) == (result.status, set(result.state))
    assert "engine_fault" not in capsys.readouterr().err
    _check(world)
