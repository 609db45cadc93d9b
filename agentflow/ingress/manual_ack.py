"""One connection to a broker on which a message is acknowledged when we say so, and not when it arrives.

aiomqtt acknowledges what it has received before anybody has kept it. The client below it, paho, can leave that to its caller,
and knows more of each message than it passes on. This module is the only one that reaches into either; a contract test holds
the two to what is assumed here.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiomqtt
from paho.mqtt.client import MQTT_ERR_SUCCESS
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

if TYPE_CHECKING:
    from paho.mqtt.client import ConnectFlags, MQTTMessage
    from paho.mqtt.reasoncodes import ReasonCode

LARGEST_PACKET = 2 * 1024 * 1024  # that the broker may send; a larger one it drops, and counts as delivered
ANSWER_S = 10.0  # within which the broker has to answer
KEEPALIVE_S = 20
MOST_UNCONFIRMED = 20  # publications on their way

UserProperties = tuple[tuple[str, str], ...]


class LinkError(Exception):
    """The connection cannot be had, or was lost; the message says why."""


class RefusedPublicationError(Exception):
    """The broker does not take a publication."""


@dataclass(frozen=True, slots=True)
class Link:
    """How a broker is reached, and what it is told of us. `password` is never shown."""

    host: str
    port: int
    client_id: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None
    receive_maximum: int = 100
    session_expiry_s: int = 604_800


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as it came.

    Attributes:
        mid: its packet's number; 0 for one that cannot be acknowledged.
        is_again: the broker says that it has sent it before.
        is_retained: the broker had it before anybody listened.
        user: what its sender has told beside the payload, in order.
    """

    topic: str
    payload: bytes
    mid: int = 0
    is_again: bool = False
    is_retained: bool = False
    response_topic: str = ""
    correlation: bytes = b""
    user: UserProperties = ()


class Connection:
    """A connection that was not made yet. It is made once, and never again after it was lost: the next one is another object.

    Args:
        link: to whom.
        on_delivery: takes each message, on the loop; it returns at once.

    Attributes:
        is_resumed: whether the broker still knew us, with all that it has kept for us.
        largest_packet: the most bytes that it takes at once.
    """

    def __init__(self, link: Link, on_delivery: Callable[[Delivery], None]) -> None:
        self._link = link
        self._on_delivery = on_delivery
        self._loop = asyncio.get_running_loop()
        self._unacknowledged = 0
        self._confirmations: dict[int, asyncio.Future[ReasonCode]] = {}
        self._places = asyncio.Semaphore(MOST_UNCONFIRMED)
        self._is_up = False
        self._socket: Any = None  # that is read from; None while it is not
        self.is_resumed = False
        self.largest_packet = 256 * 1024 * 1024
        self._client = client = aiomqtt.Client(
            link.host,
            link.port,
            username=link.user,
            password=link.password,
            identifier=link.client_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=False,
            properties=_connect_properties(link),
            tls_context=link.tls,
            keepalive=KEEPALIVE_S,
            timeout=ANSWER_S,
        )
        self._paho = paho = client._client  # noqa: SLF001
        paho.manual_ack_set(True)
        self._pass_on, self._open_socket = paho.on_connect, paho.on_socket_open
        paho.on_connect = self._connected
        paho.on_socket_open = self._opened
        paho.on_socket_register_write = self._has_to_write
        paho.on_message = self._received
        paho.on_publish = self._confirmed

    @property
    def is_open(self) -> bool:
        """Whether it was made, and not lost since."""
        return self._is_up and not self._client._disconnected.done()  # noqa: SLF001

    async def open(self) -> None:
        """Connect.

        Raises:
            LinkError: the broker cannot be reached, is not the one that its certificate should show, or does not let us in.
        """
        try:
            await self._client.__aenter__()
        except (aiomqtt.MqttError, OSError, ValueError) as error:
            self._drop()
            raise LinkError(str(error) or type(error).__name__) from None
        self._is_up = True

    async def subscribe(self, pattern: str, *, retained: bool) -> None:
        """Ask for messages at least once each; for retained ones only when asked, and only where the subscription is new.

        Raises:
            LinkError: the broker does not grant that, or does not answer.
        """
        handling = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB if retained else SubscribeOptions.RETAIN_DO_NOT_SEND
        options = SubscribeOptions(qos=1, noLocal=True, retainAsPublished=False, retainHandling=handling)
        try:
            granted: Any = await self._client.subscribe(pattern, options=options)
        except aiomqtt.MqttError as error:
            raise LinkError(f"cannot subscribe to {pattern}: {error}") from None
        if [code.value for code in granted] != [1]:
            raise LinkError(f"the broker does not grant {pattern}: {', '.join(map(str, granted))}")

    def ack(self, delivery: Delivery) -> None:
        """Acknowledge a message, so that the broker forgets it; nothing happens once the connection is lost: it will send it again."""
        if delivery.mid:
            self._unacknowledged -= 1
            if self.is_open:
                self._paho.ack(delivery.mid, 1)
                self._read_on()

    async def publish(self, topic: str, payload: bytes, *, correlation: bytes = b"", reply_to: str = "", user: UserProperties = ()) -> None:
        """Publish a message, and wait until the broker has it.

        Raises:
            RefusedPublicationError: the broker does not take it.
            LinkError: the connection was lost; whether the broker has it is not known.
        """
        told = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        told.UserProperty = list(user)
        if correlation:
            told.CorrelationData = correlation
        if reply_to:
            told.ResponseTopic = reply_to
        async with self._places:
            if not self.is_open:
                raise LinkError("the connection was lost")
            info = self._paho.publish(topic, payload, qos=1, properties=told)
            if info.rc != MQTT_ERR_SUCCESS:
                raise LinkError(f"cannot publish: {info.rc}")
            confirmed: asyncio.Future[ReasonCode] = asyncio.get_running_loop().create_future()
            self._confirmations[info.mid] = confirmed
            try:
                ends: set[asyncio.Future[Any]] = {confirmed, self._client._disconnected}  # noqa: SLF001
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._confirmations.pop(info.mid, None)
        if not confirmed.done():
            raise LinkError("the connection was lost")
        if confirmed.result().is_failure:
            raise RefusedPublicationError(str(confirmed.result()))

    async def lost(self) -> str:
        """Wait until the connection is lost, and return why."""
        ended = self._client._disconnected  # noqa: SLF001
        await asyncio.wait({ended})
        error = None if ended.cancelled() else ended.exception()
        return "closed" if error is None else str(error) or type(error).__name__

    async def close(self) -> None:
        """Say goodbye, where anybody still listens, and let go. The broker goes on keeping messages."""
        if self._is_up:
            with suppress(aiomqtt.MqttError, OSError, ValueError):
                await self._client.__aexit__(None, None, None)
        ended = self._client._disconnected  # noqa: SLF001
        if ended.done() and not ended.cancelled():
            ended.exception()  # it is known, or nobody asked
        self._is_up = False
        self._drop()

    def _drop(self) -> None:
        """Close the socket, which neither library does once something was raised while reading from it."""
        self._paho._sock_close()  # noqa: SLF001

    def _connected(self, client: Any, userdata: Any, flags: ConnectFlags, reason: ReasonCode, told: Properties | None = None) -> None:
        self.is_resumed = flags.session_present
        self.largest_packet = getattr(told, "MaximumPacketSize", self.largest_packet)
        self._pass_on(client, userdata, flags, reason, told)  # type: ignore[misc, call-arg, arg-type]

    def _confirmed(self, client: Any, userdata: Any, mid: int, reason: ReasonCode, told: Properties) -> None:
        confirmed = self._confirmations.get(mid)
        if confirmed is not None and not confirmed.done():
            confirmed.set_result(reason)

    # --- reading and writing ---

    def _opened(self, client: Any, userdata: Any, sock: Any) -> None:
        """Let the socket be read by us and not by aiomqtt, which cannot pause. Called in another thread."""
        self._open_socket(client, userdata, sock)  # type: ignore[misc]
        self._loop.call_soon_threadsafe(self._read_from, sock)

    def _read_from(self, sock: Any) -> None:
        current: Any = self._paho.socket()
        if current is sock and current.fileno() >= 0:
            self._socket = current
            self._loop.add_reader(current.fileno(), self._read)

    def _read(self) -> None:
        """Read what has come. While more waits to be acknowledged than was agreed, the rest stays in the socket.

        The broker should not send it at all; mosquitto 2.0.11 does, when it has much to send.
        """
        try:
            while True:
                self._paho.loop_read()
                if self._unacknowledged > self._link.receive_maximum:
                    self._pause()
                    return
                if not self._has_more():
                    return
        except Exception as error:  # noqa: BLE001 - whatever it is, this connection cannot go on
            self._break(error)

    def _has_to_write(self, client: Any, userdata: Any, sock: Any) -> None:
        """Write as soon as the socket takes more; aiomqtt would ask that of whatever has its number by then."""
        self._loop.call_soon_threadsafe(self._write_to, sock)

    def _write_to(self, sock: Any) -> None:
        current: Any = self._paho.socket()
        if current is sock and current.fileno() >= 0 and self._paho.want_write():
            self._loop.add_writer(current.fileno(), self._write)

    def _write(self) -> None:
        try:
            self._paho.loop_write()
        except Exception as error:  # noqa: BLE001 - as in `_read`
            self._break(error)

    def _break(self, error: Exception) -> None:
        if not self._client._disconnected.done():  # noqa: SLF001
            self._client._disconnected.set_exception(error)  # noqa: SLF001
        self._drop()

    def _has_more(self) -> bool:
        """Say whether TLS has decoded more than was read: no event of the socket tells of that."""
        sock: Any = self._paho.socket()
        return hasattr(sock, "pending") and sock.pending() > 0

    def _pause(self) -> None:
        sock, self._socket = self._paho.socket(), None
        if sock is not None:
            self._loop.remove_reader(sock.fileno())

    def _read_on(self) -> None:
        if self._socket is None and self._unacknowledged <= self._link.receive_maximum:
            sock: Any = self._paho.socket()
            if sock is not None:
                self._read_from(sock)
                self._loop.call_soon(self._read)

    def _received(self, client: Any, userdata: Any, message: MQTTMessage) -> None:
        """Hand a message on. What is raised here ends the connection."""
        if message.qos > 1:
            raise LinkError("the broker sends what was not asked for")
        self._unacknowledged += message.qos
        told = message.properties
        self._on_delivery(
            Delivery(
                message.topic,
                bytes(message.payload),
                message.mid if message.qos else 0,
                message.dup,
                message.retain,
                getattr(told, "ResponseTopic", ""),
                getattr(told, "CorrelationData", b""),
                tuple(getattr(told, "UserProperty", ())),
            )
        )


def _connect_properties(link: Link) -> Properties:
    told = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    told.SessionExpiryInterval = link.session_expiry_s
    told.ReceiveMaximum = link.receive_maximum
    told.MaximumPacketSize = LARGEST_PACKET
    return told
