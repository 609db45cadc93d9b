"""Orders on runs, and dead letters: the same desk that takes those of the command line."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from agentflow.engine.desk import Order
from agentflow.engine.history import DEAD
from agentflow.ingress.bodies import adopted
from agentflow.ingress.models import (
    ApproveIn,
    Begun,
    ForkIn,
    NoQuery,
    PauseIn,
    Receipt,
    RejectIn,
    ReplayIn,
    ResumeIn,
    RunRow,
    RunsQuery,
)
from agentflow.ingress.operations import Endpoint, Operation, body_of, query_of, told
from agentflow.ingress.problems import refused
from agentflow.ingress.routes.runs import page, row_of
from agentflow.ingress.service import Service

_NAMES = {"reason": "told", "note": "told"}  # of a body's keys, in an order
_ORDERS: Mapping[str, tuple[type[BaseModel], str]] = {
    "pause": (PauseIn, "Let no further step of a run begin; those in flight finish."),
    "resume": (ResumeIn, "Lift a person's pause."),
    "cancel": (PauseIn, "End a run that has not ended."),
    "approve": (ApproveIn, "Let a step run that waits for a person; 409 when it was answered before."),
    "reject": (RejectIn, "Fail a step that waits for a person; 409 when it was answered before."),
}


def operations(service: Service) -> list[Operation]:
    """Return what can be asked."""

    async def fork(request: Request) -> Response:
        query_of(NoQuery, request)
        given = body_of(ForkIn, request)
        changes = adopted(given.set, "set")
        row = await row_of(service, request)
        _require_taking(service)
        handle = await service.runner.fork(row.run_id, at=given.at, set=changes or None)
        return told({"run_id": handle.run_id, "origin": row.run_id}, 202, {"Location": f"/v1/runs/{handle.run_id}"})

    async def letters(request: Request) -> Response:
        query = query_of(RunsQuery, request)
        return await page(service, "/v1/dead-letters", query, flag=DEAD, children=True)

    async def replay(request: Request) -> Response:
        query_of(NoQuery, request)
        given = body_of(ReplayIn, request)
        row = await row_of(service, request)
        _require_taking(service)
        receipt = await service.runner.order(Order("replay", row.run_id, is_again=given.again))
        return told({"run_id": receipt.run_id, "origin": row.run_id}, 202, {"Location": f"/v1/runs/{receipt.run_id}"})

    orders = [
        Operation("POST", f"/v1/runs/{{run_id}}/{verb}", summary, {200: Receipt}, _order(service, verb, body), body, problems=(409, 507))
        for verb, (body, summary) in _ORDERS.items()
    ]
    return [
        *orders,
        Operation(
            "POST", "/v1/runs/{run_id}/fork", "Begin a new run from a run's records.", {202: Begun}, fork, ForkIn, problems=(409, 507)
        ),
        Operation("GET", "/v1/dead-letters", "List what failed and nobody has handled.", {200: list[RunRow]}, letters, query=RunsQuery),
        Operation(
            "POST", "/v1/dead-letters/{run_id}/replay", "Send a dead letter again.", {202: Begun}, replay, ReplayIn, problems=(409, 507)
        ),
    ]


def _order(service: Service, verb: str, kind: type[BaseModel]) -> Endpoint:
    async def give(request: Request) -> Response:
        query_of(NoQuery, request)
        given = body_of(kind, request)
        row = await row_of(service, request)
        fields = {_NAMES.get(name, name): value for name, value in given.model_dump().items()}
        receipt = await service.runner.order(Order(verb, row.run_id, **fields))
        if not receipt.is_recorded:
            said = "it is being cancelled already" if verb == "cancel" else "it was answered before, or does not wait"
            raise refused(409, "AF0508", f"nothing was recorded: {said}")
        return told(receipt.to_dict())

    return give


def _require_taking(service: Service) -> None:
    service.readiness.require_taking()
