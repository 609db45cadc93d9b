"""`agentflow status`: how the process that has the journal stands, and without one what the journal says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from agentflow import app
from agentflow.cli import terminal
from agentflow.cli.hints import Hint
from agentflow.cli.journals import Found, Place
from agentflow.cli.tables import moment
from agentflow.core.run_row import OPEN_STATES
from agentflow.engine.health import STATUS
from agentflow.errors import StoreMissingError
from agentflow.stores.checkup import checkup

_OPEN = tuple(sorted(OPEN_STATES))


def show_status(place: Place, *, is_json: bool) -> None:
    """Print the status.

    Raises:
        AgentflowError: the configuration or the journal cannot be read.
    """
    found = place.found()
    told = asyncio.run(_told(found))
    if is_json:
        terminal.out(terminal.as_json(told, is_indented=True))
        return
    for line in _lines(told, Hint(place.config, place.journal)):
        terminal.out(terminal.safe(line))


async def _told(found: Found) -> dict[str, Any]:
    path = found.choice.path
    if path is None:
        return {"journal": found.choice.url, "last_commit": None, "recorded": None, "process": None}
    written_at = checkup(path).written_at  # before the process is asked, for it writes to see whether it can
    live = await app.ask_live(found.choice, {"verb": STATUS})
    try:
        async with found.opened() as (store, _):
            counts: dict[str, int] | None = await store.counts()
    except StoreMissingError:
        counts = None
    process = None if live is None or "error" in live else live
    return {"journal": found.choice.url, "last_commit": written_at, "recorded": counts, "process": process}


def _lines(told: Mapping[str, Any], hint: Hint) -> Iterator[str]:
    process, counts = told["process"], told["recorded"]
    if process is None:
        yield f"no process that answers has the journal {told['journal']}"
    else:
        yield from _process(process)
    if counts is None:
        yield "nothing was recorded here yet"
        return
    opened = {state: counts[state] for state in _OPEN if counts[state]}
    states = ", ".join(f"{count} {state}" for state, count in opened.items())
    written = moment(told["last_commit"])
    many = f"{counts['runs']} run{'s' * (counts['runs'] != 1)}"
    yield f"recorded: {many}, {counts['records']} records; open: {states or 'none'}; last commit {written}"
    if process is None and opened:
        yield f"to go on with them: {hint.command('resume')}"


def _process(process: Mapping[str, Any]) -> Iterator[str]:
    ready = "ready" if process["is_ready"] else f"takes no events: {process['fault']}"
    yield f"process {process['pid']} since {moment(process['since'])}, agentflow {process['version']}: {ready}"
    health = process["health"]
    yield f"health: {health['status']}{''.join(f'; {reason}' for reason in health['reasons'])}"
    runs = process["runs"]
    sessions = f"{process['sessions']} session{'s' * (process['sessions'] != 1)}"
    yield f"now: {runs['running']} running, {runs['paused']} paused, {process['queue_depth']} queued; {sessions}"
    for breaker in process["breakers"]:
        yield f"circuit of {breaker['agent']}: {breaker['state']} after {breaker['failures']} failures, {breaker['left_s']:.1f} s left"
    for pool in process["workers"]:
        yield f"workers of {pool['specialty']}: {', '.join(f'{pool[name]} {name}' for name in ('busy', 'idle', 'failed', 'waiting'))}"
    if process["warnings"]:
        yield "warnings: " + ", ".join(f"{count} {name}" for name, count in process["warnings"].items())
