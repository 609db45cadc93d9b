"""Events come in: acknowledged once they are recorded, or answered with the result."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from agentflow.core.event import Event
from agentflow.core.result import RunResult
from agentflow.engine.run import RunHandle
from agentflow.ingress.models import EVENT_ID, Accepted, EventIn, EventQuery, Result
from agentflow.ingress.operations import Operation, admitted, body_of, query_of, told
from agentflow.ingress.problems import refused
from agentflow.ingress.service import Service, outcome

LONGEST_WAIT_S = 600.0
_UNITS = {"": 1.0, "s": 1.0, "ms": 0.001, "m": 60.0}
_ID = re.compile(EVENT_ID)
_WAIT = re.compile(r"([0-9]+)([a-z]*)")


def operations(service: Service) -> list[Operation]:
    """Return what can be asked."""
    log = service.runner.log

    async def post(request: Request) -> Response:
        query = query_of(EventQuery, request)
        wait_s = None if query.wait is None else wait_of(query.wait)
        handle = await service.emit(event_of(body_of(EventIn, request), request.headers.getlist("idempotency-key")))
        if log.is_wanted:
            ids = {"request_id": admitted(request.scope).request_id, "run_id": handle.run_id, "event_id": handle.event_id}
            line: Any = log.bind({**ids, "duplicate": handle.is_duplicate})
            line.info("event_accepted")
        if wait_s is not None:
            result = await _while_connected(request, handle, wait_s)
            if result is not None:
                return told(result.to_dict(), 200)
        accepted: dict[str, object] = {"run_id": handle.run_id, "event_id": handle.event_id, "duplicate": handle.is_duplicate}
        if service.runner.durability != "full":
            accepted["durability"] = service.runner.durability
        return told(accepted, 202, {"Location": f"/v1/runs/{handle.run_id}"})

    return [
        Operation(
            "POST",
            "/v1/events",
            "Accept an event: 202 once it is recorded, or 200 with the result when it is there within `wait`.",
            {202: Accepted, 200: Result},
            post,
            EventIn,
            EventQuery,
            (409, 507),
        )
    ]


def wait_of(text: str) -> float:
    """Return a time such as `30s` in seconds.

    Raises:
        RefusedError: it is none, or too long.
    """
    found = _WAIT.fullmatch(text)
    wait_s = -1.0 if found is None else int(found[1]) * _UNITS[found[2]]
    if not 0 <= wait_s <= LONGEST_WAIT_S:
        raise refused(422, "AF0816", f"wait: at most {LONGEST_WAIT_S:.0f}s")
    return wait_s


def event_of(given: EventIn, keys: list[str]) -> Event:
    """Return the event that was sent, under the id that its body or an `Idempotency-Key` gives it.

    Raises:
        RefusedError: the key is none that an event can have, or not the id of the body.
    """
    if len(set(keys)) > 1 or any(not _ID.fullmatch(key) for key in keys):
        raise refused(422, "AF0816", "Idempotency-Key: one key of 1-128 characters of A-Z a-z 0-9 _ . : -")
    key = keys[0] if keys else None
    if key is not None and given.id not in (None, key):
        raise refused(422, "AF0816", "Idempotency-Key and the id of the body are different")
    return Event(given.target, given.data, given.metadata or None, session_id=given.session_id, id=given.id or key)


async def _while_connected(request: Request, handle: RunHandle, wait_s: float) -> RunResult | None:
    """Wait for a result as long as somebody waits for it; the run goes on in any case."""
    found = asyncio.ensure_future(outcome(handle, wait_s))
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({found, gone}, return_when=asyncio.FIRST_COMPLETED)
        return found.result() if found.done() else None
    finally:
        found.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
