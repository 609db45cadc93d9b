"""Runs, read: lists of them, one of them, its records and its diagram."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from agentflow.core import run_row
from agentflow.errors import RunNotFoundError
from agentflow.ingress.models import RUN_ID, Record, RecordsQuery, RunQuery, RunRow, RunsQuery, RunView
from agentflow.ingress.operations import Operation, query_of, told
from agentflow.ingress.problems import refused
from agentflow.ingress.routes import live
from agentflow.ingress.service import Service
from agentflow.ingress.streams import Streams

_ID = re.compile(RUN_ID)


def operations(service: Service, streams: Streams) -> list[Operation]:
    """Return what can be asked."""
    runner = service.runner

    async def rows(request: Request) -> Response:
        return await page(service, "/v1/runs", query_of(RunsQuery, request))

    async def run(request: Request) -> Response:
        query = query_of(RunQuery, request)
        row = await row_of(service, request)
        view = await runner.get(row.run_id, at=query.at)
        ended = view.row.ended_at
        timing = {"accepted_at": view.row.started_at, "duration_seconds": None if ended is None else max(0.0, ended - view.row.started_at)}
        address = f"/v1/runs/{row.run_id}"
        urls = {"records_url": f"{address}/events", "diagram_url": f"{address}/diagram"}
        return told(view.to_dict() | {"timing": timing} | urls)

    async def records(request: Request) -> Response:
        query = query_of(RecordsQuery, request)
        row = await row_of(service, request)
        if live.is_wanted(request):
            return await live.of_run(streams, request, row, query)
        found = await runner.events(row.run_id, query.start)
        return told([record.to_dict() for record in islice(found, query.limit)])

    async def diagram(request: Request) -> Response:
        row = await row_of(service, request)
        return PlainTextResponse(await runner.diagram(row.run_id))

    return [
        Operation("GET", "/v1/runs", "List recorded runs, the newest first.", {200: list[RunRow]}, rows, query=RunsQuery),
        Operation("GET", "/v1/runs/{run_id}", "Show a run.", {200: RunView}, run, query=RunQuery),
        Operation(
            "GET", "/v1/runs/{run_id}/events", "List a run's records, or follow them.", {200: list[Record]}, records, query=RecordsQuery
        ),
        Operation("GET", "/v1/runs/{run_id}/diagram", "Draw a run's plan and how its steps stand, as Mermaid.", {200: None}, diagram),
    ]


async def row_of(service: Service, request: Request) -> run_row.RunRow:
    """Return the row of the run that an address names, by its whole id.

    Raises:
        RunNotFoundError: there is none.
    """
    run_id = str(request.path_params["run_id"])
    if not _ID.fullmatch(run_id):
        raise RunNotFoundError(run_id)
    return await service.runner.row(run_id)


async def page(service: Service, path: str, query: RunsQuery, **fixed: Any) -> Response:
    """Return one page of rows; the header `Link` says where the next one is.

    Raises:
        RefusedError: the cursor is of a run that is not there any more.
    """
    given = query.model_dump(exclude_defaults=True)
    wanted = query.model_dump(exclude={"cursor", "limit"}) | fixed
    if query.cursor is not None:
        try:
            await service.runner.row(query.cursor)
        except RunNotFoundError:
            raise refused(422, "AF0816", "cursor: the run at which the last page ended is not kept any more", "begin again") from None
    rows = await service.runner.runs(**wanted, beyond=query.cursor, limit=query.limit + 1)
    headers = {}
    if len(rows) > query.limit:
        del rows[query.limit :]
        following = urlencode(given | {"cursor": rows[-1].run_id, **({"children": "true"} if query.children else {})})
        headers["Link"] = f'<{path}?{following}>; rel="next"'
    return told([row.to_dict() for row in rows], headers=headers)
