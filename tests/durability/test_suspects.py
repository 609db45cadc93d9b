"""A step that was in flight in two processes that died is tried with nothing else in flight, and takes nobody along."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentflow import Event, Hook, Runner, Workflow
from agentflow.workflow import AgentStepSpec
from tests.durability.checker import faults_of
from tests.durability.world import Death, Life, World, make, one

ALONE = "alone"  # begins the name of a step that is a suspect in the last life


class Company:
    """Handlers that take their time and note, whenever a suspect is in flight, who else is."""

    def __init__(self, world: World, *suspects: str) -> None:
        self.world = world
        self.suspects = suspects
        self.now: list[str] = []
        self.together: list[list[str]] = []
        self.ended: list[str] = []

    async def work(self, name: str, seconds: float) -> None:
        self.now.append(name)
        self._look()
        await asyncio.sleep(seconds)
        self.now.remove(name)
        self.ended.append(name)

    def _look(self) -> None:
        if len(self.now) > 1 and any(name in self.suspects or (name.startswith(ALONE) and not self.suspects) for name in self.now):
            self.together.append(list(self.now))

    def handler(self, name: str, seconds: float) -> Callable[..., Any]:
        async def handle(event: Any, state: Any, ctx: Any) -> dict[str, bool]:
            self.world.note(ctx)
            await self.work(state.get("name", "") + name, seconds)
            return {name: True}

        return handle


def _runner(company: Company) -> Runner:
    handlers = {name: company.handler(name, seconds) for name, seconds in (("a", 2.0), ("b", 2.0), ("long", 60.0))}
    flows = {
        "line": {"mode": "sequential", "sequential_agents": ["a", "b", "long"]},
        "both": {"mode": "collaborative", "collaborative_agents": ["a", "b"]},
    }
    return make({"mode": "route"}, handlers, flows=flows, runner={"drain_timeout_seconds": 1000})


def _made_suspects(world: World, *events: Event) -> None:
    """Let three processes die with the first steps of these events in flight: those are suspects then."""

    async def begin(life: Life) -> None:
        runner = await life.start(_runner(Company(world)))
        for handle in [await runner.emit(event) for event in events]:
            await handle.result()

    async def go_on(life: Life) -> None:
        runner = await life.start(_runner(Company(world)))
        for handle in await runner.resume():
            await handle.result()

    world.process(begin, Death(at_s=1.0))
    world.process(go_on, Death(at_s=1.0))


def _suspect(target: str, name: str = ALONE) -> Event:
    return one(target, {"name": name})


def _check(world: World) -> None:
    assert [] == world.faults
    for run_id in world.run_ids:
        run = world.store._runs[run_id]
        assert [] == faults_of(run.row, run.entries, world.store._plans.get(run.row.plan_hash))
        assert run.row.status == "completed"


@pytest.mark.parametrize("commit_s", [0.0, 0.01])
@pytest.mark.parametrize("target", ["a", "line", "both"])
def test_what_is_in_flight_is_waited_for(world: World, target: str, commit_s: float) -> None:
    """Steps that began before the suspect end first, those behind them begin after it, also when they are of its own run."""
    _made_suspects(world, _suspect(target))
    suspects = [f"{ALONE}a", f"{ALONE}b"] if target == "both" else [f"{ALONE}a"]
    company = Company(world, *suspects)

    async def main(life: Life) -> None:
        runner = await life.start(_runner(company))
        others = [await runner.emit(one("line", {"name": "x-"})), await runner.emit(one("both", {"name": "y-"}))]
        await asyncio.sleep(1.0)
        handles = await runner.resume()
        await asyncio.sleep(1.5)
        others.append(await runner.emit(one("a", {"name": "z-"})))
        for handle in (*handles, *others):
            await handle.result()

    world.process(main, commit_s=commit_s)
    assert [] == company.together
    assert ["x-a", "y-a", "y-b"] == sorted(company.ended[:3])
    assert suspects == sorted(company.ended[3 : 3 + len(suspects)])
    assert {"x-b", "z-a"} <= {*company.ended[3 + len(suspects) :]}
    _check(world)


def test_suspects_are_tried_one_after_another(world: World) -> None:
    """However many runs and branches they stand in."""
    _made_suspects(world, *[_suspect(target, f"{ALONE}{number}") for number, target in enumerate(("a", "both", "line", "b"))])
    company = Company(world)

    async def main(life: Life) -> None:
        runner = await life.start(_runner(company))
        for handle in await runner.resume():
            await handle.result()

    world.process(main)
    assert 7 == len(company.ended)
    assert [] == company.together
    _check(world)


def test_what_waits_for_a_kept_run_is_no_deadlock(world: World) -> None:
    """A step in flight may wait for a run that it has emitted: that may begin after a while, and the suspect is tried then."""
    _made_suspects(world, _suspect("a"))
    company = Company(world)

    async def main(life: Life) -> list[str]:
        runner = _runner(company)

        async def ask(event: Any, state: Any, ctx: Any) -> None:
            await asyncio.sleep(2.0)
            await company.work("asking", 0.0)
            await runner.run(one("line"))

        runner.register_agent("asks", ask)
        await life.start(runner)
        asking = await runner.emit(one("asks"))
        await asyncio.sleep(1.0)
        (handle,) = await runner.resume()
        return [(await one_handle.result()).status for one_handle in (asking, handle)]

    assert ["completed", "completed"] == world.process(main)
    assert [] == company.together
    assert company.ended[-1] == f"{ALONE}a"


def test_a_paused_suspect_is_tried_when_it_is_resumed(world: World) -> None:
    """While it is paused it holds up nobody; when the pause is lifted nothing else is in flight."""
    _made_suspects(world, _suspect("line"))
    company = Company(world)

    async def main(life: Life) -> None:
        runner = await life.start(_runner(company))
        long = await runner.emit(one("long"))
        await asyncio.sleep(1.0)
        (handle,) = await runner.resume()
        await handle.pause()
        assert await handle.wait() == "paused"
        await long.result()
        other = await runner.emit(one("a"))
        await asyncio.sleep(1.0)
        await handle.resume()
        await handle.result()
        assert (await other.result()).status == "completed"

    world.process(main)
    assert [] == company.together
    _check(world)


def test_a_cancelled_suspect_lets_the_others_go_on(world: World) -> None:
    """A suspect that is cancelled before it is tried, or while it is, is waited for no longer."""
    for after_s in (1.0, 4.0):
        world = World()
        _made_suspects(world, _suspect("long"))
        company = Company(world)

        async def main(life: Life, after_s: float = after_s, company: Company = company) -> list[str]:
            runner = await life.start(_runner(company))
            line = await runner.emit(one("a"))
            (handle,) = await runner.resume()
            other = await runner.emit(one("both"))
            await asyncio.sleep(after_s)
            handle.cancel("enough")
            return [(await one_handle.result()).status for one_handle in (handle, line, other)]

        assert ["cancelled", "completed", "completed"] == world.process(main)
        assert [] == company.together


def test_hooks_of_a_suspect_run_alone(world: World) -> None:
    """Hooks ahead of a first step that was in flight when processes died run with nothing else in flight, too."""

    def runner(company: Company) -> Runner:
        made = _runner(company)

        async def before(args: Any) -> None:
            if args.event.target == "b":
                await company.work(f"{ALONE} hook", 3.0)

        made.register_callback(Hook.BEFORE_EVENT_HANDLING, "before", before)
        return made

    async def begin(life: Life) -> None:
        await (await (await life.start(runner(Company(world)))).emit(one("b"))).result()

    async def go_on(life: Life) -> None:
        (handle,) = await (await life.start(runner(Company(world)))).resume()
        await handle.result()

    world.process(begin, Death(at_s=1.0))
    world.process(go_on, Death(at_s=1.0))
    company = Company(world)

    async def main(life: Life) -> None:
        made = await life.start(runner(company))
        other = await made.emit(one("line"))
        await asyncio.sleep(1.0)
        (handle,) = await made.resume()
        await handle.result()
        await other.result()

    world.process(main)
    assert [] == company.together
    _check(world)


def test_a_pause_before_the_trial_keeps_a_suspects_hooks(world: World) -> None:
    """Hooks whose trial is due while their run is paused run when it is resumed, once."""
    ran: list[float] = []

    def runner(company: Company) -> Runner:
        made = _runner(company)

        async def before(args: Any) -> None:
            ran.append(asyncio.get_running_loop().time())
            await asyncio.sleep(3.0)

        made.register_callback(Hook.BEFORE_EVENT_HANDLING, "before", before)
        return made

    async def begin(life: Life) -> None:
        handle = await (await life.start(runner(Company(world)))).emit(one("b"))
        await asyncio.sleep(0.5)
        await handle.pause("lunch")
        await handle.result()

    async def go_on(life: Life) -> None:
        (handle,) = await (await life.start(runner(Company(world)))).resume()
        await handle.resume()
        await asyncio.sleep(0.5)
        await handle.pause("lunch")
        await handle.result()

    world.process(begin, Death(at_s=1.0))
    world.process(go_on, Death(at_s=1.0))
    ran.clear()

    async def main(life: Life) -> str:
        (handle,) = await (await life.start(runner(Company(world)))).resume()
        await asyncio.sleep(1.0)
        await asyncio.gather(handle.resume(), handle.pause("lunch"))
        await asyncio.sleep(1.0)
        assert (ran, await handle.wait()) == ([], "paused")
        await handle.resume()
        return (await handle.result()).status  # type: ignore[no-any-return]

    assert world.process(main) == "completed"
    assert ran == [2.0]
    _check(world)


def test_suspects_of_a_workflow_are_tried_alone(world: World) -> None:
    """Steps of a workflow that were in flight together when processes died run one by one, and all of them end."""

    class Executor:
        def __init__(self, company: Company) -> None:
            self.company = company

        async def execute_step(self, spec: AgentStepSpec, emit: Any) -> str:
            await self.company.work(f"{ALONE} {spec.task_id}", 2.0)
            return spec.task_id

    async def work(life: Life, company: Company) -> list[str]:
        await life.world.store.open()
        async with Workflow(Executor(company), root_id="w", store=life.door, resume=True) as workflow:
            return [outcome.output for outcome in await workflow.parallel([AgentStepSpec(name, "x") for name in "abc"])]

    for _ in range(2):
        world.process(lambda life: work(life, Company(world)), Death(at_s=1.0))
    company = Company(world)
    assert ["a", "b", "c"] == world.process(lambda life: work(life, company))
    assert [] == company.together
