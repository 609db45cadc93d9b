"""Gates at work: what rate limits, breakers and pools do to runs, on virtual time."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentflow import Event, Runner

MakeRunner = Callable[..., Runner]
SEQUENCE = {"mode": "sequential", "sequential_agents": ["a"]}


class Ailing:
    """A handler that fails while it is ill, and notes when it was called."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.is_ill = True
        self.seconds = seconds
        self.at: list[float] = []

    async def __call__(self, event: Event, state: Any) -> None:
        self.at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.seconds)
        if self.is_ill:
            raise ConnectionError("refused")


async def run_many(runner: Runner, number: int) -> Counter[str]:
    """Run so many events at once; return how often each status, or code of an error, came."""
    results = await asyncio.gather(*(runner.run(Event()) for _ in range(number)))
    return Counter(result.error.code if result.error else result.status for result in results)


async def test_fifty_runs_share_one_breaker(make_runner: MakeRunner) -> None:
    """All runs count into one breaker: 50 at once open it, later ones are not let through, one probe is, and then all are."""
    handler = Ailing(seconds=1.0)
    breaker = {"failure_threshold": 5, "reset_seconds": 30, "success_threshold": 1}
    async with make_runner(SEQUENCE, {"a": handler}, agents={"a": {"circuit_breaker": breaker}}) as runner:
        assert await run_many(runner, 50) == {"ConnectionError": 50}
        assert await run_many(runner, 50) == {"circuit_open": 50}
        assert len(handler.at) == 50
        handler.is_ill = False
        await asyncio.sleep(30)
        assert await run_many(runner, 50) == {"completed": 1, "circuit_open": 49}
        assert await run_many(runner, 50) == {"completed": 50}


async def test_open_breaker_prevents_further_retries(make_runner: MakeRunner) -> None:
    """A step that is retried is not tried again once its agent's breaker is open, and says so."""
    handler = Ailing()
    flow = {**SEQUENCE, "retry": {"max_retries": 10, "initial_delay_seconds": 1, "jitter": False}}
    async with make_runner(flow, {"a": handler}, agents={"a": {"circuit_breaker": {"failure_threshold": 3}}}) as runner:
        result = await runner.run(Event())
        assert (result.error.code, result.error.agent, len(handler.at)) == ("ConnectionError", "a", 3)


async def test_rate_limit_spans_runs_and_retries(make_runner: MakeRunner) -> None:
    """Every attempt of every run takes a token of the one bucket."""
    handler = Ailing()
    flow = {**SEQUENCE, "retry": {"max_retries": 1, "initial_delay_seconds": 0.1, "jitter": False}}
    limit = {"requests_per_second": 2, "burst": 3}
    async with make_runner(flow, {"a": handler}, agents={"a": {"rate_limit": limit}}) as runner:
        await run_many(runner, 4)
    assert [0, 0, 0, 0.5, 1.0, 1.5, 2.0, 2.5] == pytest.approx(handler.at)


async def test_wait_is_no_part_of_the_steps_time(make_runner: MakeRunner) -> None:
    """A step that waits for its turn longer than its `timeout_seconds` still has that time for its work."""
    handler = Ailing(seconds=0.9)
    handler.is_ill = False
    agents = {"a": {"timeout_seconds": 1, "rate_limit": {"requests_per_second": 0.1}}}
    async with make_runner(SEQUENCE, {"a": handler}, agents=agents) as runner:
        assert await run_many(runner, 4) == {"completed": 4}
    assert [0, 10, 20, 30] == pytest.approx(handler.at)


async def test_queue_timeout_fails_the_step(make_runner: MakeRunner) -> None:
    """A step that waits longer than `queue_timeout_seconds` fails with that code, and its agent is not called."""
    handler = Ailing()
    handler.is_ill = False
    agents = {"a": {"queue_timeout_seconds": 1.5, "rate_limit": {"requests_per_second": 1}}}
    async with make_runner(SEQUENCE, {"a": handler}, agents=agents) as runner:
        assert await run_many(runner, 4) == {"completed": 2, "queue_timeout": 2}
    assert len(handler.at) == 2


async def test_cancelled_run_leaves_the_line(make_runner: MakeRunner) -> None:
    """A run that is cancelled while its step waits ends at once, and those behind it go as if it had not been there."""
    handler = Ailing()
    handler.is_ill = False
    async with make_runner(SEQUENCE, {"a": handler}, agents={"a": {"rate_limit": {"requests_per_second": 1}}}) as runner:
        handles = [await runner.emit(Event()) for _ in range(5)]
        await asyncio.sleep(0.5)
        for handle in handles[1:4]:
            await handle.cancel()
            assert (await handle.result()).status == "cancelled"
        assert asyncio.get_running_loop().time() == 0.5
        assert (await handles[4].result()).status == "completed"
    assert [0, 1] == pytest.approx(handler.at)


async def test_abandoned_call_gives_its_worker_back_once(make_runner: MakeRunner) -> None:
    """A handler that does not end gives its worker back when it is left behind; what it does later releases nothing."""
    at: list[float] = []

    async def stubborn(event: Event, state: Any) -> None:
        at.append(asyncio.get_running_loop().time())
        until = asyncio.get_running_loop().time() + 1000
        while asyncio.get_running_loop().time() < until:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                continue

    agents = {"a": {"timeout_seconds": 5}}
    async with make_runner(SEQUENCE, {"a": stubborn}, agents=agents, workers={"a": {"count": 1, "max_failures": 99}}) as runner:
        assert await run_many(runner, 3) == {"timeout": 3}
        (worker,) = runner.workers.status()
        assert (worker.status, worker.completed_tasks, worker.failed_tasks) == ("idle", 0, 3)
        await asyncio.sleep(2000)
        (worker,) = runner.workers.status()
        assert (worker.status, worker.completed_tasks, worker.failed_tasks) == ("idle", 0, 3)
    assert at[1] > at[0] + 5


@pytest.mark.parametrize("jump_s", [3600, -3600])
async def test_wall_clock_that_jumps_changes_no_wait(make_runner: MakeRunner, jump_s: float) -> None:
    """An hour either way on the wall clock neither fills a bucket nor closes a breaker: both go by the monotonic clock."""
    handler = Ailing()
    agents = {"a": {"rate_limit": {"requests_per_second": 1}, "circuit_breaker": {"failure_threshold": 3, "reset_seconds": 30}}}
    async with make_runner(SEQUENCE, {"a": handler}, agents=agents) as runner:
        clock = runner._adapters.clock
        wall = clock.time
        calls = 0

        def jumping() -> float:
            nonlocal calls
            calls += 1
            return wall() + calls * jump_s

        clock.time = jumping
        runner.observe(lambda record: None)  # each record is stamped with the wall clock
        assert await run_many(runner, 3) == {"ConnectionError": 3}
        assert [0, 1, 2] == pytest.approx(handler.at)
        handler.is_ill = False
        await asyncio.sleep(29.9)
        assert await run_many(runner, 1) == {"circuit_open": 1}
        await asyncio.sleep(0.1)
        assert await run_many(runner, 1) == {"completed": 1}
        assert calls > 0


async def test_log_names_each_change_of_a_breaker(make_runner: MakeRunner, tmp_path: Path) -> None:
    """A breaker that opens, is tried and closes writes a line each, with agent and state."""
    handler, file = Ailing(), tmp_path / "log.jsonl"
    breaker = {"failure_threshold": 1, "reset_seconds": 5, "success_threshold": 1}
    logging = {"format": "json", "file": str(file)}
    async with make_runner(SEQUENCE, {"a": handler}, agents={"a": {"circuit_breaker": breaker}}, logging=logging) as runner:
        await runner.run(Event())
        handler.is_ill = False
        await asyncio.sleep(5)
        await runner.run(Event())
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    told = [(line["agent"], line["before"], line["state"]) for line in lines if line["event"] == "circuit_breaker"]
    assert told == [("a", "closed", "open"), ("a", "open", "half_open"), ("a", "half_open", "closed")]


async def test_stop_ends_those_who_wait(make_runner: MakeRunner) -> None:
    """A runner that stops cancels the runs that wait for a gate at once, and leaves nobody in line."""
    handler = Ailing(seconds=1.0)
    handler.is_ill = False
    runner = make_runner(SEQUENCE, {"a": handler}, workers={"a": {"count": 1}})
    await runner.start()
    handles = [await runner.emit(Event()) for _ in range(20)]
    await asyncio.sleep(2.5)
    report = await runner.stop(timeout=0)
    assert (len(report.cancelled), report.abandoned, asyncio.get_running_loop().time()) == (18, (), 2.5)
    assert Counter([(await handle.result()).status for handle in handles]) == {"completed": 2, "cancelled": 18}
    assert [worker.status for worker in runner.workers.status()] == ["idle"]
