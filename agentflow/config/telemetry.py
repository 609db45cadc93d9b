"""The table that says what is measured and traced, and where traces go."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from agentflow.config.section import ADVICE, Section


def _endpoint(value: str) -> str:
    try:
        url = urlsplit(value)
        is_address = url.scheme in {"http", "https"} and bool(url.hostname) and (url.port or 1) > 0
    except ValueError:
        is_address = False
    if not is_address or not value.isprintable() or value != value.strip() or url.query or url.fragment:
        raise PydanticCustomError("AF0104", "must be the http(s) address of a collector", {ADVICE: "e.g. http://localhost:4318"})
    if url.username is not None or url.password is not None:
        advice = "give it in the environment: OTEL_EXPORTER_OTLP_HEADERS=authorization=..."
        raise PydanticCustomError("AF0104", "must not hold a user or a password", {ADVICE: advice})
    return value


class TelemetryConfig(Section):
    """What is counted and traced, and where traces go."""

    otlp_endpoint: Annotated[str, AfterValidator(_endpoint)] | None = Field(
        default=None,
        description="Where traces are sent, by OTLP over HTTP, e.g. `http://localhost:4318`; needs the extra `[otel]`. Default: nowhere, "
        "unless the program has set up an OpenTelemetry SDK of its own.",
    )
    metrics: bool | None = Field(
        default=None,
        description="Count events and calls from the start on; false: from the first `runner.metrics()` on. "
        "Default: true where runs are recorded.",
    )
    capture_content: bool = Field(
        default=False, description="Put what events, agents and errors say into traces. By default only names, figures and codes go there."
    )
