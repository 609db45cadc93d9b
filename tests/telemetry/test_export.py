"""Traces on their way to a collector: a real one on the loopback, one that is away, and the packages that are not there."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from agentflow import Event, Runner
from agentflow.config.diagnostics import ConfigError
from agentflow.telemetry import export

ROOT = Path(__file__).parents[2]


@dataclass
class CollectorAway:
    """A collector on the loopback: `answers` are the status codes it gives, the last one again and again."""

    answers: list[int] = field(default_factory=lambda: [200])
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    address: str = ""

    def spans(self) -> dict[str, dict[str, Any]]:
        """Return the attributes of each span that came in, by its name, those of the resource among them."""
        found: dict[str, dict[str, Any]] = {}
        for _, _, body in self.requests:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                about = {one.key: one.value.string_value for one in resource.resource.attributes}
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        found[span.name] = about | {one.key: one.value.string_value for one in span.attributes}
        return found


@pytest.fixture
def collector() -> Iterator[CollectorAway]:
    """A collector that listens."""
    told = CollectorAway()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            told.requests.append((self.path, {name.lower(): text for name, text in self.headers.items()}, body))
            status = told.answers.pop(0) if len(told.answers) > 1 else told.answers[0]
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - http.server's own name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield told
    server.shutdown()
    server.server_close()
    thread.join()


def project(folder: Path, endpoint: str, more: str = "") -> Path:
    """Write a project of one agent whose traces go to an address."""
    (folder / "handlers.py").write_text(
        'from agentflow import agent\n\n\n@agent("a")\nasync def a(event, state):\n    return {"answer": "the-answer"}\n', encoding="utf-8"
    )
    about = '[agent_flow]\nname = "desk"\nversion = "1.2"\nentrypoint = "handlers"\n'
    text = f'{about}[telemetry]\notlp_endpoint = "{endpoint}"\n{more}[agents.a]\n'
    path = folder / "agentflow.toml"
    path.write_text(text, encoding="utf-8")
    return path


def log_in(folder: Path) -> str:
    """Return the table of a log of JSON lines."""
    return f'[logging]\nlevel = "warning"\nformat = "json"\nfile = "{folder}/log"\n'


def run(path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run an event in a process of its own."""
    command = [sys.executable, "-m", "agentflow", "run", str(path), "--target", "a", "--set", "question=the-question"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "NO_PROXY": "*", **variables}
    return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=60, check=False)


async def one_run(path: Path) -> None:
    """Run an event in this process."""
    async with Runner.from_config(path, environ={}) as runner:
        assert "completed" == (await runner.run(Event("a"))).status


def test_the_command_line_sends_its_spans_to_the_collector(tmp_path: Path, collector: CollectorAway) -> None:
    """By OTLP over HTTP, to /v1/traces, named after the project, and without what was said."""
    done = run(project(tmp_path, collector.address))
    assert (0, {"/v1/traces"}) == (done.returncode, {path for path, _, _ in collector.requests}), done.stderr
    assert "application/x-protobuf" == collector.requests[0][1]["content-type"]
    spans = collector.spans()
    assert {"run route", "step a"} == set(spans)
    assert ("desk", "1.2") == (spans["step a"]["service.name"], spans["step a"]["service.version"])
    assert "completed" == spans["run route"]["agentflow.status"]
    assert [] == [word for word in (b"the-question", b"the-answer") for _, _, body in collector.requests if word in body]


def test_what_is_said_is_sent_where_the_configuration_asks_for_it(tmp_path: Path, collector: CollectorAway) -> None:
    """`capture_content = true`; headers and the service's name may come from the environment, by OpenTelemetry's own names."""
    path = project(tmp_path, f"{collector.address}/v1/traces", "capture_content = true\n")
    done = run(path, OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20secret", OTEL_SERVICE_NAME="renamed")
    assert 0 == done.returncode, done.stderr
    ((place, headers, body),) = collector.requests
    assert ("/v1/traces", "Bearer secret") == (place, headers["authorization"])
    assert b"the-question" in body
    assert b"the-answer" in body
    assert "renamed" == collector.spans()["step a"]["service.name"]


def test_a_collector_that_fails_changes_nothing_of_a_run_and_is_told_to_the_log(
    tmp_path: Path, collector: CollectorAway, capfd: pytest.CaptureFixture[str]
) -> None:
    """The runner's log, not a line of another library's."""
    collector.answers[:] = [400]
    before = set(logging.getLogger("opentelemetry").handlers)
    asyncio.run(one_run(project(tmp_path, collector.address, log_in(tmp_path))))
    assert 1 == len(collector.requests)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text(encoding="utf-8").splitlines()]
    assert ["traces"] == list({line["event"] for line in lines})
    assert "400" in str(lines)
    assert "" == capfd.readouterr().err
    assert set() == set(logging.getLogger("opentelemetry").handlers) - before


def test_a_collector_that_is_away_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner stops after FLUSH_S seconds at most; what could not be sent is lost, the run is not."""
    monkeypatch.setattr(export, "FLUSH_S", 0.05)
    with socket.socket() as listener:  # connects, and never answers
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        loop = asyncio.new_event_loop()
        before = loop.time()
        loop.run_until_complete(one_run(project(tmp_path, f"http://127.0.0.1:{listener.getsockname()[1]}", log_in(tmp_path))))
        took_s = loop.time() - before
        loop.close()
    assert took_s < 2.0


def test_without_the_extra_an_endpoint_is_refused_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start, by the key's place: nothing is run whose traces would silently go nowhere."""
    monkeypatch.delitem(sys.modules, "agentflow.telemetry.export")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError, match=r"agentflow\.toml:6:17") as caught:
        asyncio.run(one_run(project(tmp_path, "http://localhost:4318")))
    (one,) = caught.value.diagnostics
    assert ("AF0123", "pip install 'agentflow[otel]'") == (one.code, one.help)


UNSEEN = """
import asyncio, sys
from agentflow import Event, Runner

async def main():
    for sections in ({}, {"journal": {"url": "memory:"}}, {"telemetry": {"metrics": True, "capture_content": True}}):
        runner = Runner.from_dict({"agents": {"a": {}}, **sections}, environ={})
        runner.register_agent("a", answer)
        async with runner:
            await runner.run(Event("a", metadata={"traceparent": "x"}))
            runner.metrics()

async def answer(event, state):
    pass

asyncio.run(main())
import agentflow.cli
agentflow.cli.main(["schema"])
assert [] == [name for name in sys.modules if name.startswith(("opentelemetry", "google", "requests", "agentflow.telemetry"))]
"""


def test_opentelemetry_is_not_imported_where_nobody_asked_for_traces() -> None:
    """Not by runs, metrics or the command line: a hundred milliseconds, and no package that has to be there."""
    command = [sys.executable, "-c", UNSEEN]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, encoding="utf-8", check=False)
    assert 0 == done.returncode, done.stderr
