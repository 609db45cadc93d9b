"""Events that bring forth others, killed at each append of their journal: every child once, in its place, and counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from agentflow import AgentResult, Event, Hook, Runner
from agentflow.core.records import StepCompleted, WorkflowCreated
from agentflow.errors import StorageError, StorageFullError
from tests.durability.checker import faults_of
from tests.durability.world import Death, Life, World, make, one

MOST_LIVES = 20


def family(world: World, *, most: int = 100, is_hooked: bool = False, session_id: str | None = None) -> Runner:
    """Return a runner whose root emits two orders, of which each has two subscribers; one emits a mail, one fails, one is background."""

    async def root(event: Event, state: Any, ctx: Any) -> AgentResult:
        world.note(ctx)
        if ctx.attempt == 1:
            ctx.emit(Event("order.new", {"n": 1}, session_id=session_id))
        ctx.emit(Event("order.new", {"n": 2}, session_id=session_id))
        ctx.emit(Event("last", {"n": 3}))
        await asyncio.sleep(1)
        return AgentResult({"rooted": True}, route="audit")

    async def bill(event: Event, state: Any, ctx: Any) -> None:
        world.note(ctx)
        ctx.emit(Event("mail", {"n": event.data["n"]}))

    async def fails(event: Event, state: Any, ctx: Any) -> None:
        world.note(ctx)
        await asyncio.sleep(0.5)
        raise OSError("no")

    async def plain(event: Event, state: Any, ctx: Any) -> dict[str, Any]:
        world.note(ctx)
        await asyncio.sleep(0.5)
        return {ctx.agent: event.data.get("n")}

    handlers = {"root": root, "bill": bill, "fails": fails, "mail": plain, "last": plain, "audit": plain}
    agents = {"bill": {"subscribes": ["order.*"]}, "fails": {"subscribes": ["order.*"]}, "audit": {"background": True}}
    runner = make({"mode": "route", "max_events": most, "max_process_deaths": 100}, handlers, agents=agents)
    if is_hooked:
        runner.register_callback(Hook.AFTER_EVENT_HANDLING, "waits", lambda args: asyncio.sleep(0.25))
        runner.register_callback(Hook.BEFORE_AGENT_RUN, "looks", lambda args: None)
    return runner


async def live(life: Life, session_id: str | None = None, **terms: Any) -> Any:
    """Emit the event unless it was, go on with all that was accepted, and return the tree of the root."""
    runner = await life.start(family(life.world, session_id=session_id, **terms))
    await runner.resume()
    handle = await runner.emit(one("root", {"n": 0}, id="root", session_id=session_id))
    tree = await handle.tree()
    assert next(iter(tree)) == handle.run_id
    await runner.stop()
    return tree


def survive(world: World, deaths: list[Death], commit_s: float, **terms: Any) -> Any:
    """Let one process after the other do the work until one lives long enough."""
    for number in range(MOST_LIVES):
        tree = world.process(lambda life: live(life, **terms), deaths[number] if number < len(deaths) else None, commit_s=commit_s)
        if tree is not None:
            return tree
    raise AssertionError("it never ended")


def shape(world: World) -> Counter[tuple[Any, ...]]:
    """Return what there is of each kind of run: who it is, how it ended, and of whom it came."""
    told: dict[str, tuple[Any, ...]] = {}
    for run_id in world.run_ids:
        (created,) = world.told(run_id, WorkflowCreated)
        row = world.row(run_id)
        assert (row.parent_id, row.root_id) == (created.parent_id, created.root_id)
        calls = tuple(fact.agent for fact in world.told(run_id, StepCompleted))
        above = () if row.parent_id is None else told[row.parent_id]
        assert row.root_id == (None if row.parent_id is None else world.run_ids[0])
        told[run_id] = (row.pattern, created.target, created.event["data"].get("n"), calls, row.status, above)
    return Counter(told.values())


def check(world: World) -> None:
    """Look for what must not be in any journal, and for children that a step has named and nobody has, or the other way round."""
    assert [] == world.faults
    children: dict[str, list[str]] = {}
    for run_id in world.run_ids:
        row = world.row(run_id)
        run = world.store._runs[run_id]
        assert [] == faults_of(row, run.entries, world.store._plans.get(row.plan_hash))
        children.setdefault(row.parent_id or "", []).append(run_id)
    for run_id in world.run_ids:
        emitted = [child for fact in world.told(run_id, StepCompleted) for child in fact.emitted]
        followers = [child for child in children.get(run_id, []) if world.row(child).pattern == "agent" and child not in emitted]
        assert sorted([*emitted, *followers]) == sorted(children.get(run_id, []))


TERMS: list[dict[str, Any]] = [{}, {"is_hooked": True}, {"session_id": "s"}]


@pytest.mark.parametrize("terms", TERMS, ids=["plain", "hooked", "in one session"])
@pytest.mark.parametrize("commit_s", [0.0, 0.01])
def test_a_family_killed_at_any_append_is_the_same_family(terms: dict[str, Any], commit_s: float) -> None:
    """Every run is accepted once, under its parent and root, and each ends as it would have."""
    unbroken = World()

    async def main(life: Life) -> Any:
        return await live(life, **terms), len(life.door.seen)

    tree, appends = unbroken.process(main, commit_s=commit_s)
    check(unbroken)
    expected = shape(unbroken)
    assert 1 + 2 * 3 + 2 + 1 + 1 == len(tree) == expected.total()
    dead = 0
    for append in range(1, appends + 1):
        for is_written in (True, False):
            world = World()
            tree = survive(world, [Death(append=append, is_written=is_written)], commit_s, **terms)
            check(world)
            found = shape(world)
            if world.counts["deaths"] and _attempts_of_root(world) > 1:
                found = _without_first_order(found)
                assert _without_first_order(expected) == found
            else:
                assert expected == found
            assert len(tree) == len(world.run_ids)
            dead += world.counts["deaths"]
    print(f"{dead} deaths at {appends} appends")
    assert dead >= 2 * appends >= 20


def _attempts_of_root(world: World) -> int:
    (done,) = [fact for fact in world.told(world.run_ids[0], StepCompleted) if fact.agent == "root"]
    return int(done.attempts)


def _without_first_order(found: Counter[tuple[Any, ...]]) -> Counter[tuple[Any, ...]]:
    """Leave out what the root emits at its first attempt only."""
    return Counter({told: count for told, count in found.items() if 1 not in told[2:3]})


@pytest.mark.parametrize("append", range(1, 14))
def test_max_events_counts_over_processes(append: int) -> None:
    """The runs of processes that died count: what would be one too many fails its step, wherever the root was killed."""
    world = World()
    survive(world, [Death(append=append)] * 3, 0.0, most=8)
    check(world)
    assert len(world.run_ids) - 1 <= 8
    told = [world.row(run_id) for run_id in world.run_ids]
    mails = sum(world.told(row.run_id, WorkflowCreated)[0].target == "mail" for row in told)
    failed = sum(row.status == "failed" for row in told)
    assert ((1, 1) if _attempts_of_root(world) > 1 else (0, 4)) == (mails, failed)


def test_a_child_of_its_parents_session_does_not_wait_for_it_in_the_next_process_either() -> None:
    """Both were running when the process died, and both run beside each other again."""
    ended: list[str] = []

    def runner_of(world: World) -> Runner:
        async def parent(event: Event, state: Any, ctx: Any) -> AgentResult:
            ctx.emit(Event("child", session_id="s"))
            return AgentResult(route="long")

        async def rest(event: Event, state: Any, ctx: Any) -> None:
            world.note(ctx)
            await asyncio.sleep(50 if ctx.agent == "long" else 20)
            ended.append(ctx.agent)

        return make({"mode": "route"}, {"parent": parent, "long": rest, "child": rest})

    async def main(life: Life) -> Any:
        runner = await life.start(runner_of(life.world))
        await runner.resume()
        handle = await runner.emit(one("parent", id="root", session_id="s"))
        tree = await handle.tree()
        await runner.stop()
        return [result.status for result in tree.values()]

    world = World()
    assert world.process(main, Death(at_s=10)) is None
    assert ["completed"] * 2 == world.process(main)
    assert ["child", "long"] == ended
    assert [] == world.faults


def test_children_wait_for_room_as_their_parent_does() -> None:
    """A store that is full refuses the step and what it has brought forth; both are there when it has room again."""

    async def main(life: Life) -> Any:
        refused = 0

        def full(append: Any) -> BaseException | None:
            nonlocal refused
            if append.also and refused < 3:
                refused += 1
                return StorageFullError("full")
            return None

        life.door.fault = full
        tree = await live(life)
        return len(tree), refused

    world = World()
    assert (11, 3) == world.process(main)
    check(world)


def test_what_cannot_be_written_leaves_no_children_behind() -> None:
    """A step whose commit is refused has brought forth nobody: its children are let go, and the next process makes them."""
    world = World()

    async def refused(life: Life) -> Any:
        life.door.fault = lambda append: StorageError("torn") if append.also else None
        runner = await life.start(family(world))
        handle = await runner.emit(one("root", {"n": 0}, id="root"))
        with pytest.raises(StorageError, match="torn"):
            await handle.result()
        await asyncio.sleep(1)
        assert () == handle.children
        await runner.stop()
        return len(world.run_ids)

    assert 1 == world.process(refused)
    world.process(live)
    check(world)
