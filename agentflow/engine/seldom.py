"""Seldom: a field that few objects of a kind ever change, and that costs the others nothing."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar, overload

Value = TypeVar("Value")


class Changing(Protocol):
    """What has such fields: `changed` holds those that were set, by name; None while there are none."""

    changed: dict[str, Any] | None


class Seldom(Generic[Value]):
    """A field whose first value all objects share, so it must be one that nobody changes in place.

    Runs and steps are made for each event: a field that is set when they are made costs all of them for what few need.
    """

    def __init__(self, first: Value) -> None:
        self._first = first

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, thing: None, owner: type) -> Seldom[Value]: ...

    @overload
    def __get__(self, thing: Changing, owner: type) -> Value: ...

    def __get__(self, thing: Changing | None, owner: type) -> Seldom[Value] | Value:
        if thing is None:
            return self
        return self._first if thing.changed is None else thing.changed.get(self._name, self._first)

    def __set__(self, thing: Changing, value: Value) -> None:
        if thing.changed is None:
            thing.changed = {}
        thing.changed[self._name] = value
