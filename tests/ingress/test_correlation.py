"""A log leads from a request to its run and back: by the request's id, the event's and the run's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.ingress.conftest import Serve


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


async def test_the_log_says_which_request_became_which_run(serve: Serve, tmp_path: Path) -> None:
    """With the id that the client was told; an event that comes again has the same run under its own request's id."""
    async with serve(logging={"level": "info", "format": "json", "file": str(tmp_path / "log")}) as served:
        answers = [
            await served.client.post(
                "/v1/events?wait=5s", json={"id": "one", "target": "greet", "data": {}}, headers={"X-Request-Id": name}
            )
            for name in ("first", "second")
        ]
        run_id = (await served.client.get("/v1/runs")).json()[0]["run_id"]
    assert ["first", "second"] == [answer.headers["x-request-id"] for answer in answers]
    told = [line for line in _lines(tmp_path / "log") if line["event"] == "event_accepted"]
    ids = ("request_id", "run_id", "event_id", "duplicate")
    assert [("first", run_id, "one", False), ("second", run_id, "one", True)] == [tuple(line[name] for name in ids) for line in told]
    of_run = [line["event"] for line in _lines(tmp_path / "log") if line.get("run_id") == run_id]
    assert ["WorkflowCompleted", "event_accepted", "event_accepted"] == sorted(of_run)


async def test_a_request_that_fails_has_its_id_in_the_log(serve: Serve, tmp_path: Path) -> None:
    """The client is told nothing but that id."""
    async with serve(logging={"format": "json", "file": str(tmp_path / "log")}) as served:

        async def broken(event: object) -> None:
            raise ZeroDivisionError("of the inside")

        served.service.emit = broken  # type: ignore[method-assign, assignment]
        answer = await served.client.post("/v1/events", json={"target": "greet", "data": {}})
    (line,) = [line for line in _lines(tmp_path / "log") if line["event"] == "request_failed"]
    assert (500, line["request_id"]) == (answer.status_code, answer.json()["id"])
    assert ("of the inside" in line["exception"], "of the inside" in answer.text) == (True, False)
