"""The table that says which broker brings events, from which topics, and for whom."""

from __future__ import annotations

from itertools import combinations
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from agentflow.config.display import quoted
from agentflow.config.references import Secret
from agentflow.config.section import ADVICE, Section
from agentflow.config.serving import is_loopback
from agentflow.config.topics import filter_fault, overlap, takes, topic_fault

PORTS = {"mqtt": 1883, "mqtts": 8883}
MOST_TOPICS = 100


def _refusal(message: str, advice: str = "") -> PydanticCustomError:
    return PydanticCustomError("AF0104", message, {ADVICE: advice})


def _url(value: str) -> str:
    try:
        url = urlsplit(value)
        is_address = url.scheme in PORTS and bool(url.hostname) and (url.port or 1) > 0 and url.path in ("", "/")
    except ValueError:
        is_address = False
    if not is_address or not value.isprintable() or value != value.strip() or url.query or url.fragment:
        raise _refusal("must be the mqtt(s) address of a broker", "e.g. mqtts://broker.example.com:8883 or mqtt://localhost:1883")
    if url.username is not None or url.password is not None:
        raise _refusal("must not hold a user or a password", 'write `user`, and password = { env = "NAME" }')
    return value


def _topic(value: str) -> str:
    fault = topic_fault(value)
    if fault:
        raise _refusal(fault, 'e.g. "factory/results"')
    return value


def _client_id(value: str) -> str:
    if not value.isprintable() or not 0 < len(value.encode("utf-8", "replace")) <= 128:
        raise _refusal("must be 1 to 128 printable characters", "the same at each start: the broker keeps messages under it")
    return value


def _target(value: str) -> str:
    if not value.isprintable() or not 0 < len(value) <= 64:
        raise _refusal("must be the name of an agent or flow")
    return value


def _topics(value: dict[str, str]) -> dict[str, str]:
    if not 0 < len(value) <= MOST_TOPICS:
        raise _refusal(f"must have 1 to {MOST_TOPICS} filters", "use wildcards: `+` for one level, `#` for all that follow")
    for one in value:
        fault = filter_fault(one)
        if fault:
            raise _refusal(f"has a filter that {fault}: {quoted(one)}", 'name what you want to take, e.g. "factory/+/alarm" or "factory/#"')
    for first, second in combinations(value, 2):
        if overlap(first, second):
            raise _refusal(f"has two filters that take the same topics: {quoted(first)} and {quoted(second)}", "one topic, one target")
    return value


class MqttConfig(Section):
    """Which broker brings events, from which topics, and for whom."""

    url: Annotated[str, AfterValidator(_url)] = Field(
        description="The broker: `mqtts://HOST[:8883]`, or `mqtt://HOST[:1883]` without TLS, which only a loopback address may be without "
        "`allow_plaintext`. It has to speak MQTT 5."
    )
    topics: Annotated[dict[str, Annotated[str, AfterValidator(_target)]], AfterValidator(_topics)] = Field(
        description="Which agent or flow a message is for, by topic filter; at most 100. Nothing else is subscribed to, no two filters "
        "take the same topic, and none takes all."
    )
    results_topic: Annotated[str, AfterValidator(_topic)] | None = Field(
        default=None, description="Where the result of each run is published whose event came by MQTT. Default: nowhere."
    )
    retained: Literal["ignore", "once"] = Field(
        default="ignore",
        description="What a message does that the broker had retained before anybody listened: nothing, or it is taken once, "
        "for each content.",
    )
    user: str | None = Field(default=None, description="The user to log in as.")
    password: Secret | None = Field(
        default=None, description='Where the password is kept: `{ env = "NAME" }` or `{ file = "path" }`; with `user`.'
    )
    ca: str | None = Field(
        default=None,
        description="The file with the certificates that the broker's is checked against, relative to the file that says it. "
        "Default: those of the system.",
    )
    cert: str | None = Field(
        default=None, description="The file with the client's own certificate, relative to the file that says it; with `key`."
    )
    key: str | None = Field(default=None, description="The file with that certificate's key, relative to the file that says it.")
    client_id: Annotated[str, AfterValidator(_client_id)] | None = Field(
        default=None,
        description="Under which name the broker keeps messages while nobody listens. Never two processes at once, never a new one at each "
        "start. Default: `agentflow-` and the project's name.",
    )
    receive_maximum: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=100, description="How many messages may be on their way into the journal at once, 1 to 10,000; the broker keeps the rest."
    )
    session_expiry_seconds: Annotated[int, Field(ge=60, le=2**32 - 2)] = Field(
        default=604_800, description="How long the broker keeps messages while nobody listens, in seconds, at least 60. Default: a week."
    )
    allow_plaintext: bool = Field(
        default=False, description="Speak to a broker on another machine without TLS: whoever is in between reads and writes along."
    )

    @property
    def address(self) -> tuple[str, int]:
        """The broker's host and port."""
        url = urlsplit(self.url)
        return url.hostname or "", url.port or PORTS[url.scheme]

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted, and the broker's certificate checked."""
        return urlsplit(self.url).scheme == "mqtts"

    @model_validator(mode="after")
    def _fits_together(self) -> MqttConfig:
        own = next((one for one in self.topics if self.results_topic is not None and takes(one, self.results_topic)), None)
        if own is not None:
            raise _refusal(f"would take its own results: the filter {quoted(own)} takes `results_topic`", "publish results elsewhere")
        if not self.is_tls and not is_loopback(self.address[0]) and not self.allow_plaintext:
            advice = "write mqtts://, or allow_plaintext = true on a network of your own"
            raise _refusal("would speak to another machine in plain text", advice)
        if not self.is_tls and (self.ca or self.cert or self.key):
            raise _refusal("has certificates, and a `url` without TLS", "write mqtts://")
        if (self.cert is None) != (self.key is None):
            raise _refusal("must have both of `cert` and `key`, or neither")
        if self.password is not None and self.user is None:
            raise _refusal("has a `password` and no `user`")
        return self
