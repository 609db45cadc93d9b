"""Event: what a user emits."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, TypeVar

from agentflow.core.values import Json, adopt_mapping, check_text, copy_json
from agentflow.errors import InvalidEventError, InvalidValueError

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
MAX_TEXT_CHARS = 4096
_NO_METADATA: Mapping[str, str] = MappingProxyType({})  # most events have none: they share this


Value = TypeVar("Value")


class Stamp(Protocol):
    """What gives a new event its id and its time."""

    def fresh_id(self) -> str:
        """Return a text that no other event has."""

    def time(self) -> float:
        """Return seconds since the epoch."""


class Event:
    """One thing that happened, addressed to an agent or flow.

    Args:
        target: name of the agent or flow it is meant for; modes other than route may ignore it. "" when there is none.
        data: a JSON object, default `{}`; copied. What is not JSON is refused when the event is emitted.
        metadata: str to str, default `{}`. `route`, `orchestration_override`, `agent_timeout` and `session_id` have a meaning.
        session_id: events of one session run one after another; None (the default) makes the event its own session.
        id: 1-128 characters of `A-Za-z0-9_.:-`; a fresh one when None.
        timestamp: seconds since the epoch; the present when None.

    A handler's event is a view of its own: changing `event.data` or `event.metadata` reaches nobody else.
    """

    __slots__ = ("_data", "_fault", "_id", "_metadata", "_own", "_own_metadata", "session_id", "target", "timestamp")

    # Gives fresh ids and the time: the core has neither. agentflow.system puts its clock here.
    stamp: ClassVar[Stamp | None] = None

    def __init__(
        self,
        target: str = "",
        data: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        *,
        session_id: str | None = None,
        id: str | None = None,  # noqa: A002 - the field's standard name
        timestamp: float | None = None,
    ) -> None:
        self.target = target
        self._fault: InvalidValueError | None = None
        self._data: Mapping[str, Any] = {}
        if data is not None:
            try:
                self._data = adopt_mapping(data, "event.data")  # the one pass: emit has nothing to copy or check again
            except InvalidValueError as fault:
                self._data, self._fault = data, fault
        self._own: dict[str, Any] | None = None
        self._own_metadata: dict[str, str] | None = None
        self._metadata: Mapping[str, str] = (
            _NO_METADATA if metadata is None else _copied(metadata) if isinstance(metadata, Mapping) else metadata
        )
        self.session_id = session_id
        stamp = Event.stamp
        # A list stands for an id to come: made when somebody asks, and shared with the copies, so that all tell the same.
        self._id: str | list[str] | None = id if id is not None or stamp is None else []
        self.timestamp = timestamp if timestamp is not None or stamp is None else stamp.time()

    @property
    def id(self) -> str | None:
        """The event's id; None while nothing gives ids."""
        told = self._id
        if type(told) is not list:
            return told  # type: ignore[return-value]
        if not told:
            told.append(f"event-{Event.stamp.fresh_id()}" if Event.stamp is not None else "event")
        return told[0]

    @property
    def data(self) -> dict[str, Any]:
        """The event's data; a copy of this view's own, made when first read."""
        own = self._own
        if own is None:
            own = self._own = _copied(self._data)
        return own

    @property
    def metadata(self) -> dict[str, str]:
        """The event's metadata; a copy of this view's own, made when first read."""
        own = self._own_metadata
        if own is None:
            own = self._own_metadata = _copied(self._metadata)
        return own

    def view(self) -> Event:
        """Return an equal event whose data can be changed without reaching this one."""
        twin = object.__new__(Event)
        twin.target = self.target
        twin._data = self._data
        twin._fault = None
        twin._own = twin._own_metadata = None
        twin._metadata = self._metadata
        twin.session_id = self.session_id
        twin._id = self._id
        twin.timestamp = self.timestamp
        return twin

    def first_route(self) -> str | None:
        """Return where a route flow starts: `metadata.route`, else the target, else None."""
        metadata = self._metadata
        return (metadata.get("route") if metadata else None) or self.target or None

    def fields(self, name: str | None) -> dict[str, object]:
        """Return the event as conditions see it; only field `name` when given. Nothing is copied."""
        return {
            "id": self.id,
            "target": self.target,
            "session_id": self.session_id,
            "data": self._data if name in (None, "data") else None,
            "metadata": self._metadata,
        }

    def to_dict(self) -> dict[str, Json]:
        """Return the event as JSON: id, target, data, metadata, session_id, timestamp."""
        return {
            "id": self.id,
            "target": self.target,
            "data": _copied(self._data if self._own is None else self._own),
            "metadata": dict(self._metadata if self._own_metadata is None else self._own_metadata),
            "session_id": self.session_id,
            "timestamp": self.timestamp,
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, object]) -> Event:
        """Build an event from `to_dict`'s form; keys may be missing, unknown ones are refused. Types are checked at emit.

        Raises:
            InvalidEventError: the row is no object, or has a key that an event does not have.
        """
        if not isinstance(row, Mapping):
            raise InvalidEventError(f"an event is a JSON object, not {type(row).__name__}", hint='e.g. {"target": "x", "data": {}}')
        unknown = set(row) - {"id", "target", "data", "metadata", "session_id", "timestamp"}
        if unknown:
            raise InvalidEventError(
                f"an event has no key {', '.join(sorted(map(repr, unknown)))}",
                hint="keys are id, target, data, metadata, session_id, timestamp",
            )
        fields = {key: value for key, value in row.items() if value is not None}
        return cls(**fields)  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        return self.to_dict() == other.to_dict() if isinstance(other, Event) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"Event({self.target!r}, id={self.id!r}, session_id={self.session_id!r})"


def _copied(given: Mapping[str, Value]) -> dict[str, Value]:
    """Copy what a caller gave, as far as it is data at all: what is not is refused at emit, with its path."""
    try:
        return copy_json(given if type(given) is dict else dict(given))  # type: ignore[arg-type, return-value]
    except (RecursionError, TypeError, ValueError):
        return given  # type: ignore[return-value]


def accept(event: Event, serial: str, now: Callable[[], float]) -> Event:
    """Return the event as a run keeps it: checked, copied, stamped where it has no id or time of its own.

    `serial` is unique; the id becomes `event-<serial>`. `now` gives seconds since the epoch.

    Raises:
        InvalidEventError: a field is of the wrong kind.
        InvalidValueError: its data is not JSON or over a limit.
    """
    if not isinstance(event, Event):
        raise InvalidEventError(f"emit takes an Event, not {type(event).__name__}", hint='emit(Event("agent", {...}))')
    twin = object.__new__(Event)
    if type(event.target) is not str:
        raise InvalidEventError(f"event.target is {type(event.target).__name__}, not a string")
    check_text(event.target, "event.target")
    twin.target = event.target
    if event._own is not None:  # noqa: SLF001 - Event's own module
        twin._data = adopt_mapping(event._own, "event.data")  # noqa: SLF001
    elif event._fault is not None:  # noqa: SLF001
        raise event._fault  # noqa: SLF001
    else:
        twin._data = event._data  # noqa: SLF001 - nobody changes it in place
    twin._fault = None
    twin._own = twin._own_metadata = None
    metadata = event._metadata if event._own_metadata is None else event._own_metadata  # noqa: SLF001 - Event's own module
    twin._metadata = _NO_METADATA if metadata is _NO_METADATA else checked_metadata(metadata, "event.metadata")
    session = event.session_id
    if session is None and metadata:
        session = twin._metadata.get("session_id")
    if session is not None:
        _check_session(session)
    twin.session_id = session
    told = event._id  # noqa: SLF001 - Event's own module
    if told is None:
        told = "event-" + serial
    elif type(told) is not list and not (type(told) is str and _ID.fullmatch(told)):
        raise InvalidEventError(f"event.id is {told!r}", hint="use 1-128 characters of A-Z a-z 0-9 _ . : -")
    twin._id = told
    twin.timestamp = now() if event.timestamp is None else _checked_time(event.timestamp)
    return twin


def checked_metadata(metadata: object, path: str) -> dict[str, str]:
    """Return a copy of a str to str mapping.

    Raises:
        InvalidValueError: it is no mapping, or an entry is no string.
    """
    copy = adopt_mapping(metadata, path)
    for key, value in copy.items():
        if type(value) is not str:
            raise InvalidValueError(f"{path}.{key} is {type(value).__name__}, not a string", hint="metadata is text: use data for the rest")
    return copy  # type: ignore[return-value]


def _check_session(session: object) -> None:
    if type(session) is not str or not 0 < len(session) <= MAX_TEXT_CHARS:
        raise InvalidEventError(f"event.session_id is {str(session)[:40]!r}", hint="use a non-empty string")
    check_text(session, "event.session_id")


def _checked_time(timestamp: object) -> float:
    if type(timestamp) not in (int, float) or not abs(timestamp) < 1e12:  # type: ignore[arg-type]
        raise InvalidEventError(f"event.timestamp is {str(timestamp)[:40]!r}", hint="use seconds since the epoch as a number")
    return float(timestamp)  # type: ignore[arg-type]
