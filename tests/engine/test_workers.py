"""Worker pools: spawning, leasing, failing and draining, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentflow import Event, Runner
from agentflow.engine import pool
from agentflow.engine.workers import Workers
from agentflow.errors import RegistrationError, RunnerStateError, WorkerPoolError

MakeRunner = Callable[..., Runner]


def statuses(workers: Workers) -> dict[str, str]:
    """Return each worker's status by its id."""
    return {worker.worker_id: worker.status for worker in workers.status()}


@pytest.fixture
def make_pool(make_runner: MakeRunner) -> Callable[..., Runner]:
    """Make a runner with one agent `a`, and a pool of its name when keys of one are given."""

    def make(**pool: Any) -> Runner:
        sections = {"workers": {"a": pool}} if pool else {}
        return make_runner({"mode": "sequential", "sequential_agents": ["a"]}, {"a": lambda event, state: None}, **sections)

    return make


async def work(workers: Workers, seconds: float = 0.0, *, error: Exception | None = None) -> str:
    """Lease a worker for so long; return its id."""
    async with workers.lease("a") as worker:
        await asyncio.sleep(seconds)
        if error is not None:
            raise error
        return worker.worker_id


async def failing(workers: Workers, times: int) -> None:
    """Let so many tasks fail, one after another."""
    for _ in range(times):
        with pytest.raises(ValueError, match="no"):
            await work(workers, error=ValueError("no"))


async def test_spawned_workers_are_idle_with_zero_counters(make_pool: Callable[..., Runner]) -> None:
    """Workers keep the specialty they were spawned with, are idle, and have done nothing."""
    async with make_pool() as runner:
        spawned = [runner.workers.spawn("data-processing"), runner.workers.spawn("resize")]
        assert tuple(spawned) == runner.workers.status()
        assert spawned[0].to_dict() == {
            "worker_id": "data-processing-1",
            "specialty": "data-processing",
            "status": "idle",
            "completed_tasks": 0,
            "failed_tasks": 0,
            "avg_latency_ms": 0.0,
        }


async def test_configured_pool_is_there_from_the_start(make_pool: Callable[..., Runner]) -> None:
    """`count` workers are idle when the runner has started; before that there are none to ask for."""
    runner = make_pool(count=3)
    with pytest.raises(RunnerStateError, match="when the runner has started"):
        _ = runner.workers
    async with runner:
        assert statuses(runner.workers) == {"a-1": "idle", "a-2": "idle", "a-3": "idle"}


async def test_latency_is_the_mean_of_all_tasks(make_pool: Callable[..., Runner]) -> None:
    """A task of 100 ms that did well and one of 300 ms that failed make 200 ms, one completed and one failed."""
    async with make_pool(count=1) as runner:
        await work(runner.workers, 0.1)
        with pytest.raises(ValueError, match="no"):
            await work(runner.workers, 0.3, error=ValueError("no"))
        (worker,) = runner.workers.status()
        assert (worker.completed_tasks, worker.failed_tasks, worker.avg_latency_ms) == (1, 1, 200.0)


async def test_pool_grows_while_calls_wait_and_shrinks_when_it_rests(make_pool: Callable[..., Runner]) -> None:
    """Up to `max` workers are added for calls that would wait; those beyond `count` go after `idle_drain_seconds` of rest."""
    async with make_pool(count=1, max=3, idle_drain_seconds=10) as runner:
        workers = runner.workers
        assert len(set(await asyncio.gather(*(work(workers, 1.0) for _ in range(9))))) == 3
        await asyncio.sleep(9.9)
        assert len(workers.status()) == 3
        await work(workers)  # whoever works is not idle
        await asyncio.sleep(0.2)
        assert len(workers.status()) == 1


async def test_worker_in_use_keeps_from_being_drained(make_pool: Callable[..., Runner]) -> None:
    """A pool that is used all the time keeps what it uses: rest is counted from the end of the last task."""
    async with make_pool(count=1, max=2, idle_drain_seconds=10) as runner:
        for _ in range(20):
            await asyncio.gather(work(runner.workers, 4.0), work(runner.workers, 4.0))
            await asyncio.sleep(4.0)
        assert len(runner.workers.status()) == 2
        assert sum(worker.completed_tasks for worker in runner.workers.status()) == 40


async def test_worker_fails_after_failures_in_a_row(make_pool: Callable[..., Runner]) -> None:
    """`max_failures` failures in a row make a worker `failed`: it gets no lease, and a fresh one has its place later."""
    async with make_pool(count=1, max=1, max_failures=2, idle_drain_seconds=10) as runner:
        workers = runner.workers
        await failing(workers, 1)
        await work(workers)
        await failing(workers, 1)
        assert statuses(workers) == {"a-1": "idle"}
        await failing(workers, 1)
        assert statuses(workers) == {"a-1": "failed"}
        begun = asyncio.get_running_loop().time()
        assert await work(workers) == "a-2"
        assert (asyncio.get_running_loop().time() - begun, statuses(workers)) == (10.0, {"a-2": "idle"})


async def test_failed_worker_is_replaced_at_once_where_there_is_room(make_pool: Callable[..., Runner]) -> None:
    """Below `max` a call that would wait gets a fresh worker at once; a failed one counts until it has rested."""
    async with make_pool(count=1, max=2, max_failures=1, idle_drain_seconds=10) as runner:
        workers = runner.workers
        await failing(workers, 1)
        assert await work(workers) == "a-2"
        await failing(workers, 1)
        assert statuses(workers) == {"a-1": "failed", "a-2": "failed"}
        with pytest.raises(WorkerPoolError, match=r"no worker of `a` came free within 1 s: 2 failed"):
            async with workers.lease("a", timeout_s=1):
                pass
        await asyncio.sleep(20)
        assert statuses(workers) == {"a-3": "idle"}


async def test_all_who_wait_are_served_when_failed_workers_have_rested(make_pool: Callable[..., Runner]) -> None:
    """When failed workers go, those who wait get fresh ones up to `max`, not only as many as are kept."""
    async with make_pool(count=1, max=3, max_failures=1, idle_drain_seconds=10) as runner:
        errors = (work(runner.workers, 1.0, error=ValueError("no")) for _ in range(3))
        await asyncio.gather(*errors, return_exceptions=True)
        assert await asyncio.gather(*(work(runner.workers, 1.0) for _ in range(3))) == ["a-4", "a-5", "a-6"]
        assert asyncio.get_running_loop().time() == pytest.approx(12.0)


async def test_drained_worker_is_not_kept(make_pool: Callable[..., Runner]) -> None:
    """Draining lowers what the pool keeps: nothing but calls brings the worker back."""
    async with make_pool(count=3, max_failures=1, idle_drain_seconds=10) as runner:
        workers = runner.workers
        task = asyncio.create_task(work(workers, 1.0))
        await asyncio.sleep(0.5)
        workers.drain(next(name for name, status in statuses(workers).items() if status == "busy"))
        await task
        await failing(workers, 1)
        await asyncio.sleep(100)
        assert list(statuses(workers).values()) == ["idle", "idle"]


async def test_drained_worker_finishes_and_goes(make_pool: Callable[..., Runner]) -> None:
    """An idle worker goes at once; a busy one finishes first and is given to nobody; for calls that wait there are new ones."""
    async with make_pool(count=2) as runner:
        workers = runner.workers
        task = asyncio.create_task(work(workers, 5.0))
        await asyncio.sleep(1)
        busy, idle = sorted(statuses(workers), key=statuses(workers).get)  # type: ignore[arg-type]
        assert (workers.drain(busy), workers.drain(idle), workers.drain("a-99")) == (True, True, False)
        assert statuses(workers) == {busy: "draining"}
        assert await work(workers) == "a-3"
        await task
        assert statuses(workers) == {"a-3": "idle"}
        await asyncio.sleep(500)
        assert statuses(workers) == {}


async def test_drain_during_a_failure_leaves_nothing(make_pool: Callable[..., Runner]) -> None:
    """A draining worker whose last task fails goes like any other; a failed one that is drained goes at once."""
    async with make_pool(count=2, max_failures=1) as runner:
        workers = runner.workers
        task = asyncio.create_task(work(workers, 1.0, error=ValueError("no")))
        await asyncio.sleep(0.5)
        workers.drain(next(name for name, status in statuses(workers).items() if status == "busy"))
        with pytest.raises(ValueError, match="no"):
            await task
        assert len(statuses(workers)) == 1
        await failing(workers, 1)
        assert [workers.drain(worker_id) for worker_id in statuses(workers)] == [True]
        await asyncio.sleep(500)
        assert statuses(workers) == {}
        assert await work(workers) == "a-3"


async def test_spawned_pool_has_what_was_spawned_and_no_more(make_pool: Callable[..., Runner]) -> None:
    """Without a table a pool neither grows nor shrinks by itself, and replaces what failed; drained to nothing, it says so."""
    async with make_pool() as runner:
        workers = runner.workers
        with pytest.raises(WorkerPoolError, match="there are no workers for `a`"):
            await work(workers)
        workers.spawn("a")
        assert await asyncio.gather(*(work(workers, 1.0) for _ in range(3))) == ["a-1"] * 3
        await failing(workers, 3)
        await asyncio.sleep(130)
        assert statuses(workers) == {"a-2": "idle"}
        busy, waiting = asyncio.create_task(work(workers, 5.0)), asyncio.create_task(work(workers))
        await asyncio.sleep(1)
        workers.drain("a-2")
        assert await busy == "a-2"
        with pytest.raises(WorkerPoolError, match="`a` has no workers") as told:
            await waiting
        assert (told.value.available, told.value.required) == (0, 1)
        with pytest.raises(WorkerPoolError, match="`a` has no workers"):
            await work(workers)


async def test_spawned_worker_goes_to_whoever_waits_and_stays(make_pool: Callable[..., Runner]) -> None:
    """`spawn` adds a worker beyond `max` too: a call that waits has it at once, and it is not drained for rest."""
    async with make_pool(count=1, idle_drain_seconds=10) as runner:
        tasks = [asyncio.create_task(work(runner.workers, 1.0)) for _ in range(2)]
        await asyncio.sleep(0.5)
        assert runner.workers.spawn("a").status == "busy"
        assert await asyncio.gather(*tasks) == ["a-1", "a-2"]
        assert asyncio.get_running_loop().time() == pytest.approx(1.5)
        await asyncio.sleep(100)
        assert list(statuses(runner.workers).values()) == ["idle", "idle"]


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, None])
async def test_specialty_needs_a_name(make_pool: Callable[..., Runner], name: Any) -> None:
    """What the configuration could not name is refused."""
    async with make_pool() as runner:
        with pytest.raises(RegistrationError, match="is no name of a specialty"):
            runner.workers.spawn(name)


async def test_lease_cancelled_while_it_waits_takes_nobodys_worker(make_pool: Callable[..., Runner]) -> None:
    """Cancelled in the line, or in the moment its worker came, a lease leaves the worker to the next."""
    async with make_pool(count=1) as runner:
        workers = runner.workers
        async with workers.lease("a"):
            tasks = [asyncio.create_task(work(workers)) for _ in range(4)]
            await asyncio.sleep(1)
            tasks[1].cancel()
            await asyncio.sleep(1)
        tasks[0].cancel()  # its worker is on its way
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in found] == [asyncio.CancelledError] * 2 + [str] * 2
        async with workers.lease("a"):
            tasks = [asyncio.create_task(work(workers)) for _ in range(2)]
            await asyncio.sleep(1)
            tasks[0].cancel()  # and is still in the line when the worker comes free
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in found] == [asyncio.CancelledError, str]
        assert statuses(workers) == {"a-1": "idle"}


async def test_thousand_leases_never_over_lease(make_pool: Callable[..., Runner]) -> None:
    """1,000 concurrent leases of four workers: never more than four at once, none twice, each ends."""
    async with make_pool(count=2, max=4) as runner:
        held: set[str] = set()
        most = 0

        async def one() -> None:
            nonlocal most
            async with runner.workers.lease("a") as worker:
                assert worker.worker_id not in held
                held.add(worker.worker_id)
                most = max(most, len(held))
                await asyncio.sleep(0.01)
                held.remove(worker.worker_id)

        await asyncio.gather(*(one() for _ in range(1000)))
        assert (most, sum(worker.completed_tasks for worker in runner.workers.status())) == (4, 1000)


async def test_calls_of_an_agent_lease_its_workers(make_runner: MakeRunner) -> None:
    """Steps of the agent that a pool is named after lease a worker each, over all runs; other agents lease none."""
    inside, most = 0, 0

    async def handler(event: Event, state: Any) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(1)
        inside -= 1

    async def other(event: Event, state: Any) -> None:
        pass

    flow = {"mode": "sequential", "sequential_agents": ["a", "b"]}
    async with make_runner(flow, {"a": handler, "b": other}, workers={"a": {"count": 3}}) as runner:
        results = await asyncio.gather(*(runner.run(Event()) for _ in range(9)))
        assert ({result.status for result in results}, most) == ({"completed"}, 3)
        assert sum(worker.completed_tasks for worker in runner.workers.status()) == 9
        assert {worker.avg_latency_ms for worker in runner.workers.status()} == {1000.0}


async def test_workers_are_bounded(make_pool: Callable[..., Runner], monkeypatch: pytest.MonkeyPatch) -> None:
    """A specialty has 10,000 workers at most; one more is refused, and says how many are idle."""
    assert pool.MOST_WORKERS == 10_000
    monkeypatch.setattr(pool, "MOST_WORKERS", 3)
    async with make_pool(count=2) as runner:
        runner.workers.spawn("a")
        with pytest.raises(WorkerPoolError, match="`a` has 3 workers, and cannot have more; drain those") as told:
            runner.workers.spawn("a")
        assert told.value.available == 3
