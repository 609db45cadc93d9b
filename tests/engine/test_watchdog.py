"""The watchdog: who holds the event loop is named while it does so, once, and a loop that waits is left alone."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentflow import Event, Hook, Runner, State
from agentflow.engine import watchdog
from agentflow.testing import run_virtual

SEQUENCE = {"mode": "sequential", "sequential_agents": ["a"]}
MakeRunner = Callable[..., Runner]


def _until(condition: Callable[[], bool]) -> None:
    """Hold the calling thread until something is so."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


class Watched:
    """A runner whose watchdog looks often, at a clock that goes on when the test says so, and its log."""

    def __init__(self, make_runner: MakeRunner, handler: Any, folder: Path) -> None:
        self.now = 1000.0
        self._log = folder / "log"
        self.runner = make_runner(SEQUENCE, {"a": handler}, logging={"format": "json", "file": str(self._log)})
        self.runner._adapters.clock.monotonic = lambda: self.now  # type: ignore[method-assign] # real time would be as long as it says

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [line for line in map(json.loads, self._log.read_text().splitlines()) if line["event"].startswith("loop_")]

    def block(self, seconds: float, more: float = 0.0) -> None:
        """Hold the loop for so long, and for `more` once the watchdog has told of it."""
        known = len(self.lines)
        _until(lambda: self.runner._watchdog._sign is not None)
        self.now += seconds
        _until(lambda: len(self.lines) > known)
        self.now += more

    async def run(self) -> Any:
        async with self.runner as runner:
            result = await runner.run(Event())
            while runner._watchdog._sign is not None:  # noqa: ASYNC110 - nobody would set an event
                await asyncio.sleep(0.001)
        assert "completed" == result.status
        return result


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the watchdog look often."""
    monkeypatch.setattr(watchdog, "PERIOD_S", 0.002)


@pytest.mark.parametrize("start", [asyncio.run, run_virtual])
def test_a_handler_that_blocks_the_loop_is_named_once(make_runner: MakeRunner, tmp_path: Path, start: Any) -> None:
    """The line has agent, run, position and the handler's stack; a second one says when it was over; both are counted as one block."""

    async def a(event: Event, state: State) -> None:
        await asyncio.sleep(0)
        watched.block(1.5, 2.5)

    watched = Watched(make_runner, a, tmp_path)
    result = start(watched.run())
    blocked, unblocked = watched.lines
    place = {key: blocked[key] for key in ("event", "level", "agent", "run_id", "position", "phase", "seconds")}
    expected = {"event": "loop_blocked", "level": "warning", "agent": "a", "run_id": result.run_id, "position": "0.0", "phase": "attempt"}
    assert {**expected, "seconds": 1.5} == place
    assert "in a\n    watched.block(1.5, 2.5)" in blocked["stack"].split("File ")[1]  # above it nothing of asyncio and agentflow
    assert ("loop_unblocked", 4.0) == (unblocked["event"], unblocked["seconds"])
    told = watched.runner.metrics()["loop"]
    assert {"blocks": 1, "blocked_seconds": 0.0, "longest_seconds": 4.0, "is_ready": True} == told


def test_a_callback_that_blocks_the_loop_is_named(make_runner: MakeRunner, tmp_path: Path) -> None:
    """A hook is named by its phase and the agent it belongs to; each block is told for itself."""
    watched = Watched(make_runner, _quick, tmp_path)

    @watched.runner.on(Hook.BEFORE_AGENT_RUN)
    def slow(args: Any) -> None:
        watched.block(1.5)

    @watched.runner.on(Hook.AFTER_EVENT_HANDLING)
    async def slow_too(args: Any) -> None:
        while watched.runner._watchdog._sign is not None:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)  # until the end of the first one is told
        watched.block(2.5)

    asyncio.run(watched.run())
    first, _, second, _ = watched.lines
    assert ("before", "a", True) == (first["phase"], first["agent"], "in slow\n" in first["stack"])
    assert ("after_event", False, True) == (second["phase"], "agent" in second, "in slow_too\n" in second["stack"])
    assert (2, 2.5) == (watched.runner._watchdog.blocks, watched.runner._watchdog.longest_s)


def test_a_task_of_a_handler_that_blocks_is_shown_by_its_stack(make_runner: MakeRunner, tmp_path: Path) -> None:
    """A task that a handler has made belongs to no step; its stack is shown all the same."""

    async def a(event: Event, state: State) -> None:
        async def part() -> None:
            watched.block(1.5)

        await asyncio.gather(asyncio.sleep(0), part())

    watched = Watched(make_runner, a, tmp_path)
    asyncio.run(watched.run())
    assert "agent" not in watched.lines[0]
    assert "in part\n" in watched.lines[0]["stack"]


def test_a_block_in_which_no_thread_ran_is_told_of_afterwards(
    make_runner: MakeRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While C code holds Python's lock the watchdog cannot look either: it says that, and how long it was, when it is over."""
    monkeypatch.setattr(watchdog, "PERIOD_S", 0.1)

    async def a(event: Event, state: State) -> None:
        _until(lambda: watched.runner._watchdog._sign is not None)
        watched.now += 3  # the loop goes on before the watchdog looks again

    watched = Watched(make_runner, a, tmp_path)
    asyncio.run(watched.run())
    blocked, unblocked = watched.lines
    assert "C code held Python's lock" in blocked["detail"]
    assert "agent" not in blocked
    assert (3.0, 3.0) == (blocked["seconds"], unblocked["seconds"])


def test_a_loop_that_is_blocked_for_long_is_not_ready(make_runner: MakeRunner, tmp_path: Path) -> None:
    """After 30 s of a block the runner is not ready, as another thread can see, and it is again when it is over."""
    seen: list[tuple[float, bool]] = []

    async def a(event: Event, state: State) -> None:
        for seconds in (0.9, 1.1, 28.0, 0.5):
            if seconds == 1.1:
                watched.block(seconds)
            else:
                _until(lambda: watched.runner._watchdog._sign is not None)
                watched.now += seconds
            seen.append((round(watched.runner._watchdog.blocked_s, 3), watched.runner._watchdog.is_ready))

    watched = Watched(make_runner, a, tmp_path)
    asyncio.run(watched.run())
    assert [(0.0, True), (2.0, True), (30.0, True), (30.5, False)] == seen
    assert watched.runner._watchdog.is_ready


def test_a_loop_that_waits_is_left_alone(make_runner: MakeRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While handlers wait, and while no run is open, the watchdog does not wake the loop."""
    asked: list[Any] = []
    made = watchdog._Sign.__init__

    def counted(sign: Any, now: Any) -> None:
        asked.append(sign)
        made(sign, now)

    monkeypatch.setattr(watchdog._Sign, "__init__", counted)

    async def a(event: Event, state: State) -> None:
        for _ in range(10):
            await asyncio.sleep(0.01)

    watched = Watched(make_runner, a, tmp_path)
    asyncio.run(watched.run())
    assert 4 > len(asked)  # those that fell into a moment in which the loop ran, of some fifty
    assert [] == watched.lines


def _watchers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "agentflow-watchdog"}


@pytest.mark.parametrize("is_stopped", [True, False])
def test_the_watchdog_ends_with_its_runner_or_its_loop(make_runner: MakeRunner, is_stopped: bool) -> None:
    """Its thread ends when the runner stops, and when the loop is closed under a runner that nobody stopped."""
    before = _watchers()

    async def main() -> set[threading.Thread]:
        runner = make_runner(SEQUENCE, {"a": _quick})
        await runner.start()
        await runner.run(Event())
        began = _watchers() - before
        if is_stopped:
            await runner.stop()
        return began

    began = asyncio.run(main())
    assert 1 == len(began)
    _until(lambda: not began & _watchers())


async def _quick(event: Event, state: State) -> None:
    pass
