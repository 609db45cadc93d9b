"""A real service on a free port of the loopback, and a client that has its token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from agentflow import Runner
from agentflow.ingress.http import Http, Setup
from agentflow.ingress.service import Service
from agentflow.system import SystemClock

TOKEN = "0123456789abcdef0123456789abcdef"

Handlers = Mapping[str, Callable[..., Any]]


@dataclass
class Served:
    """A service that listens, and a client with its token."""

    service: Service
    http: Http
    client: httpx2.AsyncClient
    folder: Path

    @property
    def port(self) -> int:
        """The port that it listens at."""
        return int(self.http.url.rpartition(":")[2])

    @property
    def host(self) -> str:
        """What the Host of a request has to be."""
        return f"127.0.0.1:{self.port}"

    async def raw(self, request: bytes, *, wait_s: float = 5.0) -> bytes:
        """Send bytes over a connection of their own, and return all that comes back until it ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            async with asyncio.timeout(wait_s):
                return await reader.read()
        finally:
            writer.close()

    async def ask(
        self, method: str, path: str, *headers: tuple[str, str], body: bytes = b"", host: str | None = None, token: str | None = TOKEN
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request exactly as it stands here; return status, headers and body."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host if host is None else host}", "Connection: close"]
        if token is not None:
            lines.append(f"Authorization: Bearer {token}")
        lines += [f"{name}: {value}" for name, value in headers]
        if body or method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        return parsed(await self.raw("\r\n".join([*lines, "", ""]).encode("latin-1") + body))


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Return an answer as status, headers (in lower case) and body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), headers, body


async def greet(event: Any, state: Any) -> dict[str, Any]:
    """Answer at once."""
    return {"greeting": f"hello {event.data.get('name')}"}


def configured(folder: Path, handlers: Handlers, **tables: Any) -> dict[str, Any]:
    """Return a configuration that serves agents one after another, recorded in a folder."""
    token = folder / "token"
    if not token.exists():
        token.write_text(TOKEN + "\n")
        token.chmod(0o600)
    config: dict[str, Any] = {
        "agent_flow": {"name": "served"},
        "orchestration": {"mode": "sequential", "sequential_agents": list(handlers)},
        "agents": {name: {} for name in handlers},
        "journal": {"url": f"sqlite:{folder}/journal.db"},
        "serve": {"port": 0, "token_file": str(token)},
        "runner": {"drain_timeout_seconds": 2, "cancel_grace_seconds": 0.2},
    }
    for name, table in tables.items():
        config[name] = {**config.get(name, {}), **table}
    return config


@asynccontextmanager
async def served(folder: Path, handlers: Handlers | None = None, **tables: Any) -> AsyncIterator[Served]:
    """Serve agents, and stop at the end."""
    handlers = {"greet": greet} if handlers is None else handlers
    runner = Runner.from_dict(configured(folder, handlers, **tables), environ={})
    for name, handler in handlers.items():
        runner.register_agent(name, handler)
    service = Service(runner, SystemClock())
    http = Http(service, Setup(runner.project))
    http.bind()
    service.ingresses.append(http)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx2.AsyncClient(base_url=http.url, headers=headers, trust_env=False, timeout=20) as client:
        await service.start()
        try:
            yield Served(service, http, client, folder)
        finally:
            await service.stop()


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Serve agents from a folder of this test's own."""
    return lambda handlers=None, **tables: served(tmp_path, handlers, **tables)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Any]:
    """A private broker that lets anybody in."""
    from tests.ingress.brokers import Broker

    one = Broker(tmp_path / "broker")
    one.start()
    yield one
    one.kill()


@pytest.fixture
def listen(tmp_path: Path, broker: Any) -> Callable[..., Any]:
    """Listen to the broker with a service whose journal is in a folder of this test's own."""
    from tests.ingress.brokers import listening
    from tests.ingress.test_mqtt import echo

    return lambda handlers=None, **tables: listening(tmp_path, broker, handlers or {"echo": echo}, **tables)
