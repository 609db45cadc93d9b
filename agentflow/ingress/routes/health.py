"""How the service does: figures, and whether it is alive and ready."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from agentflow.ingress.figures import CONTENT_TYPE, exposition
from agentflow.ingress.models import Alive, Figures, NoQuery
from agentflow.ingress.operations import Operation, query_of, told
from agentflow.ingress.problems import RETRY_S, refused
from agentflow.ingress.service import Service


def operations(service: Service) -> list[Operation]:
    """Return what can be asked."""
    runner = service.runner

    async def figures(request: Request) -> Response:
        query_of(NoQuery, request)
        return told(runner.metrics())

    async def prometheus(request: Request) -> Response:
        query_of(NoQuery, request)
        return Response(exposition(runner.metrics()), headers={"Content-Type": CONTENT_TYPE})

    async def alive(request: Request) -> Response:
        return told({"status": "ok"})

    async def ready(request: Request) -> Response:
        if service.readiness.fault or (await runner.health()).status == "failing":
            raise refused(503, "AF0819", "not ready", retry_s=RETRY_S)
        return told({"status": "ok"})

    return [
        Operation("GET", "/v1/metrics", "Tell what was counted, and what is open now.", {200: Figures}, figures),
        Operation("GET", "/metrics", "Tell the same to Prometheus.", {200: None}, prometheus),
        Operation("GET", "/livez", "Say that the process answers; needs no token.", {200: Alive}, alive),
        Operation("GET", "/readyz", "Say whether events are taken; needs no token.", {200: Alive}, ready),
    ]
