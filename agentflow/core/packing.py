"""Packing: patches and failures as JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from agentflow.core.answered import Answered
from agentflow.core.failure import Failure
from agentflow.core.state import REMOVED, Patch
from agentflow.core.values import Json

NO_FAILURE = Failure("")
_TEXTS = ("type", "code", "agent", "position", "stage")


class MisfitError(ValueError):
    """JSON that has not the shape it should have; who knows where it comes from says so."""


def pack_patch(patch: Patch) -> dict[str, Json]:
    """Return a patch as `{"data", "removed", "removed_at", "meta", "meta_removed", "meta_removed_at"}` without empty parts.

    `removed_at` has the places of removed keys among all, and is there only when one stands before a key that is set: the
    order of keys decides the order of a state, so it comes back as it was. `same` and `sent`, of an Answered, have what it
    returned that was there already, and its messages as `[to, body]`.
    """
    row: dict[str, Json] = {}
    if patch.data:
        _pack_changes(row, patch.data, "data", "removed")
    if patch.meta:
        _pack_changes(row, patch.meta, "meta", "meta_removed")
    if isinstance(patch, Answered):
        if patch.same:
            row["same"] = dict(patch.same)
        if patch.sent:
            row["sent"] = [[to, body] for to, body in patch.sent]
    return row


def _pack_changes(row: dict[str, Json], changes: dict[str, object], kept: str, removed: str) -> None:
    if REMOVED not in changes.values():
        row[kept] = cast("Json", changes)
        return
    gone = [key for key, value in changes.items() if value is REMOVED]
    left = {key: value for key, value in changes.items() if value is not REMOVED}
    if left:
        row[kept] = cast("Json", left)
    row[removed] = cast("Json", gone)
    places = [at for at, value in enumerate(changes.values()) if value is REMOVED]
    if places[0] < len(left):
        row[f"{removed}_at"] = cast("Json", places)


def unpack_patch(row: object) -> Patch:
    """Return the patch that `pack_patch` has packed.

    Raises:
        MisfitError: it has another shape.
    """
    table = mapping(row)
    if not table.keys() <= {"data", "removed", "removed_at", "meta", "meta_removed", "meta_removed_at", "same", "sent"}:
        raise MisfitError(f"a patch has no {', '.join(sorted(table))}")
    meta = _unpack_changes(table, "meta", "meta_removed")
    if not all(type(value) is str or value is REMOVED for value in meta.values()):
        raise MisfitError("metadata is not text")
    patch = Patch(_unpack_changes(table, "data", "removed"), meta or None, "removed" in table)
    if "same" not in table and "sent" not in table:
        return patch
    sent = tuple(_unpack_message(row) for row in cast("list[Json]", table.get("sent", [])))
    return Answered(patch, mapping(table.get("same", {})), sent)


def _unpack_message(row: Json) -> tuple[str, Json]:
    if not isinstance(row, list) or len(row) != 2:
        raise MisfitError("a message that is none")
    return text(row[0]), row[1]


def _unpack_changes(table: dict[str, Json], kept: str, removed: str) -> dict[str, object]:
    left = cast("dict[str, object]", mapping(table.get(kept, {})))
    if removed not in table:
        return left
    gone = texts(table[removed])
    places = table.get(f"{removed}_at")
    if places is None:
        return {**left, **dict.fromkeys(gone, REMOVED)}
    if not isinstance(places, list) or len(places) != len(gone):
        raise MisfitError(f"{removed}_at does not fit {removed}")
    entries: list[tuple[str, object]] = list(left.items())
    for at, key in zip(places, gone, strict=True):
        entries.insert(whole(at), (key, REMOVED))
    return dict(entries)


def pack_failure(failure: Failure) -> dict[str, Json]:
    """Return a failure as JSON without its exception and without what is empty."""
    row: dict[str, Json] = {"message": failure.message}
    for name in _TEXTS:
        value = getattr(failure, name)
        if value:
            row[name] = value
    if failure.attempts != 1:
        row["attempts"] = failure.attempts
    if failure.kinds:
        row["kinds"] = list(failure.kinds)
    if failure.told_category:
        row["category"] = failure.told_category
    if failure.told_severity:
        row["severity"] = failure.told_severity
    return row


def unpack_failure(row: object) -> Failure:
    """Return the failure that `pack_failure` has packed; its exception is None.

    Raises:
        MisfitError: it has another shape.
    """
    table = mapping(row)
    type_, code, agent, position, stage = (text(table.get(name, "")) for name in _TEXTS)
    return Failure(
        *(text(table.get("message")), type_, code, agent, position, stage),
        whole(table.get("attempts", 1)),
        texts(table.get("kinds", [])),
        told_category=text(table.get("category", "")),
        told_severity=text(table.get("severity", "")),
    )


# --- what a value is taken for ---


def mapping(value: object) -> dict[str, Json]:
    """Return a JSON object, or refuse anything else.

    Raises:
        MisfitError: it is none.
    """
    if type(value) is not dict:
        raise MisfitError(f"{type(value).__name__} in the place of an object")
    return cast("dict[str, Json]", value)


def text(value: object) -> str:
    """Return text, or refuse anything else.

    Raises:
        MisfitError: it is none.
    """
    if type(value) is not str:
        raise MisfitError(f"{type(value).__name__} in the place of text")
    return value


def whole(value: object) -> int:
    """Return a whole number within 64 bits that is not negative, or refuse anything else.

    Raises:
        MisfitError: it is none.
    """
    if type(value) is not int or not 0 <= value < 2**63:
        raise MisfitError(f"{type(value).__name__} in the place of a whole number")
    return value


def number(value: object) -> float:
    """Return a number, or refuse anything else.

    Raises:
        MisfitError: it is none.
    """
    if type(value) is not float and (type(value) is not int or not -(2**63) <= value < 2**63):
        raise MisfitError(f"{type(value).__name__} in the place of a number")
    return value


def texts(value: object) -> tuple[str, ...]:
    """Return a list of texts, or refuse anything else.

    Raises:
        MisfitError: it is none.
    """
    if type(value) is not list or not all(type(item) is str for item in value):
        raise MisfitError("not a list of texts")
    return tuple(value)


def sound(row: Mapping[str, object], names: frozenset[str]) -> None:
    """Refuse an object that has keys nobody knows.

    Raises:
        MisfitError: it has.
    """
    if not row.keys() <= names:
        raise MisfitError(f"unknown {', '.join(sorted(row.keys() - names))}")
