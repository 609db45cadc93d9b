"""Kills under load: of the service, of the broker, of both; judged by what the broker's log says was acknowledged, and by the journal.

Each message has a topic of its own, so that the broker's log tells which one was delivered and acknowledged under which number.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytest.importorskip("aiomqtt")

import aiomqtt

from agentflow.core.run_row import RunFilter, RunRow
from agentflow.stores.sqlite import SqliteStore
from tests.ingress.brokers import MOSQUITTO, Broker, properties, until

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")

ROUNDS = 20 if os.environ.get("AGENTFLOW_PROOF") else 5
PAUSE_S = 0.003  # between two messages
HANDLERS = """
import os

def register(runner):
    @runner.agent("note")
    async def note(event, state):
        with open("ledger", "a") as ledger:
            ledger.write(event.id + "\\n")
"""
_SENT = re.compile(r"Sending PUBLISH to agentflow-kills \(d[01], q1, r0, m(\d+), 'in/([^']+)'")
_ACKNOWLEDGED = re.compile(r"Received PUBACK from agentflow-kills \(Mid: (\d+), RC:0\)")


@dataclass
class Campaign:
    """A broker, a service, a publisher, and what each of them has said."""

    folder: Path
    broker: Broker
    chance: random.Random = field(default_factory=lambda: random.Random(6))
    service: subprocess.Popen[bytes] | None = None
    confirmed: list[str] = field(default_factory=list)  # messages that the broker has taken from the publisher
    kills: Counter[str] = field(default_factory=Counter)
    is_publishing: bool = True
    starts: int = 0

    def __post_init__(self) -> None:
        (self.folder / "handlers.py").write_text(HANDLERS)
        (self.folder / "agentflow.toml").write_text(
            '[agent_flow]\nname = "kills"\nentrypoint = "handlers:register"\n[agents.note]\n[serve]\nport = 0\n'
            f'[mqtt]\nurl = "mqtt://127.0.0.1:{self.broker.port}"\ntopics = {{ "in/+" = "note" }}\n'
        )

    def start_service(self) -> None:
        """Begin to serve; it comes up by itself."""
        command = [sys.executable, "-m", "agentflow", "serve"]
        with (self.folder / "said").open("ab") as said:
            self.service = subprocess.Popen(command, cwd=self.folder, stdout=said, stderr=said)
        self.starts += 1

    async def is_up(self) -> None:
        """Wait until the service listens."""
        await until(lambda: (self.folder / "said").read_text().count("serving at") == self.starts, 60)

    def end_service(self, number: int) -> None:
        """End the service by a signal, and wait for it."""
        assert self.service is not None
        self.service.send_signal(number)
        code = self.service.wait(60)
        assert code == (-number if number == signal.SIGKILL else 0), (self.folder / "said").read_text()

    async def publish(self) -> None:
        """Publish as long as that is wanted; a message that the broker has not taken for sure is sent again."""
        number = 0
        while self.is_publishing:
            with suppress(aiomqtt.MqttError):
                async with self.broker.client(timeout=2) as client:
                    while self.is_publishing:
                        name = f"e-{number}"
                        await client.publish(f"in/{name}", json.dumps({"n": number}), qos=1, properties=properties({"event_id": name}))
                        self.confirmed.append(name)
                        number += 1
                        await asyncio.sleep(PAUSE_S)
            await asyncio.sleep(0.05)

    async def rest(self) -> None:
        """Let some work be done before the next kill."""
        await self.is_up()
        before = len(self.acknowledged())
        await until(lambda: len(self.acknowledged()) > before + 20, 30)
        await asyncio.sleep(self.chance.random() * 0.3)

    def told(self) -> str:
        """Return what the broker has said so far."""
        return (self.broker.folder / "log").read_text(errors="replace")

    def acknowledged(self) -> list[str]:
        """Return the messages that the service has acknowledged, as the broker has seen it."""
        found, numbers = [], {}
        for line in self.told().splitlines():
            if told := _SENT.search(line):
                numbers[told[1]] = told[2]
            elif told := _ACKNOWLEDGED.search(line):
                found.append(numbers[told[1]])
        return found

    async def rows(self) -> list[RunRow]:
        """Return what the journal has, the oldest first."""
        store = SqliteStore(self.folder / ".agentflow" / "journal.db", is_reader=True)
        await store.open()
        try:
            return await store.rows(RunFilter(newest_first=False))
        finally:
            await store.close()

    async def judge(self, *, may_broker_lose: bool) -> None:
        """Check that nothing is lost, and nothing is there twice."""
        acknowledged = self.acknowledged()
        rows = await self.rows()
        by_event = Counter(row.event_id for row in rows)
        ledger = Counter((self.folder / "ledger").read_text().split())
        lost_by_broker = [name for name in self.confirmed if name not in by_event]
        again = len(acknowledged) - len(set(acknowledged))
        print(
            f"\n{dict(self.kills)}: {len(self.confirmed)} sent, {len(acknowledged)} acknowledged ({again} again), {len(rows)} runs, "
            f"{sum(ledger.values()) - len(ledger)} steps done again, {len(lost_by_broker)} lost by the broker"
        )
        assert [] == [name for name in acknowledged if name not in by_event], "acknowledged, and not in the journal"
        assert {"completed"} == {row.state for row in rows}
        assert {1} == set(by_event.values())
        assert set(by_event) == set(ledger)
        assert may_broker_lose or not lost_by_broker
        assert len(acknowledged) > 20 * ROUNDS, "too little work was done to say anything"


@asynccontextmanager
async def campaign(folder: Path) -> AsyncIterator[Campaign]:
    """Publish all along, and at the end wait until nothing is left to be done."""
    broker = Broker(folder / "broker", ("allow_anonymous true", "log_type all"))
    broker.start()
    one = Campaign(folder, broker)
    one.start_service()
    await until(lambda: "Sending SUBACK to agentflow-kills" in one.told())  # from then on the broker keeps messages for it
    publishing = asyncio.create_task(one.publish())
    try:
        yield one
        one.is_publishing = False
        await publishing
        await one.is_up()

        async def is_quiet() -> bool:
            before = len(one.acknowledged())
            await asyncio.sleep(1)
            last = one.told().rpartition("mosquitto version")[2]  # since the broker was started last
            if "Sending SUBACK to agentflow-kills" not in last and one.kills["broker"] + one.kills["both"]:
                return False
            rows = await one.rows()
            return before == len(one.acknowledged()) and not any(row.is_open for row in rows)

        await until(is_quiet, 60)
        one.end_service(signal.SIGTERM)
    finally:
        publishing.cancel()
        if one.service is not None:
            one.service.kill()
            one.service.wait()
        broker.kill()


async def test_a_killed_service_loses_nothing(tmp_path: Path) -> None:
    """Killed again and again under load, each message that the broker had taken ends as one run."""
    async with campaign(tmp_path) as one:
        for _ in range(ROUNDS):
            await one.rest()
            one.end_service(signal.SIGKILL)
            one.kills["service"] += 1
            one.start_service()
    await one.judge(may_broker_lose=False)


async def test_a_stopped_service_loses_nothing(tmp_path: Path) -> None:
    """Told to stop again and again under load, it ends with 0, and each message ends as one run."""
    async with campaign(tmp_path) as one:
        for _ in range(ROUNDS):
            await one.rest()
            one.end_service(signal.SIGTERM)
            one.kills["stop"] += 1
            one.start_service()
    await one.judge(may_broker_lose=False)


async def test_a_killed_broker_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Each time it is back the service is, too, and what it has acknowledged is in the journal, once."""
    async with campaign(tmp_path) as one:
        for _ in range(ROUNDS):
            await one.rest()
            one.broker.kill()
            one.kills["broker"] += 1
            await asyncio.sleep(one.chance.random() * 0.5)
            one.broker.start()
    await one.judge(may_broker_lose=True)


async def test_a_broker_and_a_service_that_are_killed_together_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """The two die at the same time, and come back in either order."""
    async with campaign(tmp_path) as one:
        for number in range(ROUNDS):
            await one.rest()
            one.broker.kill()
            one.end_service(signal.SIGKILL)
            one.kills["both"] += 1
            for start in (one.broker.start, one.start_service)[:: 1 if number % 2 else -1]:
                start()
    await one.judge(may_broker_lose=True)
