"""Hard handlers: what swallows its cancellation, raises what is no error or leaves things behind, in each phase of a step."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agentflow import Event, Hook, Runner, State
from agentflow.agents import process
from agentflow.testing import run_virtual

LIMIT_S, GRACE_S, LAST_S = 1.0, 10.0, 5.0
STEP_S = 0.25  # what each other step takes


@dataclass
class World:
    """What the handlers of one test share with it."""

    release: asyncio.Event
    gate: threading.Event = field(default_factory=threading.Event)
    leaked: list[asyncio.Task[Any]] = field(default_factory=list)


Bad = Callable[[World, State], Awaitable[Any]]


async def swallow_once(world: World, state: State) -> Any:
    try:
        await asyncio.sleep(999)
    except asyncio.CancelledError:
        state["late"] = 1


async def swallow_always(world: World, state: State) -> Any:
    while not world.release.is_set():
        try:
            await world.release.wait()
        except asyncio.CancelledError:
            state["late"] = 1


async def slow_finally(world: World, state: State) -> Any:
    try:
        await asyncio.sleep(999)
    finally:
        await asyncio.sleep(4)
        state["late"] = 1


async def shield(world: World, state: State) -> Any:
    await asyncio.shield(asyncio.ensure_future(asyncio.sleep(50)))


async def wait_in_thread(world: World, state: State) -> Any:
    await asyncio.to_thread(world.gate.wait)


async def sleep_in_c(world: World, state: State) -> Any:
    await asyncio.gather(asyncio.to_thread(time.sleep, 0.02), asyncio.sleep(999))


async def nested_group(world: World, state: State) -> Any:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(999))
        async with asyncio.TaskGroup() as inner:
            inner.create_task(swallow_once(world, state))
            await asyncio.sleep(999)


async def raise_exit(world: World, state: State) -> Any:
    raise SystemExit(3)


async def raise_interrupt(world: World, state: State) -> Any:
    raise KeyboardInterrupt


async def raise_generator_exit(world: World, state: State) -> Any:
    raise GeneratorExit


async def recurse(world: World, state: State) -> Any:
    def deeper() -> int:
        return deeper() + 1

    return deeper()


class UnprintableError(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise SystemExit("no text")

    __repr__ = __str__


async def raise_unprintable(world: World, state: State) -> Any:
    raise UnprintableError


async def return_late(world: World, state: State) -> Any:
    try:
        await asyncio.sleep(999)
    except asyncio.CancelledError:
        await asyncio.sleep(3)
        state["late"] = 1
        return State({"late": 2})


async def leak_tasks(world: World, state: State) -> Any:
    async def stay() -> None:
        await world.release.wait()
        state["late"] = 1

    world.leaked += [asyncio.create_task(stay()) for _ in range(3)]
    await asyncio.sleep(999)


# Each handler with the seconds it takes to end after its cancellation (None: it does not end), or what it raises at once.
HANDLERS: dict[Bad, float | str | None] = {
    swallow_once: 0.0,
    swallow_always: None,
    slow_finally: 4.0,
    shield: 0.0,
    wait_in_thread: 0.0,
    sleep_in_c: 0.0,
    nested_group: 0.0,
    raise_exit: "SystemExit",
    raise_interrupt: "KeyboardInterrupt",
    raise_generator_exit: "GeneratorExit",
    recurse: "RecursionError",
    raise_unprintable: "UnprintableError",
    return_late: 3.0,
    leak_tasks: 0.0,
}


@dataclass(frozen=True)
class Phase:
    """Where a bad handler stands: the flow around it, what its step did before, and whether the step fails by it."""

    flow: Mapping[str, Any]
    before_s: float
    fails: bool = True


RETRY = {"max_retries": 1, "initial_delay_seconds": 2.0, "jitter": False}
ALONE = {"mode": "sequential", "sequential_agents": ["bad"]}
PHASES = {
    "first attempt": Phase(ALONE, 0.0),
    "retry": Phase({**ALONE, "retry": RETRY}, 2.0),
    "fallback": Phase({"mode": "sequential", "sequential_agents": ["first"]}, 0.0),
    "second step": Phase({"mode": "sequential", "sequential_agents": ["good", "bad"]}, STEP_S),
    "before hook": Phase(ALONE, 0.0),
    "after hook": Phase(ALONE, STEP_S, fails=False),
    "error hook": Phase(ALONE, 0.0),
}


def _runner(world: World, bad: Bad, phase: str) -> Runner:
    tables = {"bad": {"timeout_seconds": LIMIT_S}, "good": {}, "first": {"fallback": ["bad"]}}
    runner = Runner.from_dict({"orchestration": dict(PHASES[phase].flow), "flows": FINE, "agents": tables}, environ={})

    @runner.agent("good")
    async def good(event: Event, state: State) -> Any:
        await asyncio.sleep(STEP_S)
        return {"good": True}

    @runner.agent("first")
    async def first(event: Event, state: State) -> Any:
        raise ValueError("first")

    @runner.agent("bad")
    async def handler(event: Event, state: State, ctx: Any) -> Any:
        if phase == "after hook":
            return await good(event, state)
        if phase == "error hook" or (phase == "retry" and ctx.attempt == 1):
            raise ValueError("first")
        return await bad(world, state)

    async def callback(args: Any) -> Any:
        return await bad(world, args.state) if args.agent == "bad" else None

    if "hook" in phase:
        hook = {"before hook": Hook.BEFORE_AGENT_RUN, "after hook": Hook.AFTER_AGENT_RUN, "error hook": Hook.AGENT_ERROR}[phase]
        runner.register_callback(hook, "bad", callback)
    return runner


FINE = {"fine": {"mode": "sequential", "sequential_agents": ["good", "good"]}}


async def _told(bad: Bad, phase: str) -> dict[str, Any]:
    """Run the bad handler beside good ones, and return the result as it was when it came and long after."""
    world = World(asyncio.Event())
    runner = _runner(world, bad, phase)
    await runner.start()
    other = Event(metadata={"orchestration_override": "fine"})
    beside = await runner.emit(other)
    result = await runner.run(Event())
    told = {**result.to_dict(), "ended": asyncio.get_running_loop().time()}
    assert "completed" == (await beside.result()).status
    assert "completed" == (await runner.run(other)).status
    world.gate.set()
    world.release.set()
    await asyncio.sleep(100)
    assert told == {**result.to_dict(), "ended": told["ended"]}  # whatever the handler did later, nothing of it came in
    assert () == (await runner.stop()).abandoned
    assert runner._engine is not None
    assert not runner._engine.runs
    return told


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("bad", HANDLERS, ids=lambda bad: bad.__name__)
def test_a_hard_handler_costs_its_step_the_stated_time_and_nothing_more(bad: Bad, phase: str) -> None:
    """In each phase the step moves on within its limit, the grace and 5 s, fails as it should, and disturbs nobody else."""
    told = run_virtual(_told(bad, phase))
    gc.collect()
    takes, where = HANDLERS[bad], PHASES[phase]
    busy_s = 0.0 if isinstance(takes, str) else LIMIT_S + (GRACE_S + LAST_S if takes is None else takes)
    assert pytest.approx(where.before_s + busy_s, abs=0.01) == told["ended"]
    assert (["abandoned"] if takes is None else []) == told["flags"]
    if not where.fails:
        assert ("completed", {"good": True}) == (told["status"], told["state"]["data"])
        return
    if isinstance(takes, str):
        assert ("failed", takes) == (told["status"], told["error"]["type"])
    elif phase == "error hook":
        assert ("failed", "ValueError") == (told["status"], told["error"]["type"])  # the step's own failure stands
    else:
        assert ("timed_out", "StepTimeoutError") == (told["status"], told["error"]["type"])
    attempts = {"retry": 2, "fallback": 2, "before hook": 0}.get(phase, 1)
    assert ("first" if phase == "fallback" else "bad", attempts) == (told["error"]["agent"], told["error"]["attempts"])
    assert ({"good": True} if phase == "second step" else {}) == told["state"]["data"]


IN_PROCESS = {"handler": "isolated:hold_at", "isolation": "process", "timeout_seconds": 0.75}
TWICE = {"max_retries": 1, "initial_delay_seconds": 0.001}


@pytest.mark.parametrize(
    ("agents", "attempt", "attempts"),
    [
        pytest.param({"bad": IN_PROCESS}, 1, 1, id="first attempt"),
        pytest.param({"bad": {**IN_PROCESS, "retry": TWICE}}, 2, 2, id="retry"),
        pytest.param({"bad": {**IN_PROCESS, "retry": TWICE}}, 1, 2, id="each attempt"),
        pytest.param({"bad": {"handler": "isolated:hold_at", "fallback": ["second"]}, "second": IN_PROCESS}, 2, 2, id="fallback"),
        pytest.param({"bad": {**IN_PROCESS, "fallback": ["good"]}}, 1, 1, id="before a fallback"),
    ],
)
def test_c_code_that_nothing_reaches_is_killed_in_its_process(
    monkeypatch: pytest.MonkeyPatch, agents: dict[str, Any], attempt: int, attempts: int
) -> None:
    """A handler in C code that holds Python's lock is killed with its process in each phase of a step, and the step moves on at once."""
    monkeypatch.setattr(process, "KILL_AFTER_S", 0.05)
    tables = {**agents, "good": {"handler": "isolated:tell"}}
    folder = str(Path(__file__).resolve().parent.parent / "agents")
    config = {"orchestration": ALONE, "agents": tables, "runner": {"pythonpath": [folder]}}

    async def main() -> tuple[Any, Any]:
        async with Runner.from_dict(config, environ={}) as runner:
            result = await runner.run(Event("", {"attempt": attempt}))
        return result, result.timing.duration_s

    result, duration_s = asyncio.run(main())
    assert () == result.flags
    assert duration_s < GRACE_S / 2
    if "fallback" in agents["bad"] and "isolation" in agents["bad"]:
        assert ("completed", "good") == (result.status, result.state["told"]["agent"])
    else:
        assert ("timed_out", "StepTimeoutError", attempts) == (result.status, result.error.type, result.error.attempts)
