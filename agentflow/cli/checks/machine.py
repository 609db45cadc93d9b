"""What the machine has: versions, the extras that a configuration asks for, and a clock that goes forward."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec

from agentflow.cli.checks.finding import Finding
from agentflow.cli.progress import duration
from agentflow.cli.tables import moment
from agentflow.config.model import Config
from agentflow.stores.sqlite import MENDED, OLD

CLOCK_SLACK_S = 2.0  # what keeping a clock right may set it back by

_SERVER = ("starlette", "uvicorn", "prometheus_client")
_MQTT = ("aiomqtt",)
_OTEL = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


def versions() -> Iterator[Finding]:
    """Yield which versions there are, and what is known of them."""
    told = f"agentflow {version('agentflow')}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    yield Finding("versions", "ok", told)
    if sqlite3.sqlite_version_info < MENDED:
        mended = ".".join(map(str, MENDED))
        yield Finding("versions", "advice", OLD, f"when you take another Python, take one with SQLite {mended} or later")


def extras(config: Config) -> Iterator[Finding]:
    """Yield whether what a configuration asks for is installed."""
    wanted: dict[str, tuple[tuple[str, ...], list[str]]] = {
        "server": (_SERVER, [name for name in ("serve", "schedules", "mqtt") if name in config.given]),
        "mqtt": (_MQTT, ["mqtt"] if config.mqtt is not None else []),
        "otel": (_OTEL, ["telemetry.otlp_endpoint"] if config.telemetry.otlp_endpoint is not None else []),
    }
    for extra, (modules, keys) in wanted.items():
        if not keys:
            continue
        missing = [module for module in modules if not _is_installed(module)]
        asked = ", ".join(f"[{key}]" for key in keys)
        if missing:
            told = f"{asked} needs the extra [{extra}], of which {', '.join(missing)} is missing"
            yield Finding("extras", "problem", told, f"pip install 'agentflow[{extra}]'")
        else:
            yield Finding("extras", "ok", f"the extra [{extra}] is installed, which {asked} needs")


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it would be in
        return False


def clock(now: float, recorded_at: float | None) -> Finding:
    """Say whether the clock has gone back behind what is recorded."""
    if recorded_at is None or recorded_at <= now + CLOCK_SLACK_S:
        return Finding("clock", "ok", f"it is {moment(now)}")
    told = f"it is {moment(now)}, and the journal has a run of {moment(recorded_at)}: the clock was set back"
    waits = duration(recorded_at - now)
    return Finding("clock", "problem", told, f"look at the time synchronisation; until it is right, deadlines come {waits} late")
