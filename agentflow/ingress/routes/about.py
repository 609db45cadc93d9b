"""What the service runs: its agents, its plan and values, and its own description."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from agentflow.config.roster import agent_rows
from agentflow.core.plan_rows import to_dict
from agentflow.ingress.models import AgentRow, ConfigView, NoQuery
from agentflow.ingress.operations import Operation, query_of, told
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

    async def openapi(request: Request) -> Response:
        query_of(NoQuery, request)
        return told(described())

    return [
        Operation("GET", "/v1/agents", "List the agents.", {200: list[AgentRow]}, agents),
        Operation("GET", "/v1/config", "Show the plan and every effective value, secrets masked.", {200: ConfigView}, config),
        Operation("GET", "/openapi.json", "Describe all this.", {200: dict}, openapi),
    ]
