"""Problems: what a client is told when something is refused or fails, by RFC 9457, with a code and the request's id.

Never a stack, a path of this machine or a statement of a store: what comes from these errors is said in words of our own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.exceptions import HTTPException

from agentflow.core.redaction import KNOWN
from agentflow.errors import (
    AgentflowError,
    DuplicateEventError,
    FencedError,
    IllegalTransitionError,
    InvalidEventError,
    InvalidValueError,
    JournalDamagedError,
    JournalVersionError,
    PlanMismatchError,
    QueueFullError,
    RoutingError,
    RunnerStateError,
    RunNotFoundError,
    SessionBusyError,
    StorageFullError,
    StoreDamagedError,
    StoreError,
)

MEDIA_TYPE = b"application/problem+json"
RETRY_S = 1  # after which a client may ask again, in seconds


@dataclass(frozen=True, slots=True)
class Problem:
    """What a client is told.

    Attributes:
        status: of the answer.
        code: as `agentflow explain` knows it.
        detail: what is wrong, in a sentence.
        hint: what to do, "" when there is nothing to say.
        retry_s: after how many seconds it may ask again; None does not say.
        headers: further headers of the answer.
    """

    status: int
    code: str
    detail: str
    hint: str = ""
    retry_s: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, request_id: str) -> bytes:
        """Return the problem as JSON."""
        told = {"type": "about:blank", "title": HTTPStatus(self.status).phrase, "status": self.status, "code": self.code}
        told |= {"detail": KNOWN.redacted(self.detail), "id": request_id}
        if self.hint:
            told["hint"] = self.hint
        return json.dumps(told, separators=(",", ":")).encode()


class RefusedError(Exception):
    """A request is refused; `problem` is what the client is told."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def refused(status: int, code: str, detail: str, hint: str = "", *, retry_s: int | None = None) -> RefusedError:
    """Return the error that refuses a request."""
    return RefusedError(Problem(status, code, detail, hint, retry_s))


def problem_of(error: Exception) -> Problem | None:
    """Return what a client is told of an error, None when nobody expected it."""
    if isinstance(error, RefusedError):
        return error.problem
    if isinstance(error, HTTPException):
        return _of_routing(error)
    if isinstance(error, AgentflowError):
        return _of_ours(error)
    return None


def unexpected(request_id: str) -> Problem:
    """Return what a client is told of an error that nobody expected; the log has the rest, under the request's id."""
    return Problem(500, "AF0822", "the service has failed at this request", f"its log says why, under the id {request_id}")


def _of_routing(error: HTTPException) -> Problem:
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = dict(error.headers or {})
        return Problem(405, "AF0817", "this address does not take that method", headers=allowed)
    return Problem(404, "AF0817", "there is nothing at this address", "GET /openapi.json lists what there is")


def _of_ours(error: AgentflowError) -> Problem:
    match error:
        case InvalidEventError() | InvalidValueError() | RoutingError():
            return Problem(422, error.code, error.message, error.hint)
        case RunNotFoundError():
            return Problem(404, error.code, "there is no such run", "GET /v1/runs lists those there are")
        case DuplicateEventError() | IllegalTransitionError() | SessionBusyError() | PlanMismatchError():
            return Problem(409, error.code, error.message, error.hint)
        case QueueFullError():
            return Problem(429, error.code, error.message, "send slower", RETRY_S)
        case RunnerStateError():
            return Problem(503, error.code, "the service does not take this now", "try again", RETRY_S)
        case _:
            return _of_the_store(error)


def _of_the_store(error: AgentflowError) -> Problem:
    match error:
        case StorageFullError():
            return Problem(507, error.code, "there is no room left for the journal; nothing was recorded", "try again later", RETRY_S)
        case FencedError():
            return Problem(409, error.code, "another owner goes on with this run")
        case StoreDamagedError() | JournalDamagedError() | JournalVersionError():
            return Problem(
                503, error.code, "what is recorded of this run cannot be read", "the operator can look with `agentflow runs verify`"
            )
        case StoreError():
            told = "the journal could not be written or read; whether anything was recorded is not known"
            return Problem(503, error.code, told, "send the same again, under the same id", RETRY_S)
        case _:
            return Problem(409, error.code, "that cannot be done as things stand", f"`agentflow explain {error.code}` tells what it means")
