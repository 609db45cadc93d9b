"""Messages: from what a broker delivers to the event that it is, or to why it is none. A publisher is never trusted.

Whom an event is for is said by the table `topics` alone; a message cannot name an agent, a flow or a route.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from agentflow.config.topics import takes, topic_fault
from agentflow.core.event import ASKED_BY, Event
from agentflow.core.values import Json
from agentflow.errors import AgentflowError
from agentflow.ingress.bodies import mapping_of
from agentflow.ingress.guards import MOST_BODY_BYTES
from agentflow.ingress.manual_ack import Delivery, UserProperties
from agentflow.ingress.models import EVENT_ID
from agentflow.ingress.problems import RefusedError
from agentflow.ingress.service import OVERRIDE

EVENT_ID_KEY, SESSION_KEY, HOPS_KEY = "event_id", "session_id", "agentflow_hops"
TOPIC = "mqtt_topic"  # in an event's metadata, as are these:
REPLY_TO, CORRELATION, HOPS = ASKED_BY
MOST_HOPS = 8  # from result to event to result
LARGEST_USER = 16 * 1024  # bytes of all user properties together
LONGEST_CORRELATION = 256
KEPT_BYTES = 64 * 1024  # of a payload that is no event
_DIGEST = 16
_ID = re.compile(EVENT_ID)
_STEERING = frozenset({"route", OVERRIDE})


class MessageError(AgentflowError):
    """A message cannot be taken as an event; it is kept as a dead letter, and acknowledged."""

    code = "AF0831"

    def __init__(self, message: str, *, hint: str = "", code: str = "AF0831") -> None:
        super().__init__(message, hint=hint)
        self.code = code


@dataclass(frozen=True, slots=True)
class Reply:
    """Where a result goes: to a topic, with what its asker knows it by. `hops` is how many results led to the event."""

    topic: str
    correlation: bytes = b""
    hops: int = 0


class Reader:
    """Reads messages.

    Args:
        topics: by filter, whom an event is for.
    """

    def __init__(self, topics: Mapping[str, str]) -> None:
        self._topics = topics

    def event_of(self, delivery: Delivery, told_id: str) -> Event:
        """Return the event that a message is, under its own id or else `told_id`.

        Raises:
            MessageError: it is none.
        """
        if delivery.response_topic:
            self.check_reply(delivery)
        metadata = _metadata(delivery)
        event_id = metadata.pop(EVENT_ID_KEY, None)
        if event_id is not None and not _ID.fullmatch(event_id):
            raise MessageError("the user property event_id is no id", hint="1-128 characters of A-Z a-z 0-9 _ . : -")
        if len(delivery.payload) > MOST_BODY_BYTES:
            raise MessageError(f"the payload has {len(delivery.payload):,} bytes; the limit is {MOST_BODY_BYTES:,}")
        try:
            data = mapping_of(delivery.payload)
        except RefusedError as error:
            raise MessageError(error.problem.detail.replace("the body", "the payload"), code=error.problem.code) from None
        return Event(self.target_of(delivery.topic), data, metadata, session_id=metadata.pop(SESSION_KEY, None), id=event_id or told_id)

    def target_of(self, topic: str) -> str:
        """Return whom a topic's events are for.

        Raises:
            MessageError: no filter takes it.
        """
        target = next((target for pattern, target in self._topics.items() if takes(pattern, topic)), None)
        if target is None or topic_fault(topic):
            raise MessageError("the message's topic is none that was subscribed to")
        return target

    def check_reply(self, delivery: Delivery) -> None:
        """Refuse a message whose answer could not be published, or would come back as an event.

        Raises:
            MessageError: it is one.
        """
        fault = topic_fault(delivery.response_topic)
        if fault:
            raise MessageError(f"its response topic {fault}")
        if not self.may_answer(delivery.response_topic):
            raise MessageError(
                "its response topic is one whose messages are events here: the answer would be the next event", code="AF0832"
            )
        if len(delivery.correlation) > LONGEST_CORRELATION:
            raise MessageError(f"its correlation data are longer than {LONGEST_CORRELATION} bytes")

    def may_answer(self, topic: str) -> bool:
        """Say whether something can be published to a topic that does not come back."""
        return not topic_fault(topic) and not any(takes(pattern, topic) for pattern in self._topics)

    def refused(self, delivery: Delivery, error: MessageError) -> Event:
        """Return what is recorded of a message that is no event; the same message has the same id, however often it comes."""
        kept = delivery.payload[:KEPT_BYTES]
        told: dict[str, Json] = {
            "topic": _shown(delivery.topic),
            "bytes": len(delivery.payload),
            "code": error.code,
            "message": error.message,
        }
        try:
            text = kept.decode()
            told["payload"] = text
        except UnicodeDecodeError:
            told["payload_base64"] = base64.b64encode(kept).decode()
        return Event("", {"refused": told}, {TOPIC: _shown(delivery.topic)}, id=f"mqtt-refused-{_digest(delivery)}")


def key_of(delivery: Delivery) -> str:
    """Return what a message is known by when the broker sends it again: its number, and all that it says."""
    return f"mqtt-{_digest(delivery)}-{delivery.mid}"


def lasting_id(delivery: Delivery) -> str | None:
    """Return the id of a message that can be told from every other one by what it says; None where it may be one of many alike."""
    if delivery.correlation:
        return f"mqtt-asked-{_digest(delivery)}"
    return f"mqtt-retained-{_digest(delivery)}" if delivery.is_retained else None


def reply_of(metadata: Mapping[str, str]) -> Reply | None:
    """Return where the result of an event goes that came by MQTT, None for any other; the topic is "" where nobody has asked."""
    if TOPIC not in metadata:
        return None
    try:
        correlation, hops = base64.b64decode(metadata.get(CORRELATION, "")), int(metadata.get(HOPS, "0"))
    except ValueError:
        return None  # it did not come by MQTT, whatever it says
    return Reply(metadata.get(REPLY_TO, ""), correlation, hops)


def _metadata(delivery: Delivery) -> dict[str, str]:
    """Return what goes with an event: the user properties, and how it came.

    Raises:
        MessageError: a property steers what only the configuration does, stands there twice, or all are too large.
    """
    if sum(len(name) + len(text) for name, text in delivery.user) > LARGEST_USER:
        raise MessageError(f"its user properties are longer than {LARGEST_USER:,} characters")
    told = dict(delivery.user)
    if len(told) != len(delivery.user):
        raise MessageError("it has a user property twice")
    for name in told:
        if name in _STEERING or name.startswith("mqtt_"):
            raise MessageError(f"it has the user property {name[:64]!a}, which no publisher may set", code="AF0821")
    hops = _hops(told.pop(HOPS_KEY, "0"))
    told[TOPIC] = delivery.topic
    if hops:
        told[HOPS] = str(hops)
    if delivery.response_topic:
        told[REPLY_TO] = delivery.response_topic
        if delivery.correlation:
            told[CORRELATION] = base64.b64encode(delivery.correlation).decode()
    return told


def _hops(text: str) -> int:
    hops = int(text) if text.isascii() and text.isdigit() and len(text) <= 3 else MOST_HOPS
    if hops >= MOST_HOPS:
        raise MessageError(
            f"it is the result of the result of an event, {MOST_HOPS} times or more: results go round in a circle", code="AF0832"
        )
    return hops


def _digest(delivery: Delivery) -> str:
    digest = hashlib.blake2b(digest_size=_DIGEST)
    for part in (delivery.topic.encode("utf-8", "replace"), delivery.response_topic.encode("utf-8", "replace"), delivery.correlation):
        digest.update(len(part).to_bytes(4, "big") + part)
    digest.update(_user_bytes(delivery.user))
    digest.update(delivery.payload)
    return digest.hexdigest()


def _user_bytes(user: UserProperties) -> bytes:
    return repr(user).encode("utf-8", "replace")


def _shown(topic: str) -> str:
    return topic[:1024].encode("utf-8", "replace").decode()
