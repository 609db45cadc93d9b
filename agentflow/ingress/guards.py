"""The guard: the outermost layer. Nothing gets past it that does not carry the token, and nothing that is not bounded.

It refuses by default: an address that is not exactly `/livez` or `/readyz` is behind the token, whether it exists or not. It
looks at what was sent, before anything is decoded from it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from agentflow.ingress.limiter import FailureLimiter
from agentflow.ingress.problems import MEDIA_TYPE, Problem, RefusedError, problem_of, refused, unexpected

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from agentflow.ingress.tokens import Tokens

MOST_BODY_BYTES = 1024 * 1024
MOST_HEADER_BYTES = 16 * 1024
MOST_URL_BYTES = 4 * 1024
BODY_S = 30.0  # from a request's head to the end of its body
OPEN = frozenset({b"/livez", b"/readyz"})  # what may be asked without the token, exactly as it is sent
READING = frozenset({"GET", "HEAD", "OPTIONS"})
ADMITTED = "agentflow.admitted"  # where in the scope a route finds what the guard has learned

_PATH = re.compile(rb"(/[A-Za-z0-9_.:-]+)+/?|/")  # no address of ours needs an escape, so none is decoded twice
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_-]{1,64}")
_SCHEME = b"bearer "
_JSON = re.compile(rb"application/json(;\s*charset=\"?utf-8\"?)?", re.IGNORECASE)
_SAME = frozenset({b"same-origin", b"none"})
_POLICY = b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-ancestors 'none'"
SECURITY_HEADERS = [
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]


class Log(Protocol):
    """Where the guard says what went wrong."""

    def warn(self, event: str, fields: Mapping[str, object], error: BaseException | None = None) -> None:
        """Write a line."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Whom the service answers.

    Attributes:
        hosts: what the `Host` may be, in lower case and with the port where it is not the scheme's own.
        origins: what the `Origin` may be of a request that changes something.
        is_behind_proxy: a proxy says in `X-Forwarded-For` who asks.
    """

    hosts: frozenset[bytes]
    origins: frozenset[bytes]
    is_behind_proxy: bool = False


@dataclass(frozen=True, slots=True)
class Admitted:
    """What a route may know of the request: its id, its client, its whole body, and under which token it was let in."""

    request_id: str
    client: str
    body: bytes
    generation: int


class Guard:
    """Lets requests through to an application.

    Args:
        app: what answers those that are let through.
        terms: whom it answers.
        tokens: knows the token.
        fresh_id: gives ids to requests.
        monotonic: tells seconds.
        log: is told what nobody expected.
    """

    def __init__(
        self, app: ASGIApp, terms: Terms, tokens: Tokens, fresh_id: Callable[[], str], monotonic: Callable[[], float], log: Log
    ) -> None:
        self._app = app
        self._terms = terms
        self._tokens = tokens
        self._fresh_id = fresh_id
        self._failures = FailureLimiter(monotonic)
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        answer = _Answer(send, self._id_of(headers))
        is_read = False
        try:
            admitted = await self._admit(scope, receive, answer.request_id)
            is_read = True
            scope[ADMITTED] = admitted
            await self._app(scope, _Replay(admitted.body, receive), answer)
        except asyncio.CancelledError:
            raise
        except ClientGoneError:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told nothing but a code and an id
            problem = problem_of(error)
            if problem is None:
                self._log.warn("request_failed", {"request_id": answer.request_id, "path": _shown(scope)}, error)
                problem = unexpected(answer.request_id)
            await answer.refuse(problem, is_last=not is_read and scope["method"] not in READING)

    def _id_of(self, headers: list[tuple[bytes, bytes]]) -> str:
        for name, value in headers:
            if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                return value.decode()
        return f"req-{self._fresh_id()}"

    async def _admit(self, scope: Scope, receive: Receive, request_id: str) -> Admitted:
        headers, method = scope["headers"], scope["method"]
        path: bytes = scope["raw_path"]
        _check_size(path, scope["query_string"], headers)
        self._check_host(headers)
        client = self._client_of(scope)
        if path in OPEN and method in READING:
            return Admitted(request_id, client, b"", 0)
        generation = self._tokens.generation
        self._check_token(headers, client)
        if not _PATH.fullmatch(path):
            raise refused(404, "AF0817", "there is nothing at this address")
        if method in READING:
            return Admitted(request_id, client, b"", generation)
        self._check_origin(headers)
        return Admitted(request_id, client, await body_of(headers, receive), generation)

    def _check_host(self, headers: list[tuple[bytes, bytes]]) -> None:
        hosts = _values(headers, b"host")
        if len(hosts) != 1 or hosts[0].lower() not in self._terms.hosts:
            raise refused(400, "AF0811", "the Host of the request is none that this service answers to", "see `allowed_hosts` in [serve]")

    def _client_of(self, scope: Scope) -> str:
        if self._terms.is_behind_proxy:
            told = b",".join(_values(scope["headers"], b"x-forwarded-for")).rpartition(b",")[2].strip()
            try:
                return str(ipaddress.ip_address(told.decode("ascii")))
            except ValueError:
                pass
        return str((scope.get("client") or ("",))[0])

    def _check_token(self, headers: list[tuple[bytes, bytes]], client: str) -> None:
        given = _values(headers, b"authorization")
        if len(given) == 1 and given[0][: len(_SCHEME)].lower() == _SCHEME and self._tokens.accepts(given[0][len(_SCHEME) :].strip()):
            return
        if self._failures.is_over(client):
            raise refused(429, "AF0818", "too many requests without the token", retry_s=1)
        hint = "send `Authorization: Bearer TOKEN`; the token stands in the file that `agentflow serve` names"
        problem = Problem(401, "AF0810", "the request does not carry the token", hint, headers={"WWW-Authenticate": "Bearer"})
        raise RefusedError(problem)

    def _check_origin(self, headers: list[tuple[bytes, bytes]]) -> None:
        origins, sites = _values(headers, b"origin"), _values(headers, b"sec-fetch-site")
        is_foreign = any(origin.lower() not in self._terms.origins for origin in origins) or any(site not in _SAME for site in sites)
        if is_foreign:
            raise refused(403, "AF0812", "another site's page asks for this", "see `allowed_origins` in [serve]")


class ClientGoneError(Exception):
    """The client went away before its request was whole."""


class _Answer:
    """What an application sends, with the headers that every answer has."""

    __slots__ = ("_is_begun", "_send", "request_id")

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._is_begun = False
        self.request_id = request_id

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._is_begun = True
            headers = [*message.get("headers", ()), *SECURITY_HEADERS, (b"x-request-id", self.request_id.encode())]
            message = {**message, "headers": headers}
        await self._send(message)

    async def refuse(self, problem: Problem, *, is_last: bool) -> None:
        """Answer with a problem; with `is_last` the connection ends with it, since there is more on it that nobody reads."""
        if self._is_begun:
            raise ClientGoneError  # half an answer is out: the server ends the connection
        body = problem.body(self.request_id)
        headers = [(b"content-type", MEDIA_TYPE), (b"content-length", str(len(body)).encode())]
        headers += [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
        if problem.retry_s is not None:
            headers.append((b"retry-after", str(problem.retry_s).encode()))
        if is_last:
            headers.append((b"connection", b"close"))
        await self({"type": "http.response.start", "status": problem.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


class _Replay:
    """What an application receives: the body that was read already, and then whatever comes, which is that the client goes."""

    __slots__ = ("_body", "_receive")

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        return await self._receive()


async def body_of(headers: list[tuple[bytes, bytes]], receive: Receive) -> bytes:
    """Read the whole body of a request that changes something.

    Raises:
        RefusedError: it is too large or too slow, or is no JSON by what its headers say.
        ClientGoneError: it ended before it was whole.
    """
    lengths, kinds = _values(headers, b"content-length"), _values(headers, b"content-type")
    if any(not length.isdigit() or int(length[:20]) > MOST_BODY_BYTES for length in lengths):
        raise _too_large()
    if len(kinds) > 1 or (kinds and not _JSON.fullmatch(kinds[0].strip())):
        raise refused(415, "AF0813", "the body has to be JSON", "send `Content-Type: application/json`")
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise ClientGoneError
                piece = message.get("body", b"")
                size += len(piece)
                if size > MOST_BODY_BYTES:
                    raise _too_large()
                pieces.append(piece)
                if not message.get("more_body"):
                    break
    except TimeoutError:
        raise refused(408, "AF0820", f"the body was not there within {BODY_S:.0f} s") from None
    if size and not kinds:
        raise refused(415, "AF0813", "the body has to be JSON", "send `Content-Type: application/json`")
    return b"".join(pieces)


def _too_large() -> RefusedError:
    return refused(413, "AF0814", f"the body is larger than {MOST_BODY_BYTES:,} bytes", "keep large data elsewhere, and send where it is")


def _check_size(path: bytes, query: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
    if len(path) + len(query) > MOST_URL_BYTES:
        raise refused(414, "AF0814", f"the address is longer than {MOST_URL_BYTES:,} bytes")
    if sum(len(name) + len(value) for name, value in headers) > MOST_HEADER_BYTES:
        raise refused(431, "AF0814", f"the headers are larger than {MOST_HEADER_BYTES:,} bytes")


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for found, value in headers if found == name]


def _shown(scope: Scope) -> str:
    return ascii(bytes(scope["raw_path"])[:200].decode("latin-1"))[1:-1]
