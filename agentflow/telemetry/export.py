"""Export: spans on their way to a collector, by OTLP over HTTP."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Tracer

from agentflow.config.model import Config
from agentflow.ports import Clock, Executor, Log
from agentflow.telemetry.tracing import SCOPE, Tracing

FLUSH_S = 3.0  # for what is still to be sent when the runner stops: a collector that does not answer holds nobody up
PATH = "/v1/traces"
_LOGGER = "opentelemetry"


class Collector:
    """Sends spans to a collector, in the background and in batches.

    Args:
        endpoint: its address, with or without the path `/v1/traces`.
        service, version: what the spans are of; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over them.
        warn: is told what could not be sent.
    """

    def __init__(self, endpoint: str, service: str, version: str, warn: Callable[[str], None]) -> None:
        told = Resource({"service.name": service, **({"service.version": version} if version else {})})
        resource = Resource.create().merge(told).merge(OTELResourceDetector().detect())
        base = endpoint.rstrip("/")
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(base if base.endswith(PATH) else base + PATH)))
        self._relay = _Relay(warn)
        logging.getLogger(_LOGGER).addHandler(self._relay)

    def tracer(self) -> Tracer:
        """Return what makes the spans."""
        return self._provider.get_tracer(SCOPE)

    async def close(self) -> None:
        """Send what is left, for at most FLUSH_S seconds."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def send() -> None:
            self._provider.shutdown()
            logging.getLogger(_LOGGER).removeHandler(self._relay)  # not before: what it still says would come out on stderr
            with suppress(RuntimeError):  # nobody waits any more, and the loop is closed
                loop.call_soon_threadsafe(done.set)

        # A daemon: one that the event loop or the interpreter waited for could hold up the end of the process.
        threading.Thread(target=send, name="agentflow-traces", daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await done.wait()


class _Relay(logging.Handler):
    """Hands what the SDK logs, from its own threads, to the runner's log."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._warn = warn

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):  # a log that cannot be written must not stop the thread that sends
            self._warn(record.getMessage())


def tracing(config: Config, executor: Executor, clock: Clock, log: Log) -> Tracing:
    """Return what traces a runner's runs, and sends the spans to the configured collector."""
    told, about = config.telemetry, config.agent_flow
    collector = Collector(told.otlp_endpoint or "", about.name, about.version, lambda text: log.warn("traces", {"detail": text}))
    return Tracing(collector.tracer(), executor, clock, has_content=told.capture_content, close=collector.close)
