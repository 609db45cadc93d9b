"""Seeded bugs: what the other tests of this folder look for is found when it is there."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from agentflow import Runner
from agentflow.core.codec import encode
from agentflow.engine.engine import Engine
from agentflow.stores.memory import MemoryStore
from tests.durability.checker import faults_of
from tests.durability.world import Death, Door, Life, World, make, one


def _runner(world: World) -> Runner:
    async def slow(event: Any, state: Any, ctx: Any) -> dict[str, int]:
        world.note(ctx)
        await asyncio.sleep(1)
        return {ctx.agent: 1}

    return make({"mode": "sequential", "sequential_agents": ["a", "b"]}, {"a": slow, "b": slow})


async def _run(life: Life) -> Any:
    runner = await life.start(_runner(life.world))
    handles = await runner.resume() or [await runner.emit(one("", id="event"))]
    return [await handle.result() for handle in handles]


def _faults(world: World) -> list[str]:
    (run_id,) = world.run_ids
    run = world.store._runs[run_id]
    return faults_of(run.row, run.entries, world.store._plans.get(run.row.plan_hash))


def test_an_attempt_that_does_not_wait_for_its_commit_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that begins before its start is durable is noticed by the handler itself."""

    async def hasten(self: Engine, step: Any) -> None:
        step.gate = None

    monkeypatch.setattr(Engine, "until_written", hasten)
    world.process(_run, commit_s=0.5)
    assert any("before that was durable" in fault for fault in world.faults)


def test_a_step_that_is_done_again_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recovery that reads too little of the journal does a recorded step again, which the handler and the journal tell."""
    read = MemoryStore.entries

    async def forget(self: MemoryStore, run_id: str, start: int = 0, stop: int | None = None) -> Any:
        return (await read(self, run_id, start, stop))[:2]

    world.process(_run, Death(at_s=1.5))
    monkeypatch.setattr(MemoryStore, "entries", forget)
    monkeypatch.setattr(MemoryStore, "_why_refused", lambda self, append: None)
    world.process(_run)
    assert any("called again" in fault for fault in world.faults)
    assert [] != _faults(world)


def test_a_store_that_does_not_fence_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two owners may write at once, the journal that comes of it is refused by the checker."""
    monkeypatch.setattr(MemoryStore, "_why_refused", lambda self, append: None)

    async def main(life: Life) -> None:
        first, second = await life.start(_runner(world)), await life.start(_runner(world), door=Door(life))
        handle = await first.emit(one())
        await asyncio.sleep(0.5)
        world.store._leases.release(first._engine.journals.owner)  # type: ignore[union-attr] # it did not renew it in time
        (taken,) = await second.resume()
        await asyncio.gather(handle.result(), taken.result())

    world.process(main)
    assert [] != _faults(world)


def test_what_is_wrong_with_a_journal_is_named(world: World) -> None:
    """The checker finds a record that was changed, one that is missing, an end that is, a row that lies, and a second end."""
    world.process(_run)
    run = world.store._runs[world.run_ids[0]]
    entries, row = list(run.entries), run.row
    plan = world.store._plans[row.plan_hash]
    assert [] == faults_of(row, entries, plan)
    changed = [*entries[:2], replace(entries[2], body=entries[2].body.replace(b"1", b"2")), *entries[3:]]
    last = world.facts(row.run_id)[-1]
    twice = [*entries, encode(row.run_id, len(entries), 1, 0.0, last, entries[-1].hash)]
    for told in (changed, entries[:2] + entries[3:], entries[:-1], []):
        assert [] != faults_of(row, told, plan)
    assert [] != faults_of(replace(row, state="failed"), entries, plan)
    with pytest.raises(Exception, match="after the end"):
        faults_of(row, twice, plan)
