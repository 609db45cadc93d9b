"""Handlers that misbehave when they are interrupted, against each way of interrupting them."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from agentflow import Event, Runner, RunResult, State
from agentflow.testing import run_virtual

GRACE_S, LAST_S = 10.0, 5.0


@dataclass
class World:
    """What the handlers of one test share with it."""

    release: asyncio.Event
    handle: Any = None
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)
    leaked: list[asyncio.Task[Any]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)


Handler = Callable[[World, State], Awaitable[Any]]


async def swallow_once(world: World, state: State) -> Any:
    try:
        await asyncio.sleep(999)
    except asyncio.CancelledError:
        state["late"] = 1
        return {"late": 2}


async def swallow_always(world: World, state: State) -> Any:
    while not world.release.is_set():
        try:
            await world.release.wait()
        except asyncio.CancelledError:
            continue
    return {"late": 2}


async def slow_finally(world: World, state: State) -> Any:
    try:
        await asyncio.sleep(999)
    finally:
        await asyncio.sleep(4)


async def shield(world: World, state: State) -> Any:
    await asyncio.shield(asyncio.sleep(50))


async def cpu_loop(world: World, state: State) -> Any:
    try:
        await asyncio.sleep(999)
    finally:
        end = time.perf_counter() + 0.005
        while time.perf_counter() < end:
            pass


async def sleep_in_c(world: World, state: State) -> Any:
    await asyncio.to_thread(world.gate.wait, 0.05)
    await asyncio.sleep(999)


class Odd(BaseException):
    """No Exception."""


async def base_exception(world: World, state: State) -> Any:
    try:
        await asyncio.sleep(999)
    except asyncio.CancelledError:
        raise Odd from None


async def nested_group(world: World, state: State) -> Any:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(999))
        async with asyncio.timeout(500):
            await asyncio.sleep(999)


async def async_generator(world: World, state: State) -> Any:
    async def numbers() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
                await asyncio.sleep(99)
        finally:
            await asyncio.sleep(0.5)

    async for _ in numbers():
        pass


async def child_process(world: World, state: State) -> Any:
    child = subprocess.Popen(["sleep", "60"])  # noqa: ASYNC220 - it is the child that is of interest, not how it is started
    world.children.append(child)
    try:
        await asyncio.sleep(999)
    finally:
        child.kill()
        child.wait()


async def await_own_run(world: World, state: State) -> Any:
    await asyncio.sleep(0.1)
    return (await world.handle.result()).outputs


async def raise_other(world: World, state: State) -> Any:
    try:
        await asyncio.sleep(999)
    except asyncio.CancelledError:
        raise ValueError("something else") from None


async def return_late(world: World, state: State) -> Any:
    try:
        await asyncio.sleep(999)
    except asyncio.CancelledError:
        await asyncio.sleep(3)
        return {"late": 2}


async def leak_task(world: World, state: State) -> Any:
    world.leaked.append(asyncio.create_task(asyncio.sleep(9999)))
    await asyncio.sleep(999)


# Each handler with the seconds it takes to end after its cancellation; None: it does not end.
HANDLERS: dict[Handler, float | None] = {
    swallow_once: 0,
    swallow_always: None,
    slow_finally: 4,
    shield: 0,
    cpu_loop: 0,
    sleep_in_c: 0,
    base_exception: 0,
    nested_group: 0,
    async_generator: 0,
    child_process: 0,
    await_own_run: 0,
    raise_other: 0,
    return_late: 3,
    leak_task: 0,
}

EXPECTED = {
    "step timeout": ("timed_out", "timeout", "StepTimeoutError"),
    "event timeout": ("timed_out", "timeout", "EventTimeoutError"),
    "cancel": ("cancelled", "cancelled", "CancelledRunError"),
    "stop": ("cancelled", "stopped", "CancelledRunError"),
}


def _runner(world: World, handler: Handler, interruption: str) -> Runner:
    async def bad(event: Event, state: State) -> Any:
        return await handler(world, state)

    async def good(event: Event, state: State) -> Any:
        await asyncio.sleep(0.5)
        return {"good": True}

    bad_table = {"timeout_seconds": 1} if interruption == "step timeout" else {}
    flows = {"limited": {"mode": "sequential", "sequential_agents": ["bad"]}}
    main = {"mode": "sequential", "sequential_agents": ["bad"]}
    if interruption == "event timeout":
        main["timeout_seconds"] = 1
    config = {"orchestration": main, "flows": {**flows, "fine": {"mode": "sequential", "sequential_agents": ["good"]}}}
    runner = Runner.from_dict({**config, "agents": {"bad": bad_table, "good": {}}}, environ={})
    runner.register_agent("bad", bad)
    runner.register_agent("good", good)
    return runner


async def _interrupted(world: World, runner: Runner, interruption: str) -> tuple[RunResult, float]:
    """Run the bad handler beside good ones, interrupt it after a second, and return its result and when it came."""
    other = Event(metadata={"orchestration_override": "fine"})
    await runner.start()
    begun = await runner.emit(other)
    world.handle = handle = await runner.emit(Event())
    stopping = None
    await asyncio.sleep(1)
    if interruption == "cancel":
        handle.cancel()
    elif interruption == "stop":
        stopping = asyncio.create_task(runner.stop(timeout=0.001))
    else:
        assert "completed" == (await runner.run(other)).status  # while the bad one is being interrupted, others go on
    result = await handle.result()
    ended = asyncio.get_running_loop().time()
    assert "completed" == (await begun.result()).status
    if stopping is not None:
        report = await stopping
        assert (handle.run_id,) == report.cancelled
        assert ("abandoned" in result.flags) == bool(report.abandoned)
    return result, ended


async def _told(handler: Handler, interruption: str) -> dict[str, Any]:
    world = World(asyncio.Event())
    runner = _runner(world, handler, interruption)
    result, ended = await _interrupted(world, runner, interruption)
    before = result.to_dict()
    world.gate.set()
    world.release.set()
    await asyncio.sleep(30)
    assert before == result.to_dict()  # whatever the handler did later, nothing of it came in
    await runner.stop()
    engine = runner._engine
    assert engine is not None
    assert not engine.runs
    assert not engine.supervision.abandoned
    for task in world.leaked:
        task.cancel()
    assert all(child.returncode == -9 for child in world.children)
    return {**before, "ended": ended}


@pytest.mark.parametrize("interruption", EXPECTED)
@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: handler.__name__)
def test_an_interrupted_run_ends_in_time(handler: Handler, interruption: str) -> None:
    """Whatever a handler does when interrupted, its run ends within limit + grace + 5 s with the right status, and nothing late counts."""
    told = run_virtual(_told(handler, interruption))
    gc.collect()
    status, reason, kind = EXPECTED[interruption]
    takes = HANDLERS[handler]
    assert (status, reason, kind) == (told["status"], told["reason"], told["error"]["type"])
    assert (["abandoned"] if takes is None else []) == told["flags"]
    assert pytest.approx(1 + (GRACE_S + LAST_S if takes is None else takes), abs=0.52) == told["ended"]
    assert {} == told["state"]["data"]
    assert {} == told["outputs"]
