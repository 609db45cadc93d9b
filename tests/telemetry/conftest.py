"""Runs on virtual time, with an OpenTelemetry SDK that keeps its spans in memory where a test asks for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentflow import Runner
from agentflow.testing import VirtualLoop, virtual_loop

MakeRunner = Callable[..., Runner]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], VirtualLoop]]:
    """Give each async test a loop whose clock jumps, so that no wait takes real time."""
    return {"virtual": virtual_loop}


@pytest.fixture
def make_runner() -> MakeRunner:
    """Make a runner of a main flow and handlers; `agents` adds to the agents' tables, further sections stand as they are."""

    def make(flow: Mapping[str, Any], handlers: Mapping[str, Any], *, agents: Mapping[str, Any] | None = None, **sections: Any) -> Runner:
        tables = {name: {} for name in handlers} | dict(agents or {})
        runner = Runner.from_dict({"orchestration": dict(flow), "agents": tables, **sections}, environ={})
        for name, handler in handlers.items():
            runner.register_agent(name, handler)
        return runner

    return make


@dataclass(frozen=True)
class Spans:
    """What the SDK was given so far."""

    exporter: InMemorySpanExporter

    @property
    def all(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended, in the order of their ends."""
        return tuple(self.exporter.get_finished_spans())

    def one(self, name: str) -> ReadableSpan:
        """Return the only span of a name."""
        (found,) = [span for span in self.all if span.name == name]
        return found

    def below(self, span: ReadableSpan) -> list[str]:
        """Return the names of a span's children, in alphabetical order."""
        assert span.context is not None
        return sorted(other.name for other in self.all if other.parent is not None and other.parent.span_id == span.context.span_id)

    @property
    def text(self) -> str:
        """All that is in them."""
        return json.dumps([json.loads(span.to_json()) for span in self.all])


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    """Set up an SDK as a program does, for one test: the API allows it once a process."""
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield Spans(exporter)
    provider.shutdown()
