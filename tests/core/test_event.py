"""Events: what an emitter may give, what a run keeps, and what a handler sees."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest

from agentflow.core.event import Event, accept
from agentflow.errors import InvalidEventError, InvalidValueError


@pytest.fixture(autouse=True)
def _no_stamp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave events without id and time, as the pure core makes them."""
    monkeypatch.setattr(Event, "stamp", None)


def taken(event: Event) -> Event:
    return accept(event, "1", lambda: 12.5)


def test_accepted_event_is_stamped() -> None:
    """An event without id and time gets them when it is accepted; given ones are kept."""
    event = taken(Event("a"))
    assert (event.id, event.timestamp, event.session_id, event.data, dict(event.metadata)) == ("event-1", 12.5, None, {}, {})
    event = taken(Event("a", id="order:7", timestamp=3, session_id="s"))
    assert (event.id, event.timestamp, event.session_id) == ("order:7", 3.0, "s")


def test_accepted_event_is_a_copy() -> None:
    """What the emitter does to his objects after emit reaches nobody."""
    data: dict[str, Any] = {"items": [1]}
    metadata = {"k": "v"}
    event = taken(Event("a", data, metadata))
    data["items"].append(2)
    metadata["k"] = "w"
    assert (event.data, event.metadata) == ({"items": [1]}, {"k": "v"})


def test_emitter_may_change_data_until_emit() -> None:
    """What was put into `event.data` before emit is part of the event, in JSON too."""
    event = Event("a", MappingProxyType({"n": 1}))
    event.data["m"] = 2
    assert event.data == {"n": 1, "m": 2}
    assert event.to_dict()["data"] == {"n": 1, "m": 2}
    assert taken(event).data == {"n": 1, "m": 2}


def test_view_has_data_of_its_own() -> None:
    """Two views of one event do not see each other's changes, nor does the event."""
    event = taken(Event("a", {"items": [1]}, {"k": "v"}, session_id="s"))
    first, second = event.view(), event.view()
    first.data["items"].append(2)
    assert (second.data, event.data) == ({"items": [1]}, {"items": [1]})
    assert (first.id, first.target, first.session_id, first.timestamp, first.metadata) == ("event-1", "a", "s", 12.5, {"k": "v"})


def test_metadata_is_each_views_own() -> None:
    """What one view's metadata is changed to, no other view sees; before emit it is part of the event."""
    event = Event("a", metadata={"k": "v"})
    event.metadata["n"] = "1"
    first, second = taken(event).view(), taken(event).view()
    first.metadata["k"] = "w"
    assert {"k": "v", "n": "1"} == second.metadata == event.to_dict()["metadata"]


def test_event_keeps_copies_of_what_it_was_given() -> None:
    """What is done to the given data and metadata after the event was made does not reach it."""
    data: dict[str, Any] = {"items": [1]}
    metadata = {"k": "v"}
    event = Event("a", data, metadata)
    data["items"].append(2)
    metadata["k"] = "w"
    assert ({"items": [1]}, {"k": "v"}) == (event.data, event.metadata)


def test_event_that_holds_itself_is_refused_at_emit() -> None:
    """Data that no copy can be made of is no error when the event is made, and one with its path when it is emitted."""
    data: dict[str, Any] = {}
    data["self"] = data
    with pytest.raises(InvalidValueError, match=r"event\.data\.self"):
        taken(Event("a", data))


def test_events_are_equal_when_all_they_say_is() -> None:
    """An event equals the one made from its JSON, and no other."""
    event = Event("a", {"n": 1}, {"k": "v"}, id="e", timestamp=1.0, session_id="s")
    again = Event.from_dict(event.to_dict())
    assert event == again
    assert {event} == {again}
    assert event != Event("a", {"n": 2}, {"k": "v"}, id="e", timestamp=1.0, session_id="s")
    assert event != "e"


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (Event(3), "event.target is int"),  # type: ignore[arg-type]
        (Event("a\ud800"), "event.target is a str with a lone surrogate"),
        (Event("a", [1]), "event.data is a list, not a mapping"),  # type: ignore[arg-type]
        (Event("a", {"t": {1}}), "event.data.t is a set"),
        (Event("a", metadata=["x"]), "event.metadata is a list, not a mapping"),  # type: ignore[arg-type]
        (Event("a", metadata={"n": 1}), "event.metadata.n is int, not a string"),  # type: ignore[dict-item]
        (Event("a", metadata={"n": "\ud800"}), "event.metadata.n is a str with a lone surrogate"),
        (Event("a", session_id=""), "event.session_id is ''"),
        (Event("a", session_id=5), "event.session_id is '5'"),  # type: ignore[arg-type]
        (Event("a", session_id="s" * 4097), "event.session_id is 'ssss"),
        (Event("a", metadata={"session_id": ""}), "event.session_id is ''"),
        (Event("a", session_id="\ud800"), "event.session_id is a str with a lone surrogate"),
        (Event("a", id=""), "event.id is ''"),
        (Event("a", id="a b"), "event.id is 'a b'"),
        (Event("a", id="x" * 129), "event.id is 'xxx"),
        (Event("a", id=7), "event.id is 7"),  # type: ignore[arg-type]
        (Event("a", timestamp="now"), "event.timestamp is 'now'"),  # type: ignore[arg-type]
        (Event("a", timestamp=float("nan")), "event.timestamp is 'nan'"),
        (Event("a", timestamp=1e12), "event.timestamp is"),
        (Event("a", timestamp=True), "event.timestamp is 'True'"),
        ({"target": "a"}, "emit takes an Event, not dict"),
        (None, "emit takes an Event, not NoneType"),
    ],
)
def test_event_that_is_not_valid_is_refused(event: Any, told: str) -> None:
    """Each field of the wrong kind is refused at emit, naming the field and what stands there."""
    with pytest.raises((InvalidEventError, InvalidValueError)) as caught:
        taken(event)
    assert caught.value.message.startswith(told)
    assert caught.value.code in ("AF0301", "AF0302")


def test_session_may_stand_in_the_metadata() -> None:
    """`metadata.session_id` names the session of an event that has none of its own."""
    assert taken(Event("a", metadata={"session_id": "s"})).session_id == "s"
    assert taken(Event("a", metadata={"session_id": "s"}, session_id="t")).session_id == "t"


@pytest.mark.parametrize(
    ("event", "route"),
    [(Event("a"), "a"), (Event("a", metadata={"route": "b"}), "b"), (Event("a", metadata={"route": ""}), "a"), (Event(""), None)],
)
def test_route_flows_start_at_metadata_or_target(event: Event, route: str | None) -> None:
    """A route flow starts at `metadata.route`, else at the target."""
    assert event.first_route() == route


def test_event_round_trips_as_json() -> None:
    """An event survives JSON text whole."""
    event = taken(Event("a", {"items": [1, {"é": None}]}, {"k": "v"}, session_id="s"))
    copy = Event.from_dict(json.loads(json.dumps(event.to_dict())))
    assert copy.to_dict() == event.to_dict()


def test_event_from_few_keys() -> None:
    """Keys that are missing or null have their defaults."""
    assert Event.from_dict({"target": "a", "data": None}).to_dict() == Event("a").to_dict()


@pytest.mark.parametrize(("row", "told"), [([1], "not list"), ("x", "not str"), ({"targt": "a", "x": 1}, "no key 'targt', 'x'")])
def test_row_that_is_no_event_is_refused(row: Any, told: str) -> None:
    """A row of another shape is refused, naming what an event does not have."""
    with pytest.raises(InvalidEventError, match=told):
        Event.from_dict(row)


def test_event_is_shown_by_its_address() -> None:
    """The repr of an event shows target, id and session, and no data."""
    assert repr(Event("a", {"secret": 1}, id="e", session_id="s")) == "Event('a', id='e', session_id='s')"
