"""Event: what a user emits."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, TypeVar

from agentflow.core.state import Scope
from agentflow.core.values import Json, adopt_mapping, check_text, copy_json
from agentflow.errors import InvalidEventError, InvalidValueError

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
MAX_TEXT_CHARS = 4096
_LATEST = 1e12  # seconds since the epoch: far beyond any calendar, and near enough to be written out
W3C = ("traceparent", "tracestate")  # in the metadata: which trace the event is part of
# In the metadata: who wants the answer. Whoever sends an event again may ask for that elsewhere: it is the same event.
ASKED_BY = ("mqtt_response_topic", "mqtt_correlation", "mqtt_hops")
PASSING = frozenset((*W3C, *ASKED_BY))  # in the metadata, and no part of what the event says
_NO_METADATA: Mapping[str, str] = MappingProxyType({})  # most events have none: they share this
_STEERING = frozenset({"route", "orchestration_override"})  # read from the event, not copied into the state
_NO_DATA: dict[str, Any] = {}  # never changed: each view has copies

Value = TypeVar("Value")


class Stamp(Protocol):
    """What gives a new event its id and its time."""

    def fresh_id(self) -> str:
        """Return a text that no other event has."""

    def time(self) -> float:
        """Return seconds since the epoch."""


class _Content:
    """What all views of an event share. Never changed, but for `id`, which is made when first asked for."""

    __slots__ = ("data", "fault", "id", "is_plain", "metadata", "session_id", "target", "timestamp")

    def __init__(
        self,
        target: str,
        data: Mapping[str, Any],
        metadata: Mapping[str, str],
        session_id: str | None,
        told_id: str | None,
        timestamp: float | None,
    ) -> None:
        self.target = target
        self.data = data
        self.metadata = metadata
        self.session_id = session_id
        self.id = told_id
        self.timestamp = timestamp
        self.fault: InvalidValueError | None = None  # what is wrong with the data; raised when the event is emitted
        self.is_plain = False  # nothing is left to check, nor to take from the metadata


class Event:
    """One thing that happened, addressed to an agent or flow. Its fields are read-only.

    Args:
        target: name of the agent or flow it is meant for; modes other than route may ignore it. "" when there is none.
        data: a JSON object, default `{}`; copied. What is not JSON is refused when the event is emitted.
        metadata: str to str, default `{}`. `route`, `orchestration_override`, `agent_timeout`, `session_id`, `traceparent`
            and `tracestate` have a meaning.
        session_id: events of one session run one after another; None (the default) makes the event its own session.
        id: 1-128 characters of `A-Za-z0-9_.:-`; a fresh one when None.
        timestamp: seconds since the epoch; the present when None.

    A handler's event is a view of its own: changing `event.data` or `event.metadata` reaches nobody else.
    """

    __slots__ = ("_content", "_own", "_own_metadata")

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
        is_bare = timestamp is None and metadata is None and session_id is None and id is None  # nothing to check but target and data
        if timestamp is None and (stamp := Event.stamp) is not None:
            timestamp = stamp.time()
        kept_metadata = _NO_METADATA if metadata is None else _copied(metadata) if isinstance(metadata, Mapping) else metadata
        content = self._content = _Content(target, _NO_DATA, kept_metadata, session_id, id, timestamp)
        if data is not None:
            try:
                content.data = adopt_mapping(data, "event.data")  # the one pass: emit has nothing to copy or check again
                content.is_plain = is_bare and timestamp is not None and type(target) is str and target.isascii()
            except InvalidValueError as fault:
                content.data, content.fault = data, fault
        self._own: dict[str, Any] | None
        self._own_metadata: dict[str, str] | None
        self._own = self._own_metadata = None

    @property
    def target(self) -> str:
        """The agent or flow it is meant for, or ""."""
        return self._content.target

    @property
    def session_id(self) -> str | None:
        """The session it belongs to, or None."""
        return self._content.session_id

    @property
    def timestamp(self) -> float | None:
        """When it happened, in seconds since the epoch; None while nothing tells the time."""
        return self._content.timestamp

    @property
    def id(self) -> str | None:
        """The event's id; None while nothing gives ids."""
        content = self._content
        if content.id is None and Event.stamp is not None:
            content.id = f"event-{Event.stamp.fresh_id()}"  # made late, since few ask; the views share it, so that all tell the same
        return content.id

    @property
    def has_id(self) -> bool:
        """Whether its id was given, or has been made because somebody asked for it."""
        return self._content.id is not None

    @property
    def data(self) -> dict[str, Any]:
        """The event's data; a copy of this view's own, made when first read."""
        own = self._own
        if own is None:
            own = self._own = _copied(self._content.data)
        return own

    @property
    def metadata(self) -> dict[str, str]:
        """The event's metadata; a copy of this view's own, made when first read."""
        own = self._own_metadata
        if own is None:
            own = self._own_metadata = _copied(self._content.metadata)
        return own

    @property
    def kept_data(self) -> Mapping[str, Any]:
        """The data itself, which nobody may change: for those who only look."""
        return self._content.data

    @property
    def kept_metadata(self) -> Mapping[str, str]:
        """The metadata itself, which nobody may change."""
        return self._content.metadata

    @property
    def is_read(self) -> bool:
        """Whether data or metadata of this view were read, so that they may have been changed."""
        return self._own is not None or self._own_metadata is not None

    def view(self) -> Event:
        """Return an equal event whose data can be changed without reaching this one."""
        twin = object.__new__(Event)
        twin._content = self._content
        twin._own = twin._own_metadata = None
        return twin

    def view_with(self, data: Mapping[str, Json]) -> Event:
        """Return a view whose data are a copy of `data`."""
        twin = self.view()
        twin._own = copy_json(dict(data))  # type: ignore[assignment] # noqa: SLF001 - Event's own; a dict gives a dict
        return twin

    def view_in(self, metadata: Mapping[str, str]) -> Event:
        """Return the event as it is, with more metadata."""
        twin = self.view()
        twin._own = None if self._own is None else _copied(self._own)  # noqa: SLF001 - Event's own
        twin._own_metadata = {**self.metadata, **metadata}  # noqa: SLF001
        return twin

    def first_route(self) -> str | None:
        """Return where a route flow starts: `metadata.route`, else the target, else None."""
        metadata = self._content.metadata
        return (metadata.get("route") if metadata else None) or self._content.target or None

    def fields(self, name: str | None) -> dict[str, object]:
        """Return the event as conditions see it; only field `name` when given. Nothing is copied."""
        return {
            "id": self.id,
            "target": self.target,
            "session_id": self.session_id,
            "data": self._content.data if name in (None, "data") else None,
            "metadata": self._content.metadata,
        }

    def to_dict(self) -> dict[str, Json]:
        """Return the event as JSON: id, target, data, metadata, session_id, timestamp."""
        return {
            "id": self.id,
            "target": self.target,
            "data": _copied(self._content.data if self._own is None else self._own),
            "metadata": dict(self._content.metadata if self._own_metadata is None else self._own_metadata),
            "session_id": self.session_id,
            "timestamp": self.timestamp,
        }

    def kept_dict(self) -> dict[str, Json]:
        """Return the event as `to_dict` does, as it was emitted, with the data itself, which nobody may change."""
        content = self._content
        metadata: dict[str, Json] = dict(content.metadata)
        data: dict[str, Json] = content.data  # type: ignore[assignment] # a dict, once accepted
        told = {"id": self.id, "target": content.target, "data": data, "metadata": metadata, "session_id": content.session_id}
        return {**told, "timestamp": content.timestamp}

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
    """Return the event as a run keeps it: checked, stamped where it has no id or time.

    `serial` is unique; the id becomes `event-<serial>` where nothing else gives one. `now` gives seconds since the epoch.

    Raises:
        InvalidEventError: a field is of the wrong kind.
        InvalidValueError: its data is not JSON or over a limit.
    """
    if not isinstance(event, Event):
        raise InvalidEventError(f"emit takes an Event, not {type(event).__name__}", hint='emit(Event("agent", {...}))')
    content = event._content  # noqa: SLF001 - Event's own module
    if content.is_plain and not event.is_read:
        return event  # a run looks at the content alone, which nobody changes
    if type(content.target) is not str:
        raise InvalidEventError(f"event.target is {type(content.target).__name__}, not a string")
    check_text(content.target, "event.target")
    if content.id is not None and not (type(content.id) is str and _ID.fullmatch(content.id)):
        raise InvalidEventError(f"event.id is {content.id!r}", hint="use 1-128 characters of A-Z a-z 0-9 _ . : -")
    if type(content.timestamp) is not float or not abs(content.timestamp) < _LATEST:
        content = _timed(content, now)
    if content.fault is not None and event._own is None:  # noqa: SLF001 - Event's own module
        raise content.fault
    if content.metadata is not _NO_METADATA or content.session_id is not None or event.is_read or Event.stamp is None:
        content = _settled(event, content, serial)
    twin = object.__new__(Event)
    twin._content = content
    twin._own = twin._own_metadata = None
    return twin


def _settled(event: Event, content: _Content, serial: str) -> _Content:
    """Return the content with what its emitter has changed in `data` and `metadata` since, checked."""
    data = content.data if event._own is None else adopt_mapping(event._own, "event.data")  # noqa: SLF001 - Event's own module
    metadata = content.metadata if event._own_metadata is None else event._own_metadata  # noqa: SLF001 - Event's own module
    if metadata is not _NO_METADATA:
        metadata = checked_metadata(metadata, "event.metadata")
    session = metadata.get("session_id") if content.session_id is None else content.session_id
    if session is not None:
        _check_session(session)
    told_id = event.id or f"event-{serial}"
    return _Content(content.target, data, metadata, session, told_id, content.timestamp)


def _timed(content: _Content, now: Callable[[], float]) -> _Content:
    timestamp = now() if content.timestamp is None else _checked_time(content.timestamp)
    timed = _Content(content.target, content.data, content.metadata, content.session_id, content.id, timestamp)
    timed.fault = content.fault
    return timed


def require_no_id(event: object) -> None:
    """Refuse an event with an id, where that is made of the step that emits it.

    Raises:
        InvalidEventError: it has one.
    """
    if isinstance(event, Event) and event.has_id:
        raise InvalidEventError("an event that a handler emits has no id of its own", hint="leave `id` out: it is made of the step's key")


def first_scope(event: Event) -> Scope:
    """Return the state that an accepted event's run begins with: its data, and its metadata but for what steers the run."""
    content = event._content  # noqa: SLF001 - Event's own module
    metadata = content.metadata
    meta: dict[str, object] | None = None
    if metadata:
        meta = {key: told for key, told in metadata.items() if key not in _STEERING}
    return Scope(dict(content.data), meta)


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
    if type(timestamp) not in (int, float) or not abs(timestamp) < _LATEST:  # type: ignore[arg-type]
        raise InvalidEventError(f"event.timestamp is {str(timestamp)[:40]!r}", hint="use seconds since the epoch as a number")
    return float(timestamp)  # type: ignore[arg-type]
