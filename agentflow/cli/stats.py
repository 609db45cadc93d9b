"""`agentflow stats`: what all recorded runs come to, and how the process that has the journal stands."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from agentflow import app
from agentflow.cli import terminal
from agentflow.cli.histories import time_of
from agentflow.cli.journals import Place
from agentflow.cli.progress import duration
from agentflow.cli.tables import columns, moment
from agentflow.core.run_row import OPEN_STATES, RunFilter
from agentflow.core.tally import EVENTS
from agentflow.engine.history import Counted
from agentflow.engine.metrics import METRICS

_COUNTS = ("calls", "completed", "failed", "retries", "fallbacks", "abandoned")
_TIMES = ("p50", "p95", "p99", "max")
_AGENT_TITLES = ("AGENT", "CALLS", "COMPLETED", "FAILED", "RETRIES", "FALLBACKS", "ABANDONED", "SUCCESS", "P50", "P95", "P99", "MAX")
_PATTERN_TITLES = ("PATTERN", *(name.replace("_", " ").upper() for name in EVENTS))


def show_stats(place: Place, since: str | None, *, is_json: bool) -> None:
    """Print the figures of the runs that were started since a time, of all when none is given.

    Raises:
        UsageError: `since` is no time.
        AgentflowError: the journal cannot be read.
    """
    began = None if since is None else time_of(since)
    found = place.found()

    async def read() -> tuple[Counted, dict[str, Any] | None]:
        async with found.opened() as (_, history):
            counted = await history.counted(RunFilter(since=began, newest_first=False))
        return counted, await app.ask_live(found.choice, {"verb": METRICS})

    counted, live = asyncio.run(read())
    row: dict[str, Any] = {"journal": found.choice.url, "since": began, "runs": dict(sorted(counted.states.items()))}
    row |= counted.tally.to_dict() | {"unread": counted.unread, "live": live}
    if is_json:
        terminal.out(terminal.as_json(row, is_indented=True))
    else:
        terminal.out(terminal.safe("\n".join(_told(row))))
    if counted.unread:
        count = len(counted.unread)
        terminal.note(f"{count} run{'s' * (count != 1)} cannot be read; `agentflow journal verify` names {'them' if count != 1 else 'it'}")


def _told(row: Mapping[str, Any]) -> Iterator[str]:
    events, latency = row["events"], row["latency_seconds"]
    came_to = ", ".join(f"{events[name]} {name.replace('_', ' ')}" for name in EVENTS if events[name] and name != "accepted")
    began = "" if row["since"] is None else f" since {moment(row['since'])}"
    open_runs = sum(row["runs"].get(state, 0) for state in OPEN_STATES)
    yield f"{events['accepted']} events accepted{began}: {came_to or 'none has ended'}; {open_runs} open"
    if latency["count"]:
        yield f"latency: {_times(latency)}"
    usage = row["usage"]
    if usage["total_tokens"] or usage["cost_usd"]:
        yield f"used: {usage['total_tokens']:,} tokens, {usage['cost_usd']:.4f} USD; budgets exhausted: {row['budgets_exhausted']}"
    if row["patterns"]:
        yield ""
        yield from columns(_PATTERN_TITLES, [(name, *(str(counts[one]) for one in EVENTS)) for name, counts in row["patterns"].items()])
    if row["agents"]:
        yield ""
        yield from columns(_AGENT_TITLES, [_agent(name, figures) for name, figures in row["agents"].items()])
    if row["live"] is not None:
        yield ""
        yield from _present(row["live"])


def _times(latency: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {duration(latency[name])}" for name in _TIMES)


def _agent(name: str, figures: Mapping[str, Any]) -> tuple[str, ...]:
    rate, latency = figures["success_rate"], figures["latency_seconds"]
    times = ("" if latency[one] is None else duration(latency[one]) for one in _TIMES)
    return name, *(str(figures[one]) for one in _COUNTS), "" if rate is None else f"{rate:.1%}", *times


def _present(live: Mapping[str, Any]) -> Iterator[str]:
    """Yield how the process that has the journal stands."""
    runs = live.get("runs", {})
    yield f"now: {runs.get('running', 0)} running, {runs.get('paused', 0)} paused, {live.get('queue_depth', 0)} queued"
    for name in live.get("open_breakers", []):
        breaker = live["gates"][name]["breaker"]
        yield f"circuit of {name}: {breaker['state']} after {breaker['failures']} failures, {breaker['left_s']:.1f} s left"
    for pool in live.get("workers", []):
        told = ", ".join(f"{pool[name]} {name}" for name in ("busy", "idle", "failed", "waiting"))
        yield f"workers of {pool['specialty']}: {told}"
    for budget in live.get("budgets", []):
        left = ", ".join(f"{figure:g} {name}" for name, figure in budget["remaining"].items() if figure is not None)
        yield f"budget of {budget['run_id']}{' ' * bool(budget['scope'])}{budget['scope']}: {left} left"
    for name in (*live.get("abandoned_handlers", []), *live.get("abandoned_threads", [])):
        yield f"abandoned and still running: {name}"
    warnings = live.get("warnings", {})
    if warnings:
        yield "warnings: " + ", ".join(f"{count} {name}" for name, count in warnings.items())
