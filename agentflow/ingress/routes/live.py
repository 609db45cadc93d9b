"""Live streams: the records of a run, or of all runs, as server-sent events."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from agentflow.core.reach import Reach
from agentflow.core.run_row import RunRow
from agentflow.errors import RunNotFoundError
from agentflow.ingress import cursors, sse
from agentflow.ingress.frames import MEDIA_TYPE
from agentflow.ingress.models import NoQuery, RecordsQuery
from agentflow.ingress.operations import Operation, admitted, query_of
from agentflow.ingress.problems import refused
from agentflow.ingress.streams import Streams

GONE_ON = 204  # tells a browser not to come back


def operations(streams: Streams) -> list[Operation]:
    """Return what can be asked."""

    async def everything(request: Request) -> Response:
        query_of(NoQuery, request)
        if not is_wanted(request):
            raise refused(406, "AF0817", "this address has a live stream alone", f"send `Accept: {MEDIA_TYPE}`")
        last_id = _last_id(request)
        present = await streams.feed.reach()
        start = None if last_id is None else cursors.reach_of(last_id, present)
        if len(cursors.Cursor(present.copy()).text()) > cursors.LONGEST:
            raise refused(503, "AF0826", "more runs are open than one stream can tell apart", "follow single runs")
        found = admitted(request.scope)
        reader = streams.enter(found.client, found.generation)
        return sse.EventStream(streams, reader, lambda: sse.of_all(streams, reader, start))

    summary = "Follow all runs: their records as server-sent events, from now on or from `Last-Event-ID` on."
    return [Operation("GET", "/v1/events/stream", summary, {200: MEDIA_TYPE}, everything, problems=(406,))]


def is_wanted(request: Request) -> bool:
    """Say whether a request asks for a live stream."""
    return MEDIA_TYPE in request.headers.get("accept", "")


async def of_run(streams: Streams, request: Request, row: RunRow, query: RecordsQuery) -> Response:
    """Return the live stream of a run.

    Raises:
        RefusedError: it is asked for from a record on that there is not, or there are too many streams.
        RunNotFoundError: the run was deleted.
    """
    if "limit" in query.model_fields_set:
        raise refused(422, "AF0816", "limit: a live stream has none")
    last_id = _last_id(request)
    next_seq = query.start if last_id is None else cursors.seq_of(last_id) + 1
    number = (await streams.feed.numbers([row.run_id])).get(row.run_id)
    if number is None:
        raise RunNotFoundError(row.run_id)
    if next_seq:
        start = Reach("", number, {number: next_seq - 1})
        found = await streams.feed.news(start, Reach("", number), most=2)
        if not found:
            raise refused(422, "AF0816", f"the run has no record {next_seq - 1}")
        if len(found) == 1 and not row.is_open and last_id is not None:
            return Response(status_code=GONE_ON)
    known = admitted(request.scope)
    reader = streams.enter(known.client, known.generation)
    return sse.EventStream(streams, reader, lambda: sse.of_run(streams, reader, number, row.run_id, next_seq))


def _last_id(request: Request) -> str | None:
    found = request.headers.getlist("last-event-id")
    if len(found) > 1:
        raise refused(422, "AF0816", "Last-Event-ID: there is more than one")
    return found[0] if found else None
