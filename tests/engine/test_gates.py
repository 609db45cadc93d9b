"""Gates: rate limit, breaker and pool before an agent's calls, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentflow.config import read
from agentflow.engine.gates import Gate, Gates, Pass
from agentflow.errors import CircuitOpenError, QueueTimeoutError, WorkerPoolError

BREAKER = {"failure_threshold": 3, "reset_seconds": 10, "success_threshold": 2}


def gates_of(agent: dict[str, Any], pool: dict[str, Any] | None = None) -> Gates:
    """Return the gates of a configuration with one agent `a`, on the running loop."""
    config = read({"agents": {"a": agent}, "workers": {} if pool is None else {"a": pool}}, environ={}).config
    assert config is not None
    loop = asyncio.get_running_loop()
    return Gates(config, loop, loop.time)


def now() -> float:
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


async def call(gate: Gate, duration_s: float = 0.0, *, is_ok: bool | None = True) -> float:
    """Make a call that takes so long; return when it began."""
    passed = await gate.enter()
    begun = now()
    await asyncio.sleep(duration_s)
    gate.leave(passed, is_ok=is_ok, duration_s=now() - begun)
    return begun


async def many(number: int, make: Callable[[], Any]) -> list[Any]:
    """Make so many calls at once, and return what each gave or raised."""
    return await asyncio.gather(*(make() for _ in range(number)), return_exceptions=True)


def waiting(gates: Gates) -> list[Any]:
    """Return how many wait at the gate of `a`, and in its pool."""
    return [gates["a"].status()["waiting"], *(pool.figures()["waiting"] for pool in gates.workers.pools.values())]


async def settled() -> None:
    """Let everything go on that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_agents_without_policies_have_no_gate() -> None:
    """Only agents with a rate limit, a breaker or a pool have one."""
    assert not gates_of({"timeout_seconds": 5})
    assert list(gates_of({"circuit_breaker": {}})) == list(gates_of({}, {})) == ["a"]


# --- rate limit ---


async def test_rate_limit_lets_the_burst_through_and_then_its_rate() -> None:
    """Twelve calls at once at rate 5 with a burst of 10: ten begin now, then one every 0.2 s, in the order they came."""
    gate = gates_of({"rate_limit": {"requests_per_second": 5, "burst": 10}})["a"]
    assert [0.0] * 10 + [0.2, 0.4] == pytest.approx(await many(12, lambda: call(gate)))


async def test_queue_timeout_ends_the_wait_for_the_rate_limit() -> None:
    """Who would wait longer than `queue_timeout_seconds` is told so when that time is over; the others are not delayed."""
    gate = gates_of({"rate_limit": {"requests_per_second": 1}, "queue_timeout_seconds": 2.5})["a"]
    found = await many(6, lambda: call(gate))
    assert [0.0, 1.0, 2.0] == pytest.approx(found[:3])
    assert [type(error) for error in found[3:]] == [QueueTimeoutError] * 3
    assert (now(), found[3].code, gate.status()["waiting"]) == (2.5, "queue_timeout", 0)
    assert await call(gate) == pytest.approx(3.0)


async def test_cancelled_waiter_owes_nothing() -> None:
    """Whoever is cancelled in the line takes no token: those behind go when they would have gone without them."""
    gate = gates_of({"rate_limit": {"requests_per_second": 1}})["a"]
    tasks = [asyncio.create_task(call(gate)) for _ in range(5)]
    await settled()
    for task in tasks[1:4]:
        task.cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert (found[0], found[4]) == (0.0, pytest.approx(1.0))
    assert [type(error) for error in found[1:4]] == [asyncio.CancelledError] * 3


async def test_waiter_cancelled_when_its_token_came_gives_it_back() -> None:
    """A call that is cancelled in the very moment it is let through holds neither token nor worker."""
    gates = gates_of({"rate_limit": {"requests_per_second": 1}}, {"count": 1})
    gate = gates["a"]
    first = await gate.enter()
    waiter, behind = asyncio.create_task(call(gate)), asyncio.create_task(call(gate))
    await asyncio.sleep(5)
    gate.leave(first, is_ok=True, duration_s=5.0)  # the worker goes to `waiter`, which has not been told yet
    waiter.cancel()
    assert await behind == 5.0
    assert waiter.cancelled()
    assert [worker.status for worker in gates.workers.status()] == ["idle"]
    assert await call(gate) == 6.0


async def test_waiter_cancelled_before_its_turn_is_passed_over() -> None:
    """A call that was cancelled a moment ago, and has not left the line yet, takes nothing from those behind it."""
    gates = gates_of({}, {"count": 1})
    gate = gates["a"]
    first = await gate.enter()
    waiter, behind = asyncio.create_task(call(gate)), asyncio.create_task(call(gate))
    await asyncio.sleep(5)
    waiter.cancel()
    gate.leave(first, is_ok=True, duration_s=5.0)
    assert await behind == 5.0
    last = await gate.enter()
    waiter = asyncio.create_task(call(gate))
    await asyncio.sleep(1)
    waiter.cancel()
    gate.leave(last, is_ok=True, duration_s=1.0)
    await settled()
    assert (waiting(gates), [worker.status for worker in gates.workers.status()]) == ([0, 0], ["idle"])


async def test_nobody_overtakes() -> None:
    """A call that comes in the moment a token does, before the line has heard of it, goes behind those that wait."""
    gate = gates_of({"rate_limit": {"requests_per_second": 1}})["a"]
    order: list[str] = []

    async def come(name: str, at: float) -> None:
        await asyncio.sleep(at)
        await gate.enter()
        order.append(name)

    await asyncio.gather(come("late", 1.0 - 5e-7), come("first", 0.0), come("second", 0.1))
    assert order == ["first", "second", "late"]


# --- breaker ---


async def opened(gate: Gate) -> None:
    """Let an agent fail until its breaker opens."""
    for _ in range(3):
        await call(gate, is_ok=False)


async def test_breaker_shared_by_fifty_runs_opens_once() -> None:
    """Of 50 calls in flight that all fail, three open it; the others change nothing, and every call from then on is rejected."""
    gates = gates_of({"circuit_breaker": BREAKER})
    gate, seen = gates["a"], []
    gates.watchers.append(lambda *change: seen.append((now(), *change)))
    found = await many(50, lambda: call(gate, 4.0, is_ok=False))
    assert found == [0.0] * 50
    assert seen == [(4.0, "a", "closed", "open")]
    rejected = await many(50, lambda: call(gate))
    assert {type(error) for error in rejected} == {CircuitOpenError}
    assert (rejected[0].code, rejected[0].left_s, now()) == ("circuit_open", 10.0, 4.0)
    with pytest.raises(CircuitOpenError, match=r"`a` is open after 3 failures in a row; one call is let through in 10 s"):
        gate.check()


async def test_half_open_lets_one_of_many_through() -> None:
    """Once its time is over, one of 50 calls is the probe and the others are rejected at once; two probes close it for all."""
    gates = gates_of({"circuit_breaker": BREAKER})
    gate, seen = gates["a"], []
    gates.watchers.append(lambda agent, before, after: seen.append((now(), before, after)))
    await opened(gate)
    await asyncio.sleep(10)
    gate.check()
    for _ in range(2):
        found = await many(50, lambda: call(gate, 1.0))
        assert sum(isinstance(one, float) for one in found) == 1
        assert {type(one) for one in found} == {float, CircuitOpenError}
    assert await many(50, lambda: call(gate)) == [12.0] * 50
    assert seen == [(0.0, "closed", "open"), (10.0, "open", "half_open"), (12.0, "half_open", "closed")]


async def test_probe_that_waits_in_line_is_the_only_one() -> None:
    """A probe that has to wait for its token holds the place of the probe; cancelled there, it gives the place to the next call."""
    gate = gates_of({"circuit_breaker": {**BREAKER, "reset_seconds": 0.5}, "rate_limit": {"requests_per_second": 0.1, "burst": 3}})["a"]
    await opened(gate)
    await asyncio.sleep(1)
    probe = asyncio.create_task(call(gate))
    await settled()
    assert {type(one) for one in await many(10, lambda: call(gate))} == {CircuitOpenError}
    probe.cancel()
    await settled()
    assert await call(gate) == pytest.approx(10.0)


async def test_breaker_that_opens_sends_the_line_away() -> None:
    """Calls that wait for a token or a worker are rejected in the moment the breaker opens, and hold nothing."""
    limit = {"rate_limit": {"requests_per_second": 0.01, "burst": 3}}
    for agent, pool in ((limit, None), ({}, {"count": 3, "max_failures": 1}), ({}, {"count": 3, "max_failures": 9})):
        begun = now()
        gates = gates_of({"circuit_breaker": BREAKER, **agent}, pool)
        gate = gates["a"]
        passes = [await gate.enter() for _ in range(3)]
        tasks = [asyncio.create_task(call(gate)) for _ in range(20)]
        await settled()
        for passed in passes:
            gate.leave(passed, is_ok=False, duration_s=0.0)
        found = await asyncio.gather(*tasks, return_exceptions=True)
        before = 2 if pool is not None and pool["max_failures"] == 9 else 0  # workers that came free before the third failure
        assert [type(one) for one in found] == [float] * before + [CircuitOpenError] * (20 - before)
        assert now() == begun
        assert {worker.status for worker in gates.workers.status()} <= {"idle", "failed"}
        assert set(waiting(gates)) == {0}


async def test_leave_counts_once() -> None:
    """A late waker that leaves a second time releases nothing and counts nothing."""
    gates = gates_of({"circuit_breaker": BREAKER}, {"count": 1})
    gate = gates["a"]
    passed = await gate.enter()
    gate.leave(passed, is_ok=True, duration_s=1.0)
    other = await gate.enter()
    for _ in range(5):
        gate.leave(passed, is_ok=False, duration_s=1.0)
    assert gate.status()["breaker"] == {"state": "closed", "failures": 0, "left_s": 0.0}
    (worker,) = gates.workers.status()
    assert (worker.status, worker.completed_tasks, worker.failed_tasks) == ("busy", 1, 0)
    gate.leave(other, is_ok=True, duration_s=1.0)


async def test_watcher_that_raises_disturbs_nobody() -> None:
    """Whoever watches the breakers may raise; the calls go on, and the next watcher is told."""
    gates, seen = gates_of({"circuit_breaker": BREAKER}), []
    gates.watchers += [lambda *_: 1 / 0, lambda agent, before, after: seen.append(after)]
    await opened(gates["a"])
    assert seen == ["open"]


# --- pool ---


async def test_pool_bounds_the_calls_of_all_runs() -> None:
    """With two workers, five calls of a second each begin two at a time, first come, first served."""
    gate = gates_of({}, {"count": 2})["a"]
    assert await many(5, lambda: call(gate, 1.0)) == [0.0, 0.0, 1.0, 1.0, 2.0]


async def test_token_and_worker_are_taken_together() -> None:
    """A call that waits for a worker holds no token: when workers come free at once, the rate still holds."""
    gate = gates_of({"rate_limit": {"requests_per_second": 1, "burst": 2}}, {"count": 4})["a"]
    passes = [await gate.enter() for _ in range(2)]
    await asyncio.sleep(2)
    passes += [await gate.enter() for _ in range(2)]
    waiting = [asyncio.create_task(call(gate)) for _ in range(4)]
    await asyncio.sleep(8)
    for passed in passes:
        gate.leave(passed, is_ok=True, duration_s=1.0)
    assert [10.0, 10.0, 11.0, 12.0] == pytest.approx(await asyncio.gather(*waiting))


async def test_queue_timeout_ends_the_wait_for_a_worker() -> None:
    """A call that got no worker in time is told how many there are and what they do."""
    gates = gates_of({"queue_timeout_seconds": 3}, {"count": 2})
    gate = gates["a"]
    calls = asyncio.create_task(many(3, lambda: call(gate, 5.0)))
    await asyncio.sleep(2)
    assert waiting(gates) == [1, 1]
    await asyncio.sleep(2)
    assert waiting(gates) == [0, 0]
    found = await calls
    assert (type(found[2]), found[2].available, found[2].required, found[2].code) == (WorkerPoolError, 0, 1, "worker_pool")
    assert str(found[2]) == "no worker of `a` came free within 3 s: 2 busy; raise `max` in [workers.a]"


async def test_thousand_calls_never_over_lease() -> None:
    """Of 1,000 concurrent calls no more than `max` have a worker at any time, whoever is cancelled or times out; all end."""
    gates = gates_of({"queue_timeout_seconds": 60}, {"count": 2, "max": 7, "idle_drain_seconds": 5})
    gate, inside, most = gates["a"], 0, 0

    async def one(number: int) -> str:
        nonlocal inside, most
        passed = await gate.enter()
        inside += 1
        most = max(most, inside)
        try:
            await asyncio.sleep(0.1 * (number % 7))
        finally:
            inside -= 1
            gate.leave(passed, is_ok=number % 3 > 0, duration_s=0.1)
        return "done"

    tasks = [asyncio.create_task(one(number)) for number in range(1000)]
    for number in range(0, 1000, 9):
        asyncio.get_running_loop().call_later(number * 0.03, tasks[number].cancel)
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert (most, inside, gate.status()["waiting"]) == (7, 0, 0)
    assert found.count("done") > 300
    assert {type(one) for one in found} <= {str, asyncio.CancelledError, WorkerPoolError}
    await asyncio.sleep(20)
    assert [worker.status for worker in gates.workers.status()] == ["idle", "idle"]


async def test_pass_of_a_cancelled_call_says_nothing_of_its_agent() -> None:
    """A call that ended from outside neither opens the breaker nor makes its worker fail; it counts as a failed task."""
    gates = gates_of({"circuit_breaker": BREAKER}, {"count": 1, "max_failures": 2})
    for _ in range(9):
        await call(gates["a"], is_ok=None)
    assert gates.status()["a"]["breaker"] == {"state": "closed", "failures": 0, "left_s": 0.0}
    (worker,) = gates.workers.status()
    assert (worker.status, worker.failed_tasks) == ("idle", 9)


async def test_gate_gives_passes_to_none_but_its_callers() -> None:
    """What `enter` gives belongs to one call: no two have the same worker."""
    gate = gates_of({}, {"count": 50})["a"]
    passes: list[Pass] = await many(50, gate.enter)
    assert len({passed.worker.worker_id for passed in passes if passed.worker}) == 50
