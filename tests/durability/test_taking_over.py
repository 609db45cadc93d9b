"""What the row of a run says between its take-over and the first thing that goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentflow import Runner
from agentflow.app import compile_rule
from agentflow.engine.desk import Desk, Order
from agentflow.engine.history import History
from agentflow.errors import JournalDamagedError
from agentflow.system import SystemClock
from tests.durability.world import Death, Life, World, make, one

LINE = {"mode": "sequential", "sequential_agents": ["a", "b"]}


def _runner(world: World, *, asks: bool = False) -> Runner:
    async def hang(event: Any, state: Any, ctx: Any) -> dict[str, int]:
        world.note(ctx)
        assert world.row(ctx.run_id).state == "running"
        await asyncio.sleep(10)
        return {ctx.agent: ctx.attempt}

    return make(LINE, {"a": hang, "b": hang}, agents={"b": {"requires_approval": asks}})


def _died_at(world: World, at_s: float, *, asks: bool = False) -> str:
    async def main(life: Life) -> None:
        runner = await life.start(_runner(world, asks=asks))
        await (await runner.emit(one())).result()

    world.process(main, Death(at_s=at_s))
    return world.run_ids[0]


@pytest.mark.parametrize("deaths", [0, 2])
def test_a_run_is_recovering_until_it_goes_on(world: World, deaths: int) -> None:
    """Taking it over says so in its row, also when its new owner dies at once; the first commit, which is needed anyway, ends it."""
    run_id = _died_at(world, 5.0)
    assert world.row(run_id).state == "running"

    async def take(life: Life) -> None:
        await (await life.start(_runner(world))).resume()
        life.die()

    for _ in range(deaths):
        world.process(take)
        assert world.row(run_id).state == "recovering"

    async def main(life: Life) -> int:
        runner = await life.start(_runner(world))
        (handle,) = await runner.resume()
        row = world.row(run_id)
        assert (row.state, row.epoch) == ("recovering", 2 + deaths)
        assert [run_id] == [row.run_id for row in await runner.runs(state="recovering")]
        assert [] == await runner._history.verify()
        assert (await runner._store.counts())["recovering"] == 1
        await handle.result()
        return len(life.door.seen)

    assert world.process(main) == 3  # going on with a; a done and b begun; b done and the end
    assert [] == world.faults


def test_a_paused_run_stays_paused(world: World) -> None:
    """One that waits for a person is taken over as it is: nothing of it goes on."""
    run_id = _died_at(world, 50.0, asks=True)

    async def main(life: Life) -> str:
        runner = await life.start(_runner(world, asks=True))
        (handle,) = await runner.resume()
        assert world.row(run_id).state == "paused"
        assert await handle.wait() == "paused"
        assert world.row(run_id).state == "paused"
        await handle.approve("b")
        return str((await handle.result()).status)

    assert world.process(main) == "completed"


def test_an_order_on_a_run_that_nobody_runs_does_not_leave_it_recovering(world: World) -> None:
    """Who takes a run only to record what is asked writes how it stands in the same commit."""
    run_id = _died_at(world, 5.0)

    async def main(life: Life) -> None:
        history = History(life.door, compile_rule, lambda reference: sum)
        for verb, state in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
            await Desk(life.door, history, SystemClock()).carry_out(Order(verb, run_id))
            assert world.row(run_id).state == state

    world.process(main)


def test_a_plan_that_is_gone_is_named_alike_by_who_goes_on_and_who_looks(world: World) -> None:
    """Both read it back in one way, and say which plan of which run is not kept."""
    run_id = _died_at(world, 5.0)
    world.store._plans.clear()

    async def main(life: Life) -> list[str]:
        runner = make({"mode": "sequential", "sequential_agents": ["a"]}, {"a": lambda event, state: None})
        await life.start(runner)
        (handle,) = await runner.resume()
        told = []
        for asked in (handle.result(), runner.get(run_id)):
            with pytest.raises(JournalDamagedError) as error:
                await asked
            told.append(str(error.value))
        return told

    told = world.process(main)
    assert told[0] == told[1]
    assert f"run {run_id}: its plan {world.row(run_id).plan_hash} is not kept" in told[0]
