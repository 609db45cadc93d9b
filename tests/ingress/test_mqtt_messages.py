"""Messages without a broker: whatever comes is an event or is refused, and what it is known by."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("aiomqtt")

from agentflow.config.topics import filter_fault, overlap, takes, topic_fault
from agentflow.core.event import Event, accept
from agentflow.errors import InvalidEventError, InvalidValueError
from agentflow.ingress.manual_ack import Delivery
from agentflow.ingress.mqtt_messages import MessageError, Reader, key_of, lasting_id, reply_of

READER = Reader({"in/+": "echo", "far/#": "other"})
LEVEL = st.sampled_from(["a", "b", "", "$x", "+", "#"])
TEXT = st.text(max_size=20)
DELIVERIES = st.builds(
    Delivery,
    topic=st.one_of(st.sampled_from(["in/1", "far/1/2", "far"]), TEXT),
    payload=st.one_of(
        st.binary(max_size=200), st.recursive(st.none() | st.floats() | TEXT, st.lists).map(lambda one: json.dumps({"a": one}).encode())
    ),
    mid=st.integers(0, 65_535),
    is_again=st.booleans(),
    is_retained=st.booleans(),
    response_topic=st.one_of(st.just(""), st.sampled_from(["in/1", "out", "$SYS/a"]), TEXT),
    correlation=st.binary(max_size=300),
    user=st.lists(st.tuples(st.sampled_from(["event_id", "session_id", "route", "agentflow_hops", "x"]) | TEXT, TEXT), max_size=4).map(
        tuple
    ),
)


@given(DELIVERIES)
def test_every_message_is_an_event_or_a_dead_letter(delivery: Delivery) -> None:
    """Whatever a publisher sends: no other error comes of it, the target is the table's, and its refusal can be recorded."""
    try:
        event = READER.event_of(delivery, "told")
        assert event.target in ("echo", "other")
        assert {"route", "orchestration_override"}.isdisjoint(event.metadata)
        reply = reply_of(event.metadata)
        assert reply is not None
        assert (delivery.response_topic, delivery.correlation if delivery.response_topic else b"") == (reply.topic, reply.correlation)
        accept(event, "1", lambda: 1.0)
    except (MessageError, InvalidEventError, InvalidValueError) as error:
        refused = READER.refused(delivery, MessageError(str(error)))
        assert json.dumps(accept(refused, "1", lambda: 1.0).to_dict())


@pytest.mark.parametrize("metadata", [{"mqtt_topic": "a", "mqtt_correlation": "x"}, {"mqtt_topic": "a", "mqtt_hops": "many"}])
def test_what_only_looks_as_if_it_came_by_mqtt_is_answered_nowhere(metadata: dict[str, str]) -> None:
    """An event that was sent over HTTP may have any metadata."""
    assert reply_of(metadata) is None
    assert reply_of({}) is None


def test_a_message_is_known_by_all_that_it_says() -> None:
    """Its key tells messages apart by topic, payload, properties and number, and is the same for the same one."""
    one: dict[str, Any] = {"topic": "in/1", "payload": b"{}", "mid": 7}
    others = [{"topic": "in/2"}, {"payload": b"{ }"}, {"mid": 8}, {"user": (("a", "b"),)}, {"response_topic": "r"}, {"correlation": b"c"}]
    keys = [key_of(Delivery(**{**one, **other})) for other in ({}, *others)]
    assert len(keys) == len(set(keys))
    assert keys[0] == key_of(Delivery(**one, is_again=True))


def test_what_lasts_is_told_from_all_others_without_its_number() -> None:
    """Correlation data and retained content are the same whatever number they come under; anything else may be one of many alike."""
    assert lasting_id(Delivery("in/1", b"{}", 1)) is None
    for how in ({"correlation": b"1"}, {"is_retained": True}):
        ids = {lasting_id(Delivery("in/1", b"{}", mid, **how)) for mid in (1, 2)}  # type: ignore[arg-type]
        assert len(ids) == 1
        assert accept(Event("x", id=ids.pop()), "1", lambda: 1.0)


@given(st.lists(LEVEL, min_size=1, max_size=4).map("/".join), st.lists(LEVEL, min_size=1, max_size=4).map("/".join))
def test_two_filters_overlap_exactly_when_some_topic_is_taken_by_both(first: str, second: str) -> None:
    """Looked for among all topics of up to five levels over three words."""
    if filter_fault(first) or filter_fault(second):
        return
    topics = [""]
    found = False
    for _ in range(5):
        topics = [f"{topic}/{word}" if topic else word for topic in topics for word in ("a", "b", "c")]
        found = found or any(takes(first, topic) and takes(second, topic) for topic in topics)
    has_odd = any(level in ("", "$x") for level in (*first.split("/"), *second.split("/")))
    assert overlap(first, second) or not found
    assert found or has_odd or not overlap(first, second)


@pytest.mark.parametrize(
    ("pattern", "topic", "is_taken"),
    [
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/+", "a", False),
        ("a/+", "a/", True),
        ("a/+/c", "a/b/c", True),
        ("a/+", "a/b/c", False),
        ("+/a", "$SYS/a", False),
        ("A", "a", False),
    ],
)
def test_a_filter_takes_what_a_broker_would_send_for_it(pattern: str, topic: str, is_taken: bool) -> None:
    """`+` is one level, `#` all that follow and none; the broker's own topics are for nobody."""
    assert is_taken is takes(pattern, topic)


@pytest.mark.parametrize("topic", ["", "a/+", "#", "$SYS", "a\0", "a\n", "a" * 1025, "/" * 64])
def test_nothing_is_published_to_what_is_no_topic(topic: str) -> None:
    """Wildcards, control characters and the broker's own topics are refused."""
    assert topic_fault(topic)
