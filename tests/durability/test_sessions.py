"""Sessions across processes: what an earlier one left unfinished has its session, and its place in it, until it has ended."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agentflow import Runner
from agentflow.core.run_row import OPEN_STATES
from agentflow.engine.desk import Desk, Order
from agentflow.errors import AgentflowError, QueueFullError, StorageError
from tests.durability.checker import faults_of
from tests.durability.world import Death, Life, World, make, one

S = {"session_id": "s"}


def _runner(world: World, names: str = "ab", **sections: Any) -> Runner:
    """Return a runner whose steps take a second each, and write down when one of an earlier run's session was still open."""

    async def slow(event: Any, state: Any, ctx: Any) -> dict[str, int]:
        world.note(ctx)
        world.faults += [f"{ctx.run_id} began before {run_id} had ended" for run_id in _ahead(world, ctx.run_id)]
        await asyncio.sleep(1)
        return {ctx.agent: ctx.attempt}

    flow = {"mode": "sequential", "sequential_agents": list(names), "max_process_deaths": 100, **sections.pop("flow", {})}
    return make(flow, dict.fromkeys(names, slow), **sections)


def _ahead(world: World, run_id: str) -> list[str]:
    """Return the runs of a run's session that were accepted before it and are open; one that is damaged has no place in it."""
    session_id = world.row(run_id).session_id
    rows = [world.row(other) for other in world.run_ids[: world.run_ids.index(run_id)]]
    return [row.run_id for row in rows if row.is_open and row.session_id == session_id is not None and "corrupt" not in row.flags]


def _check(world: World) -> None:
    assert [] == world.faults
    for run_id in world.run_ids:
        run = world.store._runs[run_id]
        assert [] == faults_of(run.row, run.entries, world.store._plans.get(run.row.plan_hash))


def _desk(life: Life, runner: Runner) -> Desk:
    assert runner._history is not None
    return Desk(life.door, runner._history, runner._adapters.clock, runner._engine)


def _states(world: World) -> list[str]:
    return [world.row(run_id).state for run_id in world.run_ids]


def _leave_one(world: World, how: str) -> None:
    """Leave a run of session s that was paused, or running, when its process died."""

    async def main(life: Life) -> None:
        handle = await (await life.start(_runner(world))).emit(one(**S))
        await asyncio.sleep(0.5)
        if how == "paused":
            await handle.pause("lunch")
        life.die()
        await asyncio.sleep(1)

    world.process(main)


# --- what holds a session ---


@pytest.mark.parametrize("how", ["paused", "running"])
def test_an_event_waits_behind_what_an_earlier_process_left(world: World, how: str) -> None:
    """It is accepted at once and durably, as pending, and begins once the run ahead of it was resumed and has ended."""
    _leave_one(world, how)

    async def main(life: Life) -> Any:
        runner = await life.start(_runner(world))
        second = await runner.emit(one(**S))
        third = await runner.emit(one(**S))
        assert ("pending", "pending") == (await second.wait(), await third.wait())
        beside = [await runner.emit(one()), await runner.emit(one(session_id="t"))]
        assert ["completed"] * 2 == [(await handle.result()).status for handle in beside]
        assert [how, "pending", "pending", "completed", "completed"] == _states(world)
        (first,) = await runner.resume(world.run_ids[0] if how == "paused" else None)
        results = [await handle.result() for handle in (first, second, third)]
        return [result.status for result in results], await third.wait()

    assert (["completed"] * 3, "completed") == world.process(main)
    assert ["WorkflowCreated", "StepStarted"] == world.types(world.run_ids[1])[:2]
    _check(world)


def test_pending_runs_of_a_process_that_died_keep_their_places(world: World) -> None:
    """Runs that were pending when their process died go before what is emitted later, though they are taken over after that."""
    _leave_one(world, "running")

    async def pend(life: Life) -> None:
        runner = await life.start(_runner(world))
        assert "pending" == await (await runner.emit(one(**S))).wait()
        life.die()
        await asyncio.sleep(1)

    world.process(pend)

    async def main(life: Life) -> list[str]:
        runner = await life.start(_runner(world))
        third = await runner.emit(one(**S))
        (second,) = await runner.resume(world.run_ids[1])
        await asyncio.sleep(10)
        assert ("pending", "pending") == (await second.wait(), await third.wait())
        assert 1 == len(world.ledger)
        (first,) = await runner.resume()
        return [(await handle.result()).status for handle in (third, second, first)]

    assert ["completed"] * 3 == world.process(main)
    assert world.run_ids == list(dict.fromkeys(run_id for run_id, _, _ in world.ledger))
    _check(world)


def test_a_run_that_waited_in_the_journal_has_all_of_its_time(world: World) -> None:
    """The time limit of an event is not used up by waiting for its session, in whatever process, nor given back by a restart."""
    _leave_one(world, "paused")
    flow = {"timeout_seconds": 3}

    async def pend(life: Life) -> None:
        await (await life.start(_runner(world, flow=flow))).emit(one(**S))
        await asyncio.sleep(100)

    async def go_on(life: Life) -> Any:
        runner = await life.start(_runner(world, flow=flow))
        handles = [*await runner.resume(world.run_ids[0]), *await runner.resume()]
        return [(await handle.result()).status for handle in handles]

    world.process(pend)
    assert world.process(go_on, Death(at_s=3.5)) is None
    assert ["completed", "running"] == _states(world)
    assert ["completed"] == world.process(lambda life: _resumed(life, _runner(world)))
    world.process(pend, Death(at_s=0.5))
    world.now += 100
    assert ["timed_out"] == world.process(lambda life: _resumed(life, _runner(world)))
    _check(world)


async def _resumed(life: Life, runner: Runner) -> list[str]:
    await life.start(runner)
    return [(await handle.result()).status for handle in await runner.resume()]


def test_a_run_whose_agent_is_missing_holds_its_session(world: World) -> None:
    """A run that is laid aside here still has its session; who waits behind it is told, and goes on when it was cancelled."""
    _leave_one(world, "running")

    async def main(life: Life) -> Any:
        runner = await life.start(_runner(world, "a"))
        second = await runner.emit(one(**S))
        (first,) = await runner.resume()
        assert ("paused", "pending") == (await first.wait(), await second.wait())
        receipt = await _desk(life, runner).carry_out(Order("cancel", first.run_id, told="enough"))
        assert ("cancelled", False) == (receipt.state, receipt.is_live)
        return (await second.result()).status, await second.wait()

    assert ("completed", "completed") == world.process(main)
    assert ["cancelled", "completed"] == _states(world)
    _check(world)


def test_who_waits_is_told_when_the_run_ahead_is_left(world: World) -> None:
    """A run in the queue is not told of as pending while the one ahead goes on here, but as soon as that one is laid aside."""

    async def main(life: Life) -> Any:
        runner = await life.start(_runner(world))
        first, second = await runner.emit(one(**S)), await runner.emit(one(**S))
        waiting = asyncio.create_task(second.wait())
        await asyncio.sleep(0.5)
        assert not waiting.done()
        life.door.fault = lambda append: StorageError("bad disk") if append.run_id == first.run_id else None
        with pytest.raises(StorageError):
            await first.result()
        life.door.fault = None
        assert "pending" == await waiting
        assert 1 == len(world.ledger)
        (again,) = await runner.resume(first.run_id)
        return [(await handle.result()).status for handle in (again, second)]

    assert ["completed", "completed"] == world.process(main)
    _check(world)


def test_a_refused_event_has_no_place(world: World) -> None:
    """An event that could not be recorded, or had been before, holds up nothing."""

    async def main(life: Life) -> Any:
        runner = await life.start(_runner(world))
        life.door.fault = lambda append: StorageError("bad disk")
        with pytest.raises(StorageError):
            await runner.emit(one(id="e1", **S))
        life.door.fault = None
        first = await runner.emit(one(id="e1", **S))
        same = await runner.emit(one(id="e1", **S))
        second = await runner.emit(one(**S))
        assert first.run_id == same.run_id
        return (await second.result()).status

    assert "completed" == world.process(main)
    _check(world)


def test_a_run_that_cannot_be_read_holds_no_session(world: World) -> None:
    """Nothing could ever end a damaged run, so those behind it go on, at once and after the next start."""
    _leave_one(world, "running")
    entries = world.store._runs[world.run_ids[0]].entries
    del entries[0]

    async def main(life: Life) -> Any:
        runner = await life.start(_runner(world))
        second = await runner.emit(one(**S))
        assert "pending" == await second.wait()
        await runner.resume()
        return (await second.result()).status

    async def after(life: Life) -> Any:
        return (await (await life.start(_runner(world))).run(one(**S))).status

    assert "completed" == world.process(main)
    assert ("corrupt",) == world.row(world.run_ids[0]).flags
    assert "completed" == world.process(after)
    assert [] == world.faults


def test_a_run_that_could_not_be_read_this_time_keeps_its_place(world: World) -> None:
    """A read that fails says nothing of the run: it is not flagged, holds its session, and goes on when it is resumed again."""
    _leave_one(world, "running")

    async def main(life: Life) -> Any:
        runner = await life.start(_runner(world))
        second = await runner.emit(one(**S))

        async def fails(*_: Any) -> Any:
            raise StorageError("bad disk")

        life.door.entries = fails  # type: ignore[attr-defined] # instead of the store's own
        (first,) = await runner.resume()
        with pytest.raises(StorageError):
            await first.result()
        del life.door.entries  # type: ignore[attr-defined]
        assert ("pending", ()) == (await second.wait(), world.row(world.run_ids[0]).flags)
        (again,) = await runner.resume(world.run_ids[0])
        return [(await handle.result()).status for handle in (again, second)]

    assert ["completed", "completed"] == world.process(main)
    _check(world)


def test_a_run_that_was_cancelled_while_it_was_paused_ends_when_it_is_resumed(world: World) -> None:
    """A process that dies between the cancel and the end leaves a run that holds its session until that end is recorded."""

    async def cancel(life: Life) -> None:
        handle = await (await life.start(_runner(world))).emit(one(**S))
        await asyncio.sleep(0.5)
        await handle.pause("lunch")
        await asyncio.sleep(1)
        await handle.cancel("enough")

    async def go_on(life: Life) -> Any:
        runner = await life.start(_runner(world))
        second = await runner.emit(one(**S))
        handles = [*await runner.resume(), second]
        return [(await handle.result()).status for handle in handles]

    world.process(cancel, Death(append=5, is_written=False))
    assert "WorkflowCancelled" not in world.types(world.run_ids[0])
    assert ["cancelled", "completed"] == world.process(go_on)
    _check(world)


# --- orders, bounds, stopping ---


@pytest.mark.parametrize("how", ["paused", "running"])
def test_cancelling_a_run_that_nobody_carries_lets_its_session_go_on(world: World, how: str) -> None:
    """Whoever waits behind a run that is ended by an order begins then, without a restart."""
    _leave_one(world, how)

    async def main(life: Life) -> Any:
        runner = await life.start(_runner(world))
        second, third = await runner.emit(one(**S)), await runner.emit(one(**S))
        assert "pending" == await second.wait()
        await third.cancel("not needed")
        assert "cancelled" == (await third.result()).status
        await _desk(life, runner).carry_out(Order("cancel", world.run_ids[0]))
        return (await second.result()).status

    assert "completed" == world.process(main)
    assert ["cancelled", "completed", "cancelled"] == _states(world)
    _check(world)


def test_a_retried_run_has_its_place_from_when_it_is_recorded(world: World) -> None:
    """What is emitted after a retry waits until somebody has resumed that, or ended it."""

    async def main(life: Life) -> Any:
        runner = await life.start(_runner(world))
        first = await runner.emit(one(**S))
        await first.cancel("enough")
        await first.result()
        receipt = await _desk(life, runner).carry_out(Order("retry", first.run_id))
        later = await runner.emit(one(**S))
        assert "pending" == await later.wait()
        (again,) = await runner.resume()
        assert receipt.run_id == again.run_id
        return [(await handle.result()).status for handle in (again, later)]

    assert ["completed", "completed"] == world.process(main)
    _check(world)


def test_a_runner_that_stops_does_not_wait_for_a_held_session(world: World) -> None:
    """What waits behind a run that nobody carries, or behind one that is paused, is left at once, can be resumed, and did not begin."""
    _leave_one(world, "running")

    async def main(life: Life) -> Any:
        runner = await life.start(_runner(world))
        behind = await runner.emit(one(**S))
        paused = await runner.emit(one(session_id="t"))
        waiting = await runner.emit(one(session_id="t"))
        await asyncio.sleep(0.5)
        await paused.pause()
        await asyncio.sleep(2)
        began = life.time()
        report = await runner.stop(60)
        return report, life.time() - began, {behind.run_id, paused.run_id, waiting.run_id}

    report, took_s, left = world.process(main)
    assert (0.0, left, ()) == (took_s, set(report.resumable), report.cancelled)
    assert ["running", "pending", "paused", "pending"] == _states(world)

    async def go_on(life: Life) -> Any:
        runner = await life.start(_runner(world))
        handles = await runner.resume()
        await runner.resume(world.run_ids[2])
        return [(await handle.result()).status for handle in handles]

    assert ["completed"] * 4 == world.process(go_on)
    _check(world)


def test_those_that_wait_for_a_held_session_count_for_the_queue(world: World) -> None:
    """A held session does not let the queue grow beyond its size."""
    _leave_one(world, "paused")

    async def main(life: Life) -> int:
        runner = await life.start(_runner(world, runner={"queue_size": 2}))
        for _ in range(2):
            await runner.emit(one(**S))
        with pytest.raises(QueueFullError):
            await runner.emit(one(**S))
        return len(world.run_ids)

    assert 3 == world.process(main)


def test_blocked_runs_are_listed_with_the_one_whose_turn_it_is(world: World) -> None:
    """`runner.blocked()` names what each run of a busy session waits for, whoever has that."""
    _leave_one(world, "paused")

    async def main(life: Life) -> Any:
        runner = await life.start(_runner(world))
        events = [one(**S), one(**S), one(session_id="t"), one(session_id="t"), one()]
        handles = [await runner.emit(event) for event in events]
        ids = [world.run_ids[0], *(handle.run_id for handle in handles)]
        told = await runner.blocked()
        return {ids.index(run_id): (ids.index(row.run_id), row.state) for run_id, row in told.items()}

    assert {1: (0, "paused"), 2: (0, "paused"), 4: (3, "running")} == world.process(main)


# --- whatever happens ---

_sessions = st.sampled_from(["s", "s", "s", "t", None])
_which = st.integers(0, 9)
_actions = st.one_of(
    st.tuples(st.just("emit"), _sessions),
    st.tuples(st.just("emit"), _sessions),
    st.tuples(st.just("sleep"), st.sampled_from([0.2, 0.5, 1.0, 2.5])),
    st.tuples(st.just("resume"), st.just(None)),
    st.tuples(st.sampled_from(["resume one", "pause", "cancel", "order cancel", "order retry", "order reject"]), _which),
)
_lives = st.tuples(
    st.lists(_actions, max_size=8),
    st.one_of(
        st.builds(Death, append=st.integers(1, 25), is_written=st.booleans()),
        st.builds(Death, at_s=st.sampled_from([0.3, 1.2, 2.7, 6.0])),
        st.sampled_from([0.0, 1.5, 60.0]),  # it stops, and waits so long
    ),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from(["ab", "ab", "a", "aq"]),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_lives, min_size=1, max_size=5))
@example([([("emit", "s"), ("emit", "t")], Death(at_s=0.3), 0.0, "ab"), ([("resume", None)], 0.0, 0.0, "ab")])
@example([([("emit", "s")], Death(at_s=0.3), 0.0, "ab"), ([("emit", "s"), ("sleep", 2.5)], 0.0, 0.0, "ab")])
@example(
    [([("emit", "s"), ("pause", 0), ("cancel", 0)], Death(append=4, is_written=False), 0.0, "ab"), ([("resume", None)], 0.0, 0.0, "ab")]
)
def test_runs_of_a_session_never_overlap_and_begin_in_order(script: list[Any]) -> None:
    """Whatever is paused, killed, resumed, cancelled and emitted: no run begins before those accepted ahead of it have ended."""
    world = World()
    for actions, ending, commit_s, agents in script:
        death = ending if isinstance(ending, Death) else None

        async def live(life: Life, actions: Any = actions, ending: Any = ending, agents: str = agents) -> None:
            runner = await life.start(_asking(world, agents))
            for name, told in actions:
                with suppress(AgentflowError):
                    await _act(life, runner, name, told)
            if not isinstance(ending, Death):
                await runner.stop(ending)

        world.process(live, death, commit_s=commit_s)
    world.process(lambda life: _end_all(life, _asking(world, "abq")))
    assert not [state for state in _states(world) if state in OPEN_STATES]
    _check(world)


def _asking(world: World, agents: str) -> Runner:
    """Return a runner whose agent q waits for approval."""
    return _runner(world, agents, agents={"q": {"requires_approval": True}} if "q" in agents else {})


async def _act(life: Life, runner: Runner, name: str, told: Any) -> None:
    ids = [run_id for run_id in life.world.run_ids if life.world.row(run_id).is_open or name == "order retry"]
    run_id = ids[told % len(ids)] if isinstance(told, int) and ids else "run-none"
    match name:
        case "emit":
            await runner.emit(one(session_id=told))
        case "sleep":
            await asyncio.sleep(told)
        case "resume":
            await runner.resume()
        case "resume one":
            await runner.resume(run_id)
        case "pause":
            await (await runner.handle(run_id)).pause()
        case "cancel":
            await (await runner.handle(run_id)).cancel()
        case _:
            await _desk(life, runner).carry_out(Order(name.split()[1], run_id))


async def _end_all(life: Life, runner: Runner) -> None:
    """Go on with all there is; lift each pause, and reject what waits for a person."""
    await life.start(runner)

    async def end(handle: Any) -> None:
        while (state := await handle.wait()) == "paused":
            row = life.world.row(handle.run_id)
            for place in row.waiting:
                await handle.reject(place)
            if not row.waiting:
                await handle.resume()
        assert state != "pending"
        await handle.result()

    await asyncio.gather(*map(end, await runner.resume()))
