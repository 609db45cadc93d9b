"""`on_busy` across processes: what an event does whose session was left busy by an earlier one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentflow import Hook, HookArgs, Runner
from agentflow.core.records import FlowCut, StepStarted
from agentflow.errors import SessionBusyError, StorageError
from tests.durability.checker import faults_of
from tests.durability.world import Death, Life, World, make, one

S = {"session_id": "s"}


def _runner(world: World, on_busy: str, **sections: Any) -> Runner:
    """Return a runner with two steps of a second each."""

    async def slow(event: Any, state: Any, ctx: Any) -> None:
        world.note(ctx)
        await asyncio.sleep(1)

    flow = {"mode": "sequential", "sequential_agents": ["a", "b"], "on_busy": on_busy}
    return make(flow, dict.fromkeys("ab", slow), **sections)


def _leave(world: World, how: str, many: int = 1) -> None:
    """Leave runs of session s: the first paused, or running when its process died, those behind it pending."""

    async def main(life: Life) -> None:
        runner = await life.start(_runner(world, "queue"))
        handles = [await runner.emit(one(**S)) for _ in range(many)]
        await asyncio.sleep(0.5)
        if how == "paused":
            await handles[0].pause("lunch")
        life.die()
        await asyncio.sleep(1)

    world.process(main)


def _states(world: World) -> list[str]:
    return [world.row(run_id).state for run_id in world.run_ids]


def _check(world: World) -> None:
    assert [] == world.faults
    for run_id in world.run_ids:
        run = world.store._runs[run_id]
        assert [] == faults_of(run.row, run.entries, world.store._plans.get(run.row.plan_hash))


@pytest.mark.parametrize("how", ["paused", "running"])
def test_reject_refuses_behind_what_an_earlier_process_left(world: World, how: str) -> None:
    """Nothing is recorded, the error says how the session becomes free, and it is free when that run has ended."""
    _leave(world, how)

    async def main(life: Life) -> Any:
        runner = await life.start(_runner(world, "reject"))
        told = f"run {world.run_ids[0]} is open, left by an earlier process; .*`agentflow runs cancel {world.run_ids[0]}`"
        with pytest.raises(SessionBusyError, match=told):
            await runner.emit(one(**S))
        assert [how] == _states(world)
        (first,) = await runner.resume(world.run_ids[0])
        with pytest.raises(SessionBusyError, match="is open; emit again"):
            await runner.emit(one(**S))
        return (await first.result()).status, (await runner.run(one(**S))).status

    assert ("completed", "completed") == world.process(main)
    _check(world)


@pytest.mark.parametrize("how", ["paused", "running"])
@pytest.mark.parametrize("many", [1, 3])
def test_interrupt_ends_what_an_earlier_process_left(world: World, how: str, many: int) -> None:
    """It is cancelled in the journal, those that were pending behind it too, and the event begins after that."""
    _leave(world, how, many)

    async def main(life: Life) -> Any:
        runner = await life.start(_runner(world, "interrupt"))
        handle = await runner.emit(one(**S))
        assert ["cancelled"] * many == _states(world)[:many]
        return (await handle.result()).status, await runner.resume()

    assert ("completed", []) == world.process(main)
    *before, last = world.run_ids
    for run_id in before:
        (cut,) = world.told(run_id, FlowCut)
        assert ("interrupted", "interrupted") == (cut.cancelled, world.row(run_id).reason)
        assert "WorkflowCancelled" == world.types(run_id)[-1]
    assert {run_id for run_id, _, _ in world.ledger} == {before[0], last}
    _check(world)


def test_interrupt_ends_what_was_taken_over_and_not_read_yet(world: World) -> None:
    """Runs that are resumed at this moment are open here: they end as any other."""
    _leave(world, "running", 2)

    async def main(life: Life) -> Any:
        runner = await life.start(_runner(world, "interrupt"))
        resumed = await runner.resume()
        handle = await runner.emit(one(**S))
        assert [1, 1, 0] == [len(world.told(run_id, FlowCut)) for run_id in world.run_ids]
        return [((await one.result()).status, (await one.result()).reason) for one in (*resumed, handle)]

    assert [("cancelled", "interrupted")] * 2 + [("completed", "completed")] == world.process(main)
    _check(world)


def test_an_event_that_cannot_end_what_was_left_is_not_accepted(world: World) -> None:
    """When the journal refuses, `emit` says so, and all is as it was."""
    _leave(world, "running")

    async def main(life: Life) -> Any:
        runner = await life.start(_runner(world, "interrupt"))
        life.door.fault = lambda append: StorageError("bad disk")
        with pytest.raises(StorageError):
            await runner.emit(one(**S))
        life.door.fault = None
        assert (1, True) == (len(world.run_ids), world.row(world.run_ids[0]).is_open)
        return (await runner.run(one(**S))).status

    assert "completed" == world.process(main)
    _check(world)


def test_two_events_that_interrupt_the_same_run_at_once_are_both_accepted(world: World) -> None:
    """The second one finds it ended already, and interrupts the first."""
    _leave(world, "running")

    async def main(life: Life) -> Any:
        runner = await life.start(_runner(world, "interrupt"))
        handles = await asyncio.gather(*(runner.emit(one(**S)) for _ in range(2)))
        return [(await handle.result()).status for handle in handles]

    assert ["cancelled", "completed"] == world.process(main, commit_s=0.1)
    _check(world)


@pytest.mark.parametrize("on_busy", ["reject", "interrupt"])
def test_the_same_event_twice_at_once_is_one_event(world: World, on_busy: str) -> None:
    """Also while its acceptance is still being written."""

    async def main(life: Life) -> Any:
        runner = await life.start(_runner(world, on_busy))
        handles = await asyncio.gather(*(runner.emit(one(id="e1", **S)) for _ in range(2)))
        return len({handle.run_id for handle in handles}), (await handles[0].result()).status

    assert (1, "completed") == world.process(main, commit_s=0.1)
    _check(world)


def test_parallel_goes_on_beside_what_an_earlier_process_left(world: World) -> None:
    """Nobody waits for it, nor does it wait for others when it is resumed; nothing counts as blocked."""
    _leave(world, "paused", 2)

    async def main(life: Life) -> Any:
        runner = await life.start(_runner(world, "parallel"))
        began = life.time()
        beside = await runner.emit(one(**S))
        (second,) = await runner.resume(world.run_ids[1])
        assert {} == await runner.blocked()
        statuses = [(await handle.result()).status for handle in (beside, second)]
        took_s, states = round(life.time() - began, 3), _states(world)
        (first,) = await runner.resume(world.run_ids[0])
        await first.result()
        return statuses, took_s, states

    assert (["completed"] * 2, 2.0, ["paused", "completed", "completed"]) == world.process(main)
    _check(world)


def test_what_ran_in_parallel_is_resumed_one_by_one_where_the_configuration_says_so_now(world: World) -> None:
    """What a busy session does is asked of the present configuration; the order is that of acceptance."""

    async def leave(life: Life) -> None:
        runner = await life.start(_runner(world, "parallel"))
        for _ in range(3):
            await runner.emit(one(**S))
        await asyncio.sleep(0.5)

    async def go_on(life: Life) -> Any:
        runner = await life.start(_runner(world, "queue"))
        return [(await handle.result()).status for handle in reversed(await runner.resume())]

    world.process(leave, Death(at_s=0.6))
    assert ["running"] * 3 == _states(world)
    world.ledger.clear()
    assert ["completed"] * 3 == world.process(go_on)
    assert [run_id for run_id in world.run_ids for _ in "ab"] == [run_id for run_id, _, _ in world.ledger]
    _check(world)


@pytest.mark.parametrize("append", range(1, 8))
@pytest.mark.parametrize("is_written", [True, False])
def test_wherever_an_interrupt_is_cut_off_no_two_runs_overlap(world: World, append: int, is_written: bool) -> None:
    """A process that dies while it interrupts leaves runs that end one after another, the interrupted one without further steps."""

    async def main(life: Life) -> None:
        runner = await life.start(_runner(world, "interrupt"))
        await runner.emit(one(**S))
        await asyncio.sleep(0.5)
        await (await runner.emit(one(**S))).result()

    async def go_on(life: Life) -> Any:
        runner = await life.start(_runner(world, "interrupt"))
        return [(await handle.result()).status for handle in await runner.resume()]

    world.process(main, Death(append=append, is_written=is_written))
    is_cut = bool(world.run_ids) and bool(world.told(world.run_ids[0], FlowCut))
    world.process(go_on)
    assert not [state for state in _states(world) if state not in ("completed", "cancelled")]
    if is_cut:
        assert ("cancelled", 1) == (_states(world)[0], len(world.told(world.run_ids[0], StepStarted)))
    order = [run_id for run_id, _, _ in world.ledger]
    assert order == sorted(order, key=world.run_ids.index)
    _check(world)


def test_a_child_that_is_emitted_again_after_a_restart_does_not_wait_for_its_parent(world: World) -> None:
    """A callback that runs once more, and emits the same event, may wait for its result, though that stands behind it in the journal."""

    def runner_of() -> Runner:
        runner = _runner(world, "queue")

        @runner.on(Hook.AFTER_EVENT_HANDLING)
        async def beget(args: HookArgs) -> None:
            if args.event.id == "parent":
                assert "completed" == (await (await args.runner.emit(one(id="child", **S))).result()).status

        return runner

    async def leave(life: Life) -> None:
        await (await life.start(runner_of())).run(one(id="parent", **S))

    async def go_on(life: Life) -> Any:
        runner = await life.start(runner_of())
        began = life.time()
        return [(await handle.result()).status for handle in await runner.resume()], life.time() - began < 10

    world.process(leave, Death(at_s=2.5))
    assert ["running", "running"] == _states(world)
    assert (["completed"] * 2, True) == world.process(go_on)
    _check(world)
