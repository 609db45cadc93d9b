"""Results: what runs come to whose events came by MQTT goes back to the broker, to whoever asked and to whoever listens to all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from agentflow.engine.run import RunHandle
from agentflow.errors import AgentflowError
from agentflow.ingress.manual_ack import Connection, LinkError, RefusedPublicationError, UserProperties
from agentflow.ingress.mqtt_messages import EVENT_ID_KEY, HOPS_KEY, MessageError, Reply

MOST_WAITING = 1000  # results that wait for the broker; further ones are in the journal alone
MOST_TRIES = 5  # for a result at which the connection is lost each time
LARGEST = 1024 * 1024  # of a result; of a larger one only the outcome is published

Warn = Callable[[str, Mapping[str, object]], None]


class Results:
    """Publishes results as soon as runs have ended and a broker is there, each at least once while the process lives.

    Args:
        results_topic: where each result goes, "" for nowhere.
        connected: waits for a connection; None when there will be none any more.
        warn: says what is not published.
    """

    def __init__(self, results_topic: str, connected: Callable[[], Any], warn: Warn) -> None:
        self._results_topic = results_topic
        self._connected = connected
        self._warn = warn
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting = 0

    def is_wanted(self, reply: Reply) -> bool:
        """Say whether anybody wants a result."""
        return bool(reply.topic or self._results_topic)

    def expect(self, handle: RunHandle, reply: Reply) -> None:
        """Publish the result of a run when it has ended."""
        if self.is_wanted(reply):
            self._begin(self._follow(handle, reply))

    def tell_refusal(self, error: MessageError, reply: Reply, run_id: str) -> None:
        """Tell who asked that a message is no event; `run_id` is the dead letter that it became."""
        if reply.topic:
            told = {"run_id": run_id, "status": "failed", "reason": "refused"}
            body = {**told, "error": {"code": error.code, "message": error.message, "hint": error.hint}}
            user = (("run_id", run_id), ("status", "failed"), (HOPS_KEY, str(reply.hops + 1)))
            self._begin(self._publish(reply.topic, body, reply.correlation, user))

    async def finish(self, wait_s: float) -> None:
        """Give what is ready so many seconds to be published, and give up the rest."""
        tasks = set(self._tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=wait_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work, name="agentflow-mqtt-result")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, handle: RunHandle, reply: Reply) -> None:
        try:
            result = await handle.result()
        except AgentflowError:
            return  # another process goes on with it, or the next start of this one
        body = {**result.to_dict(), EVENT_ID_KEY: handle.event_id}
        user = (
            ("run_id", handle.run_id),
            (EVENT_ID_KEY, f"{handle.run_id}.result"),
            ("status", result.status),
            (HOPS_KEY, str(reply.hops + 1)),
        )
        for topic, correlation in ((reply.topic, reply.correlation), (self._results_topic, b"")):
            if topic:
                await self._publish(topic, body, correlation, user)

    async def _publish(self, topic: str, body: Mapping[str, Any], correlation: bytes, user: UserProperties) -> None:
        run_id = body["run_id"]
        if self._waiting >= MOST_WAITING:
            self._warn("mqtt_result_dropped", {"run_id": run_id, "detail": "the broker is away, and too many results wait for it"})
            return
        self._waiting += 1
        try:
            for _ in range(MOST_TRIES):
                connection: Connection | None = await self._connected()
                if connection is None:
                    return
                try:
                    payload = _payload(body, min(LARGEST, connection.largest_packet // 2))
                    await connection.publish(topic, payload, correlation=correlation, user=user)
                except LinkError:
                    continue
                return
            self._warn("mqtt_result_dropped", {"run_id": run_id, "topic": topic, "detail": "the connection is lost at it each time"})
        except RefusedPublicationError as error:
            self._warn("mqtt_result_refused", {"run_id": run_id, "topic": topic, "detail": str(error)})
        finally:
            self._waiting -= 1


def _payload(body: Mapping[str, Any], most: int) -> bytes:
    payload = json.dumps(body, separators=(",", ":")).encode()
    if len(payload) <= most:
        return payload
    short = {name: body.get(name) for name in ("run_id", EVENT_ID_KEY, "status", "reason")}
    return json.dumps({**short, "left_out": f"the result has {len(payload):,} bytes"}, separators=(",", ":")).encode()
