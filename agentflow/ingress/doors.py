"""Doors: connections. How many one client may have, how long it may take over the head of a request or over reading an answer."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from agentflow.ingress.guards import MOST_HEADER_BYTES, MOST_URL_BYTES, SECURITY_HEADERS
from agentflow.ingress.problems import MEDIA_TYPE, Problem

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp

MOST_CONNECTIONS = 100  # of one address
HEAD_S = 10.0  # from a request's first byte, or from the connection, to the end of its head
STALL_S = 20.0  # how long an answer may lie there that nobody reads
IDLE_S = 15  # how long a connection is kept between two requests
LINGER_S = 1.0  # how long what a refused client still sends is read and forgotten, so that it gets to read why
LAST_S = 2  # for answers that are on their way when the service stops
_BACKLOG = 2048


class Doors(uvicorn.Config):
    """How the server is set up; counts the connections of each address.

    Args:
        app: what answers.
        most_connections: of one address; None where a proxy has them all.
        tls: the files of the certificate and of its key.
    """

    def __init__(self, app: ASGIApp, *, most_connections: int | None, tls: tuple[Path, Path] | None) -> None:
        super().__init__(
            app,
            http=_Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="critical",  # the guard tells what is worth telling
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=LAST_S,
            h11_max_incomplete_event_size=MOST_HEADER_BYTES + MOST_URL_BYTES,
            ssl_certfile=None if tls is None else tls[0],
            ssl_keyfile=None if tls is None else tls[1],
        )
        self.most_connections = most_connections
        self.by_client: Counter[str] = Counter()


class Server(uvicorn.Server):
    """The server on somebody else's loop: whoever runs it has the signals.

    Attributes:
        is_listening: is set once it is.
    """

    def __init__(self, config: Doors) -> None:
        super().__init__(config)
        self.is_listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self.is_listening.set()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals alone."""
        yield


class _Lingering:
    """A transport that lets the other side read the last answer: to close at once while it still sends would take that away."""

    def __init__(self, transport: asyncio.Transport, conn: h11.Connection, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._conn = conn
        self._loop = loop
        self.is_lingering = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self.is_lingering or self._transport.is_closing()

    def close(self) -> None:
        if self._conn.their_state is h11.SEND_BODY:
            self.linger()
        else:
            self._transport.close()

    def linger(self) -> None:
        """Say that nothing more comes, and close a little later, or when the other side has closed."""
        if not self.is_closing() and self._transport.can_write_eof():
            self.is_lingering = True
            self._transport.resume_reading()
            self._transport.write_eof()
            self._loop.call_later(LINGER_S, self._transport.close)
        else:
            self._transport.close()


class _Connection(H11Protocol):
    """One connection. Its timers run only while a client owes something."""

    config: Doors

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._head: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._is_counted = False
        self._door: _Lingering

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in the class above
        self._door = _Lingering(transport, self.conn, self.loop)
        super().connection_made(self._door)  # type: ignore[arg-type] # it is one in all that is asked of it
        config, client = self.config, self._name
        if config.most_connections is not None and config.by_client[client] >= config.most_connections:
            self._refuse(Problem(429, "AF0818", "too many connections of one client", retry_s=1))
            return
        config.by_client[client] += 1
        self._is_counted = True
        self._head = self.loop.call_later(HEAD_S, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head, self._stall):
            if timer is not None:
                timer.cancel()
        if self._is_counted:
            by_client = self.config.by_client
            by_client[self._name] -= 1
            if by_client[self._name] <= 0:
                del by_client[self._name]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._door.is_lingering:
            return
        super().data_received(data)
        is_in_head = (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing()
        if not is_in_head and self._head is not None:
            self._head.cancel()
            self._head = None
        elif is_in_head and self._head is None:
            self._head = self.loop.call_later(HEAD_S, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self.loop.call_later(STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, in the form that all refusals have."""
        self._refuse(Problem(400, "AF0823", "that is no request of HTTP/1.1, or its head is too large"))

    def _refuse(self, problem: Problem) -> None:
        body = problem.body("req-none")
        headers = [(b"content-type", MEDIA_TYPE), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
        answer = h11.Response(status_code=problem.status, headers=[*headers, *SECURITY_HEADERS], reason=b"")
        with suppress(h11.LocalProtocolError):  # in the midst of an answer there is nothing to say
            self.transport.write((self.conn.send(answer) or b"") + (self.conn.send(h11.Data(data=body)) or b""))
        self._door.linger()

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: anybody could fill a log with it."""

    @property
    def _name(self) -> str:
        return self.client[0] if self.client else ""


def listener(host: str, port: int) -> socket.socket:
    """Return a socket that is bound, and does not listen yet.

    Raises:
        OSError: the address is taken, or is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=0 if host == "localhost" else family, flags=socket.AI_PASSIVE)
    kind, _, protocol, _, address = found[0]
    bound = socket.socket(kind, socket.SOCK_STREAM, protocol)  # asyncio switches Nagle's waiting off only where it sees that this is TCP
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound
