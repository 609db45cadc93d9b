"""HTTP: the routes behind their guard, and the server that carries both on the runner's loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.routing import Route, Router

from agentflow.config.display import quoted
from agentflow.config.serving import exposures
from agentflow.ingress.doors import MOST_CONNECTIONS, Doors, Server, listener
from agentflow.ingress.guards import Guard, Terms
from agentflow.ingress.openapi import openapi
from agentflow.ingress.operations import Operation
from agentflow.ingress.routes import about, events, health, live, orders, runs
from agentflow.ingress.service import Service, ServiceError
from agentflow.ingress.streams import Streams
from agentflow.ingress.tokens import Tokens, prepared

if TYPE_CHECKING:
    import socket

    from starlette.types import ASGIApp, Receive, Scope, Send

    from agentflow.app import Project

_LOCAL = ("127.0.0.1", "localhost", "[::1]")
_SCHEME_PORTS = {"http": 80, "https": 443}


class Http:
    """The way in over HTTP; an `Ingress` of a service.

    Args:
        service: whose it is.
        terms: how it is configured.

    Attributes:
        url: where it listens, once it is bound.
        tokens: knows the token.
        streams: the live streams.
    """

    def __init__(self, service: Service, terms: Setup) -> None:
        self._service = service
        self._setup = terms
        self._socket: socket.socket | None = None
        self._server: Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self.tokens = Tokens(terms.token_file, service.clock.monotonic)
        self.streams = Streams(service.runner, service.clock.monotonic, self.tokens.is_current)
        self.url = ""

    def bind(self) -> None:
        """Take the address; nobody is listened to yet.

        Raises:
            ServiceError: it is taken, or none of this machine.
        """
        config = self._setup.config
        try:
            self._socket = listener(config.host, config.port)
        except OSError as error:
            told = f"cannot listen at {config.host} port {config.port}: {error.strerror or error}"
            raise ServiceError(told, hint="end what listens there, or take another --port") from None
        scheme = "https" if self._setup.tls else "http"
        name = f"[{config.host}]" if ":" in config.host else config.host
        self.url = f"{scheme}://{name}:{self._socket.getsockname()[1]}"

    def application(self) -> ASGIApp:
        """Return all that answers requests, the guard outermost."""
        service, bound = self._service, self._socket
        port = self._setup.config.port if bound is None else bound.getsockname()[1]
        log = service.runner.log
        return Guard(
            routed(service, self.streams), self._setup.terms(port), self.tokens, service.clock.fresh_id, service.clock.monotonic, log
        )

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            ServiceError: the address cannot be had.
        """
        if self._socket is None:
            self.bind()
        assert self._socket is not None  # noqa: S101 - as just bound
        most = None if self._setup.config.behind_proxy else MOST_CONNECTIONS
        self._server = server = Server(Doors(self.application(), most_connections=most, tls=self._setup.tls))
        self._serving = asyncio.get_running_loop().create_task(server.serve([self._socket]), name="agentflow-http")
        listening = asyncio.ensure_future(server.is_listening.wait())
        await asyncio.wait({self._serving, listening}, return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        if self._serving.done():
            self._serving.result()

    def close(self) -> None:
        """Take no more events: the service's readiness says so to whoever sends one."""

    async def stop(self) -> None:
        """Finish answers that are on their way, and end."""
        self.streams.close()
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving
        elif self._socket is not None:
            self._socket.close()


class Setup:
    """How HTTP is to be served by what a configuration says, with all its files found.

    Args:
        project: the configuration.

    Attributes:
        config: the section [serve].
        token_file: where the token is.
        is_token_made: whether the token was made just now.
        tls: the certificate's file and its key's; None without TLS.

    Raises:
        ServiceError: a protection is missing that this address needs.
        TokenError: there is no token that can be used.
    """

    def __init__(self, project: Project) -> None:
        self.config = config = project.config.serve
        self.tls = self._tls(project)
        is_configured = "token_file" in config.given
        for told, hint in exposures(config):
            raise ServiceError(told, hint=hint)
        self.token_file = _path(project, "token_file", config.token_file)
        self.is_token_made = not is_configured and prepared(self.token_file)

    def _tls(self, project: Project) -> tuple[Path, Path] | None:
        if self.config.tls_cert is None or self.config.tls_key is None:
            return None
        files = _path(project, "tls_cert", self.config.tls_cert), _path(project, "tls_key", self.config.tls_key)
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*files)
        except (OSError, ssl.SSLError) as error:
            told = f"TLS cannot be had with {quoted(files[0])} and {quoted(files[1])}: {error.strerror or error}"
            raise ServiceError(told, hint="name a certificate chain and its key, both in PEM") from None
        return files

    def terms(self, port: int) -> Terms:
        """Return whom to answer at a port."""
        config = self.config
        scheme = "http" if self.tls is None else "https"
        own = config.host if ":" not in config.host else f"[{config.host}]"
        hosts = {f"{name}:{port}" for name in (*_LOCAL, own.lower())} | set(config.allowed_hosts)
        if port == _SCHEME_PORTS[scheme]:
            hosts |= {*_LOCAL, own.lower()}
        schemes = {scheme, "https"} if config.behind_proxy else {scheme}
        origins = {f"{one}://{host}" for one in schemes for host in hosts} | set(config.allowed_origins)
        return Terms(_encoded(hosts), _encoded(origins), config.behind_proxy)


def routed(service: Service, streams: Streams) -> ASGIApp:
    """Return what answers the requests that the guard lets through."""
    operations: list[Operation] = []

    @cache
    def described() -> dict[str, Any]:
        return openapi(operations)

    operations += [*events.operations(service), *runs.operations(service, streams), *live.operations(streams), *orders.operations(service)]
    operations += [*about.operations(service, described), *health.operations(service)]
    router = Router([Route(one.path, one.endpoint, methods=[one.method]) for one in operations], redirect_slashes=False)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = router  # so that what no route takes is an error for the guard to tell of
        await router(scope, receive, send)

    return app


def _path(project: Project, key: str, value: str) -> Path:
    return (project.draft.folder_of(("serve", key)) / value).absolute()


def _encoded(words: Iterable[str]) -> frozenset[bytes]:
    return frozenset(word.encode() for word in words)
