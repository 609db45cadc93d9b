"""Ambient: spans for the OpenTelemetry SDK that the program itself has set up. Needs nothing but the API."""

from __future__ import annotations

from opentelemetry.trace import NoOpTracerProvider, ProxyTracerProvider, get_tracer_provider

from agentflow.config.model import Config
from agentflow.ports import Clock, Executor, Log
from agentflow.telemetry.tracing import SCOPE, Tracing


def tracing(config: Config, executor: Executor, clock: Clock, log: Log) -> Tracing | None:
    """Return what traces a runner's runs, None where no SDK was set up."""
    provider = get_tracer_provider()
    if isinstance(provider, ProxyTracerProvider | NoOpTracerProvider):
        return None
    return Tracing(provider.get_tracer(SCOPE), executor, clock, has_content=config.telemetry.capture_content)
