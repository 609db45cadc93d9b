"""A private mosquitto on a free port of the loopback, and what the tests say to it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agentflow import Runner
from agentflow.ingress.mqtt import MqttIngress
from agentflow.ingress.service import Service
from agentflow.system import SystemClock
from tests.ingress.conftest import Handlers, configured

# A system's folder for servers is often not on the PATH of a user.
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin")
PATIENCE_S = 15.0


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass
class Broker:
    """A broker that keeps messages, and can be killed and started again over what it has kept."""

    folder: Path
    settings: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self.folder.mkdir(exist_ok=True)
        kept = ("persistence true", f"persistence_location {self.folder}/", "autosave_interval 1", "autosave_on_changes true")
        lines = [*kept, "max_queued_messages 0", f"listener {self.port} 127.0.0.1", *(self.settings or ("allow_anonymous true",))]
        if os.geteuid() == 0:
            lines.insert(0, "user root")  # it would leave its rights, and then not read this folder
        config = self.folder / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n")
        assert MOSQUITTO is not None
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([MOSQUITTO, "-c", str(config)], stdout=log, stderr=log)
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.5).close()
            except OSError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < end, "mosquitto does not listen"
                time.sleep(0.01)
            else:
                return

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it at once, or as a signal says."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(PATIENCE_S)
            self.process = None

    def client(self, **how: Any) -> aiomqtt.Client:
        """Return a client of a test's own, not connected yet."""
        port = how.pop("port", self.port)
        return aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5, **how)


def properties(user: Mapping[str, str] | list[tuple[str, str]] = (), *, reply_to: str = "", correlation: bytes = b"") -> Properties:  # type: ignore[assignment]
    """Return what goes with a publication."""
    told = Properties(PacketTypes.PUBLISH)
    pairs = list(user.items()) if isinstance(user, Mapping) else list(user)
    if pairs:
        told.UserProperty = pairs
    if reply_to:
        told.ResponseTopic = reply_to
    if correlation:
        told.CorrelationData = correlation
    return told


async def send(broker: Broker, topic: str, payload: Any, told: Properties | None = None, *, qos: int = 1, retain: bool = False) -> None:
    """Publish one message."""
    body = payload if isinstance(payload, bytes | str) else json.dumps(payload)
    async with broker.client() as client:
        await client.publish(topic, body, qos=qos, retain=retain, properties=told)


async def until(is_so: Callable[[], Any], wait_s: float = PATIENCE_S) -> Any:
    """Wait until something is so, and return what it says; it may be a coroutine function."""
    async with asyncio.timeout(wait_s):
        while True:
            found = is_so()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.01)


@dataclass
class Listening:
    """A service that listens to a broker."""

    service: Service
    ingress: MqttIngress
    broker: Broker

    @property
    def runner(self) -> Runner:
        """Its runner."""
        return self.service.runner

    async def ended(self, count: int = 1) -> list[Any]:
        """Wait until so many runs have ended, and return all rows, the oldest first."""

        async def looked() -> list[Any]:
            rows = await self.runner.runs()
            return rows if len(rows) >= count and not any(row.is_open for row in rows) else []

        rows: list[Any] = await until(looked)
        return rows[::-1]

    async def settled(self) -> None:
        """Wait until it is connected, and everything that has arrived was acknowledged, ignored or dropped."""
        counts = self.ingress.counts
        await until(lambda: self.ingress.is_connected)
        await until(lambda: counts["received"] == counts["acknowledged"] + counts["ignored"] + counts["dropped"])


@asynccontextmanager
async def listening(folder: Path, broker: Broker, handlers: Handlers, *, wait: bool = True, **tables: Any) -> AsyncIterator[Listening]:
    """Listen to a broker, and stop at the end."""
    mqtt = {"url": f"mqtt://127.0.0.1:{broker.port}", "topics": {"in/+": next(iter(handlers))}, **tables.pop("mqtt", {})}
    flow = {"mode": "route", "sequential_agents": None, **tables.pop("orchestration", {})}
    config = configured(folder, handlers, mqtt=mqtt, **tables)
    config["orchestration"] = {key: value for key, value in flow.items() if value is not None}
    runner = Runner.from_dict(config, environ={})
    for name, handler in handlers.items():
        runner.register_agent(name, handler)
    service = Service(runner, SystemClock())
    assert runner.project.config.mqtt is not None
    ingress = MqttIngress(service, runner.project.config.mqtt)
    service.ingresses.append(ingress)
    await service.start()
    try:
        if wait:
            await until(lambda: ingress.is_connected)
        yield Listening(service, ingress, broker)
    finally:
        await service.stop()
