"""Operations: what the service can be asked, each with its address, what it takes and what it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, cast

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agentflow.ingress.bodies import checked, model_of
from agentflow.ingress.guards import ADMITTED, Admitted
from agentflow.ingress.models import NoQuery
from agentflow.ingress.problems import refused

if TYPE_CHECKING:
    from starlette.types import Scope

Endpoint = Callable[[Request], Awaitable[Response]]
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing to ask.

    Attributes:
        method, path: where; `{run_id}` in a path stands for a run's id.
        summary: what it does, in a sentence.
        answers: the model of each answer that is no problem, by status; `list[...]` of one for an array, a media type for a
            stream, None for text.
        endpoint: what answers.
        body: what it takes; None: nothing.
        query: what its address may ask.
        problems: the statuses with which it is refused, besides those that each operation has.
    """

    method: str
    path: str
    summary: str
    answers: Mapping[int, object]
    endpoint: Endpoint
    body: type[BaseModel] | None = None
    query: type[BaseModel] = NoQuery
    problems: tuple[int, ...] = field(default=())


def admitted(scope: Scope) -> Admitted:
    """Return what the guard has learned of a request."""
    return cast("Admitted", scope[ADMITTED])


def query_of(kind: type[Model], request: Request) -> Model:
    """Return what the address of a request asks.

    Raises:
        RefusedError: it asks for something that is not known, twice for the same, or for what cannot be.
    """
    given = request.query_params.multi_items()
    if not given:
        return kind()
    found = dict(given)
    if len(found) != len(given):
        raise refused(422, "AF0816", "the address asks twice for the same")
    return checked(kind, found)


def body_of(kind: type[Model], request: Request) -> Model:
    """Return the body of a request.

    Raises:
        RefusedError: it is not what the operation takes.
    """
    return model_of(kind, admitted(request.scope).body)


def told(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer in JSON."""
    return JSONResponse(value, status, headers)
