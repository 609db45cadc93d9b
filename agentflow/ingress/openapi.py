"""OpenAPI: the description of all operations, built from them and from the models they name."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from agentflow.ingress.frames import MEDIA_TYPE
from agentflow.ingress.guards import OPEN
from agentflow.ingress.models import RUN_ID, Problem
from agentflow.ingress.operations import Operation

_REF = "#/components/schemas/{model}"
_OF_ALL = (400, 401, 405, 414, 422, 429, 431, 500, 503)
_OF_CHANGES = (403, 408, 413, 415)
_WORDS = {
    400: "The request is malformed",
    401: "The token is missing or wrong",
    403: "Another site asks, or it is for the operator alone",
    404: "There is no such run",
    405: "Not with this method",
    406: "Not in this form",
    408: "The body came too slowly",
    409: "Not in this state, or the id is another event's",
    413: "The body is too large",
    414: "The address is too long",
    415: "The body is no JSON",
    422: "A value cannot be used",
    429: "Too much at once; `Retry-After` says when",
    431: "The headers are too large",
    500: "A fault of the service",
    503: "Not now; `Retry-After` says when",
    507: "No room for the journal",
}


def openapi(operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of operations."""
    operations = list(operations)
    models: set[type[BaseModel]] = {Problem, *(one.body for one in operations if one.body)}
    models |= {model for one in operations for answer in one.answers.values() if (model := _model(answer))}
    ordered = sorted(models, key=lambda model: model.__name__)
    _, schema = models_json_schema([(model, "validation") for model in ordered], ref_template=_REF)
    paths: dict[str, Any] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {"title": "agentflow", "version": version("agentflow"), "description": "Send events to agents, and look at their runs."},
        "security": [{"token": []}],
        "paths": paths,
        "components": {"schemas": schema["$defs"], "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(one: Operation) -> dict[str, Any]:
    is_open = one.path.encode() in OPEN
    told: dict[str, Any] = {
        "operationId": _name(one),
        "summary": one.summary,
        "parameters": [*_path_parameters(one), *_query_parameters(one)],
        "responses": {str(status): _answer(answer) for status, answer in one.answers.items()} | _problems(one, is_open=is_open),
    }
    if is_open:
        told["security"] = []
    if one.body is not None:
        content = {"application/json": {"schema": _ref(one.body)}}
        told["requestBody"] = {"content": content, "required": False}
    if one.path == "/v1/events":
        told["parameters"].append(_IDEMPOTENCY)
    if MEDIA_TYPE in one.answers.values():
        told["parameters"].append(_LAST_ID)
    return told


_IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The event's id, where the body has none.",
    "schema": {"type": "string", "pattern": r"^[A-Za-z0-9_.:-]{1,128}$"},
}


_LAST_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The id of the last event that was seen: what comes behind it is told.",
    "schema": {"type": "string"},
}


def _name(one: Operation) -> str:
    words = one.path.replace("{run_id}", "run").strip("/").replace("v1/", "").replace("/", "_").replace("-", "_").replace(".", "_")
    return f"{one.method.lower()}_{words}"


def _path_parameters(one: Operation) -> list[dict[str, Any]]:
    if "{run_id}" not in one.path:
        return []
    return [{"name": "run_id", "in": "path", "required": True, "schema": {"type": "string", "pattern": RUN_ID}}]


def _query_parameters(one: Operation) -> list[dict[str, Any]]:
    schema = one.query.model_json_schema()
    required = schema.get("required", [])
    found: list[dict[str, Any]] = []
    for name, told in schema.get("properties", {}).items():
        kept = {key: value for key, value in told.items() if key not in ("title", "description", "default")}
        options = [option for option in kept.pop("anyOf", []) if option != {"type": "null"}]
        found.append(
            {
                "name": name,
                "in": "query",
                "required": name in required,
                "description": told.get("description", ""),
                "schema": options[0] if options else kept,
            }
        )
    return found


def _answer(answer: object) -> dict[str, Any]:
    if answer is None:
        return {"description": "Done", "content": {"text/plain": {"schema": {"type": "string"}}}}
    if isinstance(answer, str):  # a media type of its own
        return {"description": "Done", "content": {answer: {"schema": {"type": "string"}}}}
    model = _model(answer)
    schema: dict[str, Any] = {"type": "object"} if model is None else _ref(model)
    if get_origin(answer) is list:
        schema = {"type": "array", "items": schema}
    return {"description": "Done", "content": {"application/json": {"schema": schema}}}


def _problems(one: Operation, *, is_open: bool) -> dict[str, Any]:
    statuses = {*_OF_ALL, *one.problems} - ({401} if is_open else set())
    if one.method != "GET":
        statuses |= set(_OF_CHANGES)
    if "{run_id}" in one.path:
        statuses.add(404)
    content = {"application/problem+json": {"schema": _ref(Problem)}}
    return {str(status): {"description": _WORDS[status], "content": content} for status in sorted(statuses)}


def _model(answer: object) -> type[BaseModel] | None:
    inner = get_args(answer)[0] if get_origin(answer) is list else answer
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None


def _ref(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _REF.format(model=model.__name__)}
