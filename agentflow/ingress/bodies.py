"""Bodies: what a request says, read as JSON without any of its loose ends, and into the shape that its route takes."""

from __future__ import annotations

import json
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from agentflow.core.values import adopt_mapping
from agentflow.errors import InvalidValueError
from agentflow.ingress.problems import RefusedError, refused

Model = TypeVar("Model", bound=BaseModel)

_MOST_TOLD = 5


def mapping_of(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a body is; {} for an empty one.

    Raises:
        RefusedError: it is no JSON, or no object; a key stands there twice; a number is none that every reader keeps; or it
            is deeper, or has more values or longer keys than the limits allow.
    """
    if not body:
        return {}
    try:
        found = json.loads(body.decode(), object_pairs_hook=_pairs, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise _no_json(f"the body is no UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise _no_json("the body is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise _no_json(f"the body is no JSON: {error.msg} at character {error.pos}") from None
    except ValueError as error:
        raise _no_json(f"the body is no JSON: {str(error)[:200]}") from None
    if not isinstance(found, dict):
        raise _no_json("the body is no JSON object")
    return found


def model_of(kind: type[Model], body: bytes) -> Model:
    """Return a body as the model that a route takes.

    Raises:
        RefusedError: it is no JSON, or of another shape.
    """
    return checked(kind, mapping_of(body))


def checked(kind: type[Model], given: dict[str, Any]) -> Model:
    """Return what was given as a model.

    Raises:
        RefusedError: it has another shape; every fault is named.
    """
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        told = "; ".join(f"{_place(fault['loc'])}: {fault['msg']}" for fault in faults[:_MOST_TOLD])
        more = f"; and {len(faults) - _MOST_TOLD} more" if len(faults) > _MOST_TOLD else ""
        raise refused(422, "AF0816", f"{told}{more}") from None


def adopted(values: dict[str, Any], path: str) -> dict[str, Any]:
    """Return JSON values that are within all limits.

    Raises:
        RefusedError: they are not; the path of the first that is not is named.
    """
    try:
        return adopt_mapping(values, path)
    except InvalidValueError as error:
        raise refused(422, error.code, error.message, error.hint) from None


def _place(path: tuple[int | str, ...]) -> str:
    text = ".".join(str(part)[:64] for part in path)
    return text.encode("utf-8", "backslashreplace").decode() or "the body"


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:64]!a} stands there twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _no_json(told: str) -> RefusedError:
    return refused(400, "AF0815", told)
