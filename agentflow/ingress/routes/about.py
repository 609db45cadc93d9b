"""What the service runs and how it does: agents, the plan, figures, whether it is alive and ready, and its own description."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from agentflow.config.roster import agent_rows
from agentflow.core.plan import to_dict
from agentflow.ingress.figures import CONTENT_TYPE, exposition
from agentflow.ingress.models import AgentRow, Alive, ConfigView, Figures, NoQuery
from agentflow.ingress.operations import Operation, query_of, told
from agentflow.ingress.problems import RETRY_S, refused
from agentflow.ingress.service import Service


def operations(service: Service, described: Callable[[], dict[str, Any]]) -> list[Operation]:
    """Return what can be asked; `described` gives the OpenAPI of all operations."""
    runner = service.runner

    async def agents(request: Request) -> Response:
        query_of(NoQuery, request)
        return told(agent_rows(runner.project.config, runner.plan))

    async def config(request: Request) -> Response:
        query_of(NoQuery, request)
        project = runner.project
        settings = {one.key: one.value for one in project.draft.settings}
        named = {"name": project.config.agent_flow.name, "mode": project.config.orchestration.mode}
        return told(named | {"plan": to_dict(runner.plan), "settings": settings})

    async def figures(request: Request) -> Response:
        query_of(NoQuery, request)
        return told(runner.metrics())

    async def prometheus(request: Request) -> Response:
        return Response(exposition(runner.metrics()), headers={"Content-Type": CONTENT_TYPE})

    async def alive(request: Request) -> Response:
        return told({"status": "ok"})

    async def ready(request: Request) -> Response:
        if service.readiness.fault:
            raise refused(503, "AF0819", "not ready", retry_s=RETRY_S)
        return told({"status": "ok"})

    async def openapi(request: Request) -> Response:
        return told(described())

    return [
        Operation("GET", "/v1/agents", "List the agents.", {200: list[AgentRow]}, agents),
        Operation("GET", "/v1/config", "Show the plan and every effective value, secrets masked.", {200: ConfigView}, config),
        Operation("GET", "/v1/metrics", "Tell what was counted, and what is open now.", {200: Figures}, figures),
        Operation("GET", "/metrics", "Tell the same to Prometheus.", {200: None}, prometheus),
        Operation("GET", "/livez", "Say that the process answers; needs no token.", {200: Alive}, alive),
        Operation("GET", "/readyz", "Say whether events are taken; needs no token.", {200: Alive}, ready),
        Operation("GET", "/openapi.json", "Describe all this.", {200: dict}, openapi),
    ]
