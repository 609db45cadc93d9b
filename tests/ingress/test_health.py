"""How a runner does: `runner.health()`, what readiness makes of it, and what its process tells others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentflow import Event, Runner
from agentflow.config.journal import JournalChoice
from agentflow.engine import health as health_module
from agentflow.engine.health import STATUS
from agentflow.errors import RunnerStateError, StorageError
from agentflow.stores.memory import MemoryStore
from agentflow.stores.sqlite import SqliteStore
from tests.ingress.conftest import Serve, configured

Handler = Callable[..., Any]


def _runner(folder: Path, **handlers: Handler) -> Runner:
    runner = Runner.from_dict(configured(folder, handlers), environ={})
    for name, handler in handlers.items():
        runner.register_agent(name, handler)
    return runner


async def quick(event: Any, state: Any) -> dict[str, bool]:
    """Answer at once."""
    return {"done": True}


async def test_health_counts_what_goes_on_and_what_waits(tmp_path: Path) -> None:
    """A run that goes on is in flight, one behind it in its session waits; the journal has just taken a write."""
    go = asyncio.Event()

    async def slow(event: Any, state: Any) -> None:
        await go.wait()

    runner = _runner(tmp_path, slow=slow)
    with pytest.raises(RunnerStateError):
        await runner.health()
    async with runner:
        handles = [await runner.emit(Event("slow", session_id="one")) for _ in range(2)]
        await asyncio.sleep(0)
        told = (await runner.health()).to_dict()
        go.set()
        for handle in handles:
            await handle.result()
    store = {"url": f"sqlite:{tmp_path}/journal.db", "durability": "full", "is_writable": True, "detail": ""}
    assert {"status": "ok", "reasons": [], "stores": [store], "in_flight": 1, "queue_depth": 1} == told
    assert ("failing", "stopping") == ((await runner.health()).status, (await runner.health()).reasons[0])


async def test_health_is_failing_where_the_journal_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe is a write: a store that still reads and refuses to write is told, with the reason."""
    async with _runner(tmp_path, quick=quick) as runner:

        async def refuse(self: SqliteStore, name: str, owner: str, lease_s: float) -> int:
            raise StorageError("the disk is read-only")

        monkeypatch.setattr(SqliteStore, "hold", refuse)
        health = await runner.health()
    assert ("failing", False) == (health.status, health.stores[0].is_writable)
    assert ("store_unwritable: the disk is read-only",) == health.reasons


async def test_health_answers_though_the_journal_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that hangs makes the runner unhealthy within a bounded time, and whoever asks again starts no second one."""
    monkeypatch.setattr(health_module, "ANSWER_S", 0.05)
    begun = []

    async def hang(self: SqliteStore, name: str, owner: str, lease_s: float) -> int:
        begun.append(name)
        await asyncio.sleep(0.2)
        return 1

    async with _runner(tmp_path, quick=quick) as runner:
        monkeypatch.setattr(SqliteStore, "hold", hang)
        first, second = await asyncio.gather(runner.health(), runner.health())
        assert ("failing", "failing", 1) == (first.status, second.status, len(begun))
        await asyncio.sleep(0.2)
        assert ("ok", 1) == ((await runner.health()).status, len(begun))


async def test_whoever_asks_for_health_all_the_time_makes_one_write_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that needs no token may not be a way to wear out the disk."""
    writes = []
    hold = SqliteStore.hold

    async def counted(self: SqliteStore, name: str, owner: str, lease_s: float) -> int | None:
        writes.append(name)
        return await hold(self, name, owner, lease_s)

    monkeypatch.setattr(SqliteStore, "hold", counted)
    async with _runner(tmp_path, quick=quick) as runner:
        for _ in range(100):
            await runner.health()
        assert 1 == len(writes)
        monkeypatch.setattr(health_module, "LOOK_S", 0.0)
        await runner.health()
        assert 2 == len(writes)


async def test_the_probe_writes_to_every_kind_of_store(tmp_path: Path) -> None:
    """Each probe is a write of its own: the lease that it takes for no time gets a higher epoch."""
    for store in (MemoryStore(), SqliteStore(tmp_path / "journal.db")):
        await store.open()
        assert [1, 2, 3] == [await store.hold("health", "one", 0) for _ in range(3)]
        await store.close()


async def test_a_runner_that_records_nothing_is_healthy_too() -> None:
    """Without a journal there is no store that could fail."""
    runner = Runner.from_dict(
        {"orchestration": {"mode": "sequential", "sequential_agents": ["quick"]}, "agents": {"quick": {}}}, environ={}
    )
    runner.register_agent("quick", quick)
    async with runner:
        health = await runner.health()
    assert ("ok", ()) == (health.status, health.stores)


async def test_an_open_breaker_is_told_and_refuses_no_events(serve: Serve) -> None:
    """What somebody should look at makes the runner degraded, not unready."""

    async def fail(event: Any, state: Any) -> None:
        raise ConnectionError("away")

    async with serve({"fail": fail}, agents={"fail": {"circuit_breaker": {"failure_threshold": 1}}}) as served:
        await served.client.post("/v1/events?wait=5s", json={"target": "fail", "data": {}})
        health = await served.service.runner.health()
        assert ("degraded", ("breaker_open: fail",)) == (health.status, health.reasons)
        assert 200 == (await served.client.get("/readyz")).status_code


async def test_the_service_is_not_ready_while_its_journal_takes_no_write(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer says no more than that: it needs no token."""
    async with serve() as served:
        assert 200 == (await served.client.get("/readyz")).status_code

        async def refuse(self: SqliteStore, name: str, owner: str, lease_s: float) -> int:
            raise StorageError("/somewhere/secret is read-only")

        monkeypatch.setattr(health_module, "LOOK_S", 0.0)
        monkeypatch.setattr(SqliteStore, "hold", refuse)
        answer = await served.client.get("/readyz")
        assert (503, False) == (answer.status_code, "somewhere" in answer.text)
        assert 200 == (await served.client.get("/livez")).status_code


async def test_another_process_is_told_how_the_service_stands(serve: Serve) -> None:
    """The order `status` is answered over the journal's socket; a service that is about to end says so."""
    from agentflow import app

    async with serve() as served:
        choice = JournalChoice(served.folder / "journal.db", "full", 100, 30)
        status = await app.ask_live(choice, {"verb": STATUS})
        served.service.readiness.phase = "draining"
        later = await app.ask_live(choice, {"verb": STATUS})
    assert status is not None
    assert later is not None
    assert (True, "", 0, 0) == (status["is_ready"], status["fault"], status["queue_depth"], status["sessions"])
    assert (False, "draining") == (later["is_ready"], later["fault"])
    assert "ok" == status["health"]["status"]
