"""The table [telemetry]: what an endpoint may be, and what it never holds."""

from collections.abc import Callable

import pytest

from agentflow.config import Draft


@pytest.mark.parametrize("endpoint", ["http://localhost:4318", "https://collector.example/otlp/", "http://[::1]:4318/v1/traces"])
def test_an_endpoint_is_the_http_address_of_a_collector(draft: Callable[..., Draft], endpoint: str) -> None:
    """With or without a path."""
    read = draft(f'[telemetry]\notlp_endpoint = "{endpoint}"\ncapture_content = true\nmetrics = false\n')
    assert [] == read.diagnostics
    assert read.config is not None
    told = read.config.telemetry
    assert (endpoint, True, False) == (told.otlp_endpoint, told.capture_content, told.metrics)


def test_by_default_nothing_is_sent_nor_captured(draft: Callable[..., Draft]) -> None:
    """And whether events are counted depends on whether they are recorded."""
    config = draft("").config
    assert config is not None
    assert (None, False, None) == (config.telemetry.otlp_endpoint, config.telemetry.capture_content, config.telemetry.metrics)


@pytest.mark.parametrize(
    "endpoint",
    ["", "localhost:4318", "grpc://localhost:4317", "http://", "http://host:port", "http://host:99999", " http://host", "http://host?x=1"],
)
def test_anything_else_is_refused_with_an_example(draft: Callable[..., Draft], endpoint: str) -> None:
    """At load, at its place."""
    (one,) = draft(f'[telemetry]\notlp_endpoint = "{endpoint}"\n').diagnostics
    assert ("AF0104", 2, 17, "e.g. http://localhost:4318") == (one.code, one.line, one.column, one.help)


def test_a_password_in_an_endpoint_is_refused_and_never_shown(draft: Callable[..., Draft]) -> None:
    """It belongs into the environment, where OpenTelemetry looks for headers."""
    (one,) = draft('[telemetry]\notlp_endpoint = "https://me:hunter2@collector.example"\n').diagnostics
    assert ("AF0104", True) == (one.code, "OTEL_EXPORTER_OTLP_HEADERS" in one.help)
    assert "hunter2" not in one.render()


@pytest.mark.parametrize("table", ["metrics = 1", 'capture_content = "yes"', "otlp_endpoint = true", "otlp_headers = {}"])
def test_values_of_another_kind_and_unknown_keys_are_refused(draft: Callable[..., Draft], table: str) -> None:
    """As everywhere."""
    assert {"AF0102", "AF0103"} >= {one.code for one in draft(f"[telemetry]\n{table}\n").diagnostics} != set()
