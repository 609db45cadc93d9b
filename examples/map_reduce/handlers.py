"""The logs of several servers, each read by itself; then one report on all of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from agentflow import Event, State

DATA = Path(__file__).parent / "data"
SLOW_MS = 500

Answer = dict[str, Any]


async def read(event: Event, state: State) -> Answer:
    """Count the requests of one log, and keep the errors and the times of each page."""
    name = event.data["item"] if "item" in event.data else event.data["input"]
    path = DATA / name
    if not path.exists():
        raise LookupError(f"there is no log {name}")
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    errors = Counter(page for _, status, _, page in rows if status.startswith("5"))
    return {"read": {"requests": len(rows), "errors": dict(errors), "times_ms": [[page, int(took)] for _, _, took, page in rows]}}


async def report(event: Event, state: State) -> Answer:
    """Add up what the logs came to; `results` is in the order of the logs, whichever was read first."""
    logs = [result["read"] for result in event.data["results"]]
    slow_ms = (event.data["input"] or {}).get("slow_ms", SLOW_MS)
    errors: Counter[str] = Counter()
    for log in logs:
        errors.update(log["errors"])
    slow = sorted({page for log in logs for page, took in log["times_ms"] if took > slow_ms})
    requests = sum(log["requests"] for log in logs)
    return {"report": {"requests": requests, "errors": dict(errors), "slow": slow, "unread": event.data["failed"]}}


async def write(event: Event, state: State) -> Answer:
    """Make a line of the report: a second reducer gets what the first returned."""
    report = event.data["report"]
    errors = ", ".join(f"{page} {count}" for page, count in report["errors"].items())
    return {"notice": f"{report['requests']} requests; errors: {errors}; slow: {', '.join(report['slow'])}"}
