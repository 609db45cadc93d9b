"""Events over HTTP: what is acknowledged, when, and what a second sending does (G1, G2, G3, G38)."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

import pytest

from tests.ingress.conftest import Serve


async def test_g1_an_event_is_acknowledged_once_its_record_is_in_the_journal(serve: Serve) -> None:
    """When the 202 is there another reader of the journal's file finds the run."""
    async with serve() as it:
        answer = await it.client.post("/v1/events", json={"data": {"name": "x"}})
        assert 202 == answer.status_code
        told = answer.json()
        assert {"run_id", "event_id", "duplicate"} == told.keys()
        assert told["duplicate"] is False
        assert f"/v1/runs/{told['run_id']}" == answer.headers["location"]
        reader = sqlite3.connect(f"file:{it.folder}/journal.db?mode=ro", uri=True)
        found = reader.execute("SELECT run_id FROM runs WHERE event_id = ?", (told["event_id"],)).fetchall()
        reader.close()
        assert [(told["run_id"],)] == found


async def test_g1_every_acknowledgement_of_a_weaker_journal_says_so(serve: Serve) -> None:
    """With `durability = "relaxed"` a power cut may lose an event, and the 202 tells it."""
    async with serve(journal={"durability": "relaxed"}) as it:
        assert "relaxed" == (await it.client.post("/v1/events", json={})).json()["durability"]


async def test_an_event_that_is_waited_for_is_answered_with_its_result(serve: Serve) -> None:
    """`wait` gives 200 and what `agentflow run --json` prints."""
    async with serve() as it:
        answer = await it.client.post("/v1/events?wait=10s", json={"data": {"name": "x"}})
        told = answer.json()
        assert (200, "completed", {"greeting": "hello x"}) == (answer.status_code, told["status"], told["outputs"]["greet"])
        handle = await it.service.runner.handle(told["run_id"])
        again = (await handle.result()).to_dict()
        assert again.keys() == told.keys()
        assert (again["state"], again["usage"]) == (told["state"], told["usage"])


async def test_who_does_not_wait_long_enough_is_told_that_the_event_is_accepted(serve: Serve) -> None:
    """A result that is not there in time is a 202, and the run goes on."""
    gate = asyncio.Event()

    async def slow(event: Any, state: Any) -> None:
        await gate.wait()

    async with serve({"slow": slow}) as it:
        answer = await it.client.post("/v1/events?wait=50ms", json={})
        assert 202 == answer.status_code
        gate.set()
        handle = await it.service.runner.handle(answer.json()["run_id"])
        assert "completed" == (await handle.result()).status


async def test_a_client_that_goes_away_while_it_waits_ends_no_run(serve: Serve) -> None:
    """The connection is one thing and the run another."""
    gate, begun = asyncio.Event(), asyncio.Event()

    async def slow(event: Any, state: Any) -> dict[str, Any]:
        begun.set()
        await gate.wait()
        return {"done": True}

    async with serve({"slow": slow}) as it:
        waiting = asyncio.create_task(it.client.post("/v1/events?wait=60s", json={"id": "gone"}))
        await begun.wait()
        waiting.cancel()
        gate.set()
        answer = await it.client.post("/v1/events?wait=10s", json={"id": "gone"})
        assert (200, "completed") == (answer.status_code, answer.json()["status"])


@pytest.mark.parametrize("how", ["id", "key"])
async def test_g2_the_same_event_sent_again_has_the_run_that_it_had(serve: Serve, how: str) -> None:
    """Under one id, given in the body or as Idempotency-Key, the same body comes to one run."""
    async with serve() as it:
        body: dict[str, Any] = {"data": {"name": "x"}} | ({"id": "e-1"} if how == "id" else {})
        headers = {} if how == "id" else {"Idempotency-Key": "e-1"}
        first, second = [await it.client.post("/v1/events", json=body, headers=headers) for _ in range(2)]
        assert [202, 202] == [first.status_code, second.status_code]
        assert first.json() | {"duplicate": True} == second.json()
        assert 1 == len((await it.client.get("/v1/runs")).json())


async def test_g2_the_same_event_sent_many_times_at_once_has_one_run(serve: Serve) -> None:
    """Also when the first one is not recorded yet."""
    async with serve() as it:
        answers = await asyncio.gather(*(it.client.post("/v1/events", json={"id": "e-1"}) for _ in range(20)))
        assert {202} == {answer.status_code for answer in answers}
        assert 1 == len({answer.json()["run_id"] for answer in answers})
        assert 19 == sum(answer.json()["duplicate"] for answer in answers)


async def test_g2_another_event_under_a_known_id_is_refused(serve: Serve) -> None:
    """Same id, other body: 409, and nothing is recorded."""
    async with serve() as it:
        await it.client.post("/v1/events", json={"id": "e-1", "data": {"name": "x"}})
        answer = await it.client.post("/v1/events", json={"id": "e-1", "data": {"name": "y"}})
        assert (409, "AF0708") == (answer.status_code, answer.json()["code"])
        assert 1 == len((await it.client.get("/v1/runs")).json())


async def test_two_ids_for_one_event_are_refused(serve: Serve) -> None:
    """A key that is not the body's id leaves open which one was meant."""
    async with serve() as it:
        answer = await it.client.post("/v1/events", json={"id": "a"}, headers={"Idempotency-Key": "b"})
        assert (422, "AF0816") == (answer.status_code, answer.json()["code"])


async def test_g38_a_full_queue_is_answered_at_once(serve: Serve) -> None:
    """429 with Retry-After, without waiting for room; what was accepted before is not touched."""
    gate = asyncio.Event()

    async def slow(event: Any, state: Any) -> None:
        await gate.wait()

    bounds = {"max_running": 1, "queue_size": 1, "queue_wait_seconds": 30}
    async with serve({"slow": slow}, runner=bounds) as it:
        answers = [await asyncio.wait_for(it.client.post("/v1/events", json={}), 5) for _ in range(4)]
        assert [202, 202, 429, 429] == [answer.status_code for answer in answers]
        assert ("AF0502", "1") == (answers[2].json()["code"], answers[2].headers["retry-after"])
        gate.set()
        for answer in answers[:2]:
            handle = await it.service.runner.handle(answer.json()["run_id"])
            assert "completed" == (await handle.result()).status


async def test_a_busy_session_that_rejects_is_a_conflict(serve: Serve) -> None:
    """`on_busy = "reject"`: the second event of an open session is a 409."""
    gate = asyncio.Event()

    async def slow(event: Any, state: Any) -> None:
        await gate.wait()

    async with serve({"slow": slow}, orchestration={"on_busy": "reject"}) as it:
        codes = [(await it.client.post("/v1/events", json={"session_id": "s"})).status_code for _ in range(2)]
        assert [202, 409] == codes
        gate.set()


async def test_an_override_is_not_taken_from_outside(serve: Serve) -> None:
    """Which flow handles an event is the operator's choice."""
    async with serve() as it:
        answer = await it.client.post("/v1/events", json={"metadata": {"orchestration_override": "route"}})
        assert (403, "AF0821") == (answer.status_code, answer.json()["code"])


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"data": []}, "data"),
        ({"data": {}, "typo": 1}, "typo"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"session_id": ""}, "session_id"),
        ({"id": "no spaces"}, "id"),
        ({"target": None}, "target"),
        ({"data": {"a": [1, {"b": 2**63}]}}, "event.data.a[1].b"),
    ],
)
async def test_what_is_no_event_is_refused_and_the_place_named(serve: Serve, body: dict[str, Any], named: str) -> None:
    """422, with every key that is wrong."""
    async with serve() as it:
        answer = await it.client.post("/v1/events", json=body)
        assert 422 == answer.status_code
        assert named in answer.json()["detail"]
        assert [] == (await it.client.get("/v1/runs")).json()


@pytest.mark.parametrize("wait", ["x", "601s", "11m", "-1s", "1h", "", "9999999"])
async def test_a_wait_that_is_none_is_refused(serve: Serve, wait: str) -> None:
    """A time that cannot be waited is an error, and the event is not accepted."""
    async with serve() as it:
        answer = await it.client.post("/v1/events", params={"wait": wait}, json={})
        assert 422 == answer.status_code
        assert [] == (await it.client.get("/v1/runs")).json()
