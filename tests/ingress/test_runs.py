"""Runs over HTTP: lists with cursors that hold, views, records, diagrams, and orders on them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from agentflow import Hook
from tests.ingress.conftest import Serve, Served

HOSTILE = ["' OR 1=1 --", "a; DROP TABLE runs", "%", "_", "\\", '"', "x' UNION SELECT 1 --", "\u202e", "ä"]
ODD_IDS = ["..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "run-1%00", "CON", "a" * 65, "a b", "~", "run-1;x", "'", "*", "run-1%2f..", "."]


async def post(it: Served, **event: Any) -> str:
    """Send an event, wait for its end, and return its run."""
    answer = await it.client.post("/v1/events?wait=10s", json=event)
    assert 200 == answer.status_code, answer.text
    return str(answer.json()["run_id"])


async def test_a_run_is_shown_with_what_the_result_has_and_where_the_rest_is(serve: Serve) -> None:
    """State, outputs, steps, usage and timing, and addresses that answer."""
    async with serve() as it:
        run_id = await post(it, data={"name": "x"}, session_id="s")
        told = (await it.client.get(f"/v1/runs/{run_id}")).json()
        assert ("completed", "completed", run_id) == (told["state_name"], told["status"], told["run_id"])
        assert {"data": {"name": "x", "greeting": "hello x"}, "meta": {}} == told["state"]
        assert {"greet": {"greeting": "hello x"}} == told["outputs"]
        result = (await it.client.post("/v1/events?wait=10s", json={})).json()
        assert result.keys() <= told.keys()
        assert result["timing"].keys() == told["timing"].keys()
        assert ["greet"] == [step["agent"] for step in told["steps"]]
        assert 0 <= told["timing"]["duration_seconds"] < 10
        records = (await it.client.get(told["records_url"])).json()
        assert [*range(len(records))] == [record["seq"] for record in records]
        assert ("WorkflowCreated", "WorkflowCompleted") == (records[0]["type"], records[-1]["type"])
        assert records[2:3] == (await it.client.get(told["records_url"], params={"start": 2, "limit": 1})).json()
        diagram = await it.client.get(told["diagram_url"])
        assert diagram.text.startswith("flowchart TD\n")
        assert "d3f9d8" in diagram.text  # the colour of what is done
        earlier = (await it.client.get(f"/v1/runs/{run_id}?at=0")).json()
        assert ("pending", 0) == (earlier["state_name"], earlier["seq"])


async def test_a_list_is_read_page_by_page_while_more_comes_in(serve: Serve) -> None:
    """Each run stands on one page exactly, whatever is accepted meanwhile."""
    async with serve() as it:
        first = [await post(it, data={"n": n}) for n in range(7)]
        seen: list[str] = []
        address: str | None = "/v1/runs?limit=3"
        while address is not None:
            answer = await it.client.get(address)
            seen += [row["run_id"] for row in answer.json()]
            address = answer.links.get("next", {}).get("url")
            await post(it)
        assert first[::-1] == seen


async def test_a_list_is_filtered(serve: Serve) -> None:
    """By state, status, session, mode and time; the cursor keeps the filter."""

    async def picky(event: Any, state: Any) -> None:
        if event.data.get("fail"):
            raise ValueError("no")

    async with serve({"picky": picky}) as it:
        good = [await post(it, session_id="s") for _ in range(3)]
        bad = await post(it, data={"fail": True})

        async def found(**asked: Any) -> list[str]:
            return [row["run_id"] for row in (await it.client.get("/v1/runs", params=asked)).json()]

        assert [bad] == await found(state="failed")
        assert good[::-1] == await found(status="completed")
        assert good[::-1] == await found(session="s")
        assert [] == await found(pattern="loop")
        assert [] == await found(since=4_000_000_000)
        assert [bad] == await found(flag="dead_lettered")
        answer = await it.client.get("/v1/runs", params={"session": "s", "limit": 2})
        assert good[:1] == [row["run_id"] for row in (await it.client.get(answer.links["next"]["url"])).json()]


async def test_s14_what_looks_like_a_statement_is_a_word_to_look_for(serve: Serve) -> None:
    """Every filter, cursor and limit takes text as text: nothing is found, or it is refused, and nothing breaks."""
    async with serve() as it:
        await post(it)
        for word in HOSTILE:
            for name in ("session", "pattern", "flag"):
                assert [] == (await it.client.get("/v1/runs", params={name: word})).json()
            for name in ("state", "status", "cursor", "limit", "since", word):
                assert 422 == (await it.client.get("/v1/runs", params={name: word})).status_code
        assert 422 == (await it.client.get("/v1/runs?limit=1&limit=2")).status_code
        assert 422 == (await it.client.get("/v1/runs?cursor=run-x-1")).status_code
        assert 1 == len((await it.client.get("/v1/runs")).json())


async def test_s13_an_id_that_is_none_finds_nothing(serve: Serve) -> None:
    """No text in an address reaches a file, and a beginning of an id is no id."""
    async with serve() as it:
        run_id = await post(it)
        for odd in (*ODD_IDS, run_id[:-1], run_id.upper()):
            for method, path in (("GET", ""), ("GET", "/events"), ("GET", "/diagram"), ("POST", "/cancel"), ("POST", "/fork")):
                status, _, body = await it.ask(method, f"/v1/runs/{odd}{path}")
                assert (404 if " " not in odd else 400, odd) == (status, odd)
                assert odd.encode() not in body or len(odd) < 3


async def test_a_run_is_paused_resumed_and_cancelled(serve: Serve) -> None:
    """Each order is recorded when it is answered; one that the state does not allow is a 409."""
    gates = [asyncio.Event(), asyncio.Event()]
    begun = asyncio.Event()

    async def first(event: Any, state: Any) -> None:
        begun.set()
        await gates[0].wait()

    async def second(event: Any, state: Any) -> None:
        await gates[1].wait()

    async with serve({"first": first, "second": second}) as it:
        run_id = (await it.client.post("/v1/events", json={})).json()["run_id"]
        await begun.wait()
        at = f"/v1/runs/{run_id}"
        paused = await it.client.post(f"{at}/pause", json={"reason": "look"})
        assert (200, True) == (paused.status_code, paused.json()["is_recorded"])
        gates[0].set()
        async with asyncio.timeout(5):
            while (await it.client.get(at)).json()["state_name"] != "paused":
                await asyncio.sleep(0.01)
        assert 409 == (await it.client.post(f"{at}/pause", json={})).status_code
        assert 200 == (await it.client.post(f"{at}/resume")).status_code
        assert 200 == (await it.client.post(f"{at}/cancel", json={"reason": "enough"})).status_code
        handle = await it.service.runner.handle(run_id)
        assert ("cancelled", "enough") == ((await handle.result()).status, (await handle.result()).reason)
        answer = await it.client.post(f"{at}/cancel", json={})
        assert (409, "AF0508") == (answer.status_code, answer.json()["code"])


@pytest.mark.parametrize(("verb", "status"), [("approve", "completed"), ("reject", "failed")])
async def test_a_step_that_waits_is_answered_once(serve: Serve, verb: str, status: str) -> None:
    """The run goes on with the answer; the second one is a 409."""
    async with serve(agents={"greet": {"requires_approval": True}}) as it:
        answer = await it.client.post("/v1/events?wait=10s", json={})
        assert 202 == answer.status_code  # a run that waits for a person is not waited for
        at = f"/v1/runs/{answer.json()['run_id']}"
        waiting = (await it.client.get(at)).json()["approvals"]
        assert ["greet"] == [one["agent"] for one in waiting]
        if verb == "approve":
            assert 409 == (await it.client.post(f"{at}/approve", json={"digest": "other"})).status_code
        given = await it.client.post(f"{at}/{verb}", json={"place": "greet", "by": "ann"})
        assert (200, "0.0") == (given.status_code, given.json()["position"])
        handle = await it.service.runner.handle(answer.json()["run_id"])
        assert status == (await handle.result()).status
        assert 409 == (await it.client.post(f"{at}/{verb}", json={"place": "greet"})).status_code


async def test_a_run_is_forked(serve: Serve) -> None:
    """The new one begins from the old one's records, with what was changed."""

    async def twice(event: Any, state: Any) -> dict[str, Any]:
        return {"double": 2 * state["n"]}

    async with serve({"twice": twice}) as it:
        run_id = await post(it, data={"n": 2})
        answer = await it.client.post(f"/v1/runs/{run_id}/fork", json={"at": 0, "set": {"n": 5}})
        assert (202, run_id) == (answer.status_code, answer.json()["origin"])
        handle = await it.service.runner.handle(answer.json()["run_id"])
        assert 10 == (await handle.result()).state["double"]
        assert 422 == (await it.client.post(f"/v1/runs/{run_id}/fork", json={"set": {"n": 2**63}})).status_code
        assert 404 == (await it.client.post(f"/v1/runs/{run_id}/fork", json={"at": 999})).status_code


async def test_a_dead_letter_is_listed_and_replayed(serve: Serve) -> None:
    """The new run goes on here and now; a second replay asks for `again`."""
    is_well = False

    async def shaky(event: Any, state: Any) -> dict[str, Any]:
        if not is_well:
            raise ValueError("no")
        return {"ok": True}

    async with serve({"shaky": shaky}) as it:
        run_id = await post(it)
        assert [run_id] == [row["run_id"] for row in (await it.client.get("/v1/dead-letters")).json()]
        is_well = True
        answer = await it.client.post(f"/v1/dead-letters/{run_id}/replay", json={})
        assert (202, run_id) == (answer.status_code, answer.json()["origin"])
        handle = await it.service.runner.handle(answer.json()["run_id"])
        assert "completed" == (await handle.result()).status
        assert 409 == (await it.client.post(f"/v1/dead-letters/{run_id}/replay")).status_code
        assert 202 == (await it.client.post(f"/v1/dead-letters/{run_id}/replay", json={"again": True})).status_code


async def test_agents_plan_and_figures_are_told(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs here, what it is set to, and what it has done: as JSON, and to Prometheus."""
    async with serve(llm={"provider": "ollama", "model": "m", "api_key": {"env": "S1_KEY"}}) as it:
        await post(it)
        assert [("greet", True)] == [(row["name"], row["reached"]) for row in (await it.client.get("/v1/agents")).json()]
        told = (await it.client.get("/v1/config")).json()
        assert ("sequential", "seq") == (told["mode"], told["plan"]["kind"])
        assert "***" == told["settings"]["serve.token_file"]
        figures = (await it.client.get("/v1/metrics")).json()
        assert (1, 0, 0) == (figures["events"]["completed"], figures["runs"]["open"], figures["queue_depth"])
        text = await it.client.get("/metrics")
        assert text.headers["content-type"].startswith("text/plain")
        assert 'agentflow_events_total{outcome="completed"} 1.0' in text.text
        assert 'agentflow_agent_steps_total{agent="greet",outcome="completed"} 1.0' in text.text


async def test_s28_figures_and_health_carry_nothing_that_users_wrote(serve: Serve) -> None:
    """Neither data, nor metadata, nor sessions, nor what handlers raised."""

    async def failing(event: Any, state: Any) -> None:
        raise ValueError("canary-raised")

    async with serve({"failing": failing}) as it:
        event = {
            "data": {"canary-key": "canary-value"},
            "metadata": {"m": "canary-meta"},
            "session_id": "canary-session",
            "id": "canary-id",
        }
        await it.client.post("/v1/events?wait=10s", json=event)
        for path in ("/v1/metrics", "/metrics", "/livez", "/readyz", "/openapi.json", "/v1/config", "/v1/agents"):
            assert "canary" not in (await it.client.get(path)).text


async def test_a_damaged_run_is_told_as_such_and_the_others_are_there(serve: Serve) -> None:
    """What cannot be read is a 503 of its own code, not a fault."""
    async with serve() as it:
        kept, lost = await post(it), await post(it)
        import sqlite3

        with sqlite3.connect(it.folder / "journal.db") as writer:
            writer.execute("UPDATE records SET body = x'00' WHERE key >> 24 = (SELECT number FROM runs WHERE run_id = ?)", (lost,))
        writer.close()
        answer = await it.client.get(f"/v1/runs/{lost}")
        assert 503 == answer.status_code
        assert str(it.folder) not in answer.text
        assert 200 == (await it.client.get(f"/v1/runs/{kept}")).status_code
        assert 2 == len((await it.client.get("/v1/runs")).json())


async def test_an_order_that_is_no_object_or_has_unknown_keys_is_refused(serve: Serve) -> None:
    """Nothing that was sent is ignored."""
    async with serve() as it:
        run_id = await post(it)
        for body in ({"reasn": "x"}, {"reason": 5}, {"reason": "x" * 5000}):
            answer = await it.client.post(f"/v1/runs/{run_id}/cancel", json=body)
            assert (422, "AF0816") == (answer.status_code, answer.json()["code"])
        answer = await it.client.post(f"/v1/runs/{run_id}/cancel", content=json.dumps([1]), headers={"Content-Type": "application/json"})
        assert 400 == answer.status_code
        assert 422 == (await it.client.post(f"/v1/runs/{run_id}/cancel?x=1")).status_code


async def test_hooks_run_for_events_from_outside_too(serve: Serve) -> None:
    """A way in is no way around."""
    seen: list[str] = []
    async with serve() as it:
        it.service.runner.register_callback(Hook.AFTER_EVENT_HANDLING, "note", lambda args: seen.append("after"))
        await post(it)
        assert ["after"] == seen
