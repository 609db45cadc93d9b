"""MQTT, against a real broker: what becomes an event, for whom, and when it is acknowledged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiomqtt")

from tests.ingress.brokers import MOSQUITTO, Broker, Listening, listening, properties, send, until

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


async def echo(event: Any, state: Any) -> dict[str, Any]:
    """Answer with what came."""
    return {"got": dict(event.data), "target": event.target}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that lets anybody in."""
    one = Broker(tmp_path / "broker")
    one.start()
    yield one
    one.kill()


@pytest.fixture
def listen(tmp_path: Path, broker: Broker) -> Callable[..., Any]:
    """Listen to the broker with a service of this test's own."""
    return lambda handlers=None, **tables: listening(tmp_path, broker, handlers or {"echo": echo}, **tables)


async def test_a_message_is_an_event_for_whom_the_table_of_topics_says(broker: Broker, listen: Any) -> None:
    """The payload is the data, the filter that takes the topic says the target, the topic goes with the metadata."""
    async with listen({"echo": echo, "other": echo}, mqtt={"topics": {"in/+": "echo", "far/#": "other"}}) as here:
        await send(broker, "in/1", {"a": 1})
        await send(broker, "far/2/3", {"b": 2}, properties({"who": "me"}))
        rows = await here.ended(2)
        views = [await here.runner.get(row.run_id) for row in rows]
        assert [{"a": 1}, {"b": 2}] == [view.state["data"]["got"] for view in views]
        assert ["echo", "other"] == [view.state["data"]["target"] for view in views]
        assert [{"mqtt_topic": "in/1"}, {"mqtt_topic": "far/2/3", "who": "me"}] == [view.state["meta"] for view in views]
