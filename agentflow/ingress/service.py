"""The service: one runner, what brings it events from outside, and the order in which they begin and end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Protocol

from agentflow.core.event import Event
from agentflow.core.result import RunResult, StopReport
from agentflow.engine.run import RunHandle
from agentflow.errors import AgentflowError
from agentflow.ingress.problems import RETRY_S, refused
from agentflow.ingress.readiness import Readiness
from agentflow.runner import Runner
from agentflow.system import SystemClock

MOST_ACCEPTING = 1000  # events whose acceptance is being written; more are refused at once
OVERRIDE = "orchestration_override"
_OPEN = ("paused", "pending", "running")


class ServiceError(AgentflowError):
    """The service cannot start as it is configured: a protection that it needs is missing."""

    code = "AF0801"


class Ingress(Protocol):
    """A way in for events."""

    async def start(self) -> None:
        """Begin to listen. The runner has started, and takes no events before the service is ready."""

    def close(self) -> None:
        """Take no more events; returns at once."""

    async def stop(self) -> None:
        """Let go of everything, once open runs have ended or were left."""


class Service:
    """Runs a runner for months.

    Args:
        runner: not started yet.
        clock: tells the time, and gives ids.

    Attributes:
        readiness: whether it takes events.
        ready: is set when it takes events for the first time.
        ingresses: what brings events; to be filled before the start.
    """

    def __init__(self, runner: Runner, clock: SystemClock) -> None:
        self.runner = runner
        self.clock = clock
        scheme, _, path = runner.journal_url.partition(":")
        journal = Path(path) if scheme == "sqlite" else None
        self.readiness = Readiness(journal, lambda: runner.metrics(is_present=True), clock.monotonic)
        runner.fault = lambda: self.readiness.fault
        self.ready = asyncio.Event()
        self.ingresses: list[Ingress] = []
        self._accepting = 0

    async def start(self) -> int:
        """Start the runner, listen, take over what earlier processes have left unfinished, and be ready; return how many runs.

        Raises:
            ServiceError: nothing would be recorded.
            AgentflowError: the runner cannot start.
            OSError: an address cannot be listened at.
        """
        runner = self.runner
        runner.takes_over = True
        try:
            await runner.start()
            if runner.durability is None:
                told = "nothing would be recorded, and so nothing could be acknowledged"
                raise ServiceError(told, hint='write url = "sqlite:PATH" in [journal]')  # noqa: TRY301 - what is begun is ended below
            for ingress in self.ingresses:
                await ingress.start()
            taken = await runner.resume()
        except BaseException:
            await self.stop(0)
            raise
        if self.readiness.phase == "recovering":
            self.readiness.phase = "ready"
        self.ready.set()
        return len(taken)

    def close(self) -> None:
        """Be ready no more and take no more events; returns at once. What is under way goes on."""
        self.readiness.phase = "draining"
        for ingress in self.ingresses:
            ingress.close()

    async def stop(self, timeout_s: float | None = None) -> StopReport:
        """Take no more events, give open runs `timeout_s` seconds (default: `drain_timeout_seconds`) to end, and let go of all."""
        self.close()
        try:
            return await self.runner.stop(timeout_s)
        finally:
            for ingress in reversed(self.ingresses):
                await ingress.stop()

    async def emit(self, event: Event) -> RunHandle:
        """Accept an event that came from outside; durable when it returns.

        Raises:
            RefusedError: no events are taken now, too many are on their way, or it asks for what only the operator may.
            AgentflowError: as `Runner.emit`.
        """
        self.readiness.require_taking()
        if OVERRIDE in event.kept_metadata:
            raise refused(
                403, "AF0821", f"an event from outside may not set `{OVERRIDE}`", "let a [[orchestration.switch]] rule choose the flow"
            )
        if self._accepting >= MOST_ACCEPTING:
            raise refused(429, "AF0824", "too many events are being recorded at this moment", "send slower", retry_s=RETRY_S)
        self._accepting += 1
        try:
            return await self.runner.emit(event, wait=False)
        finally:
            self._accepting -= 1


async def outcome(handle: RunHandle, wait_s: float) -> RunResult | None:
    """Wait for a run's end; None when it has not ended in time, waits for somebody, or was left for another process."""
    try:
        async with asyncio.timeout(wait_s):
            return await handle.result() if await handle.wait() not in _OPEN else None
    except (TimeoutError, AgentflowError):
        return None
