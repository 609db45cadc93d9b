"""`agentflow workers`: the pools of a configuration, and how they stand in the process that runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from agentflow import app
from agentflow.cli import terminal
from agentflow.cli.journals import Found, Place
from agentflow.cli.tables import columns
from agentflow.engine.workers import WORKERS

_CONFIGURED = ("count", "max", "max_failures", "idle_drain_seconds")
_LIVE = ("idle", "busy", "failed", "draining", "waiting", "completed_tasks", "failed_tasks", "avg_latency_ms")
_TITLES = ("POOL", "COUNT", "MAX", "MAX FAILURES", "IDLE DRAIN")
_LIVE_TITLES = ("POOL", "COUNT", "MAX", "IDLE", "BUSY", "FAILED", "DRAINING", "WAITING", "DONE", "FAILED TASKS", "MEAN MS")


def show_workers(place: Place, *, is_json: bool) -> None:
    """Print the pools.

    Raises:
        AgentflowError: the configuration cannot be read.
    """
    found = place.found()
    if found.project is not None:
        found.project.require(may_lack_modes=True)
    told = asyncio.run(app.ask_live(found.choice, {"verb": WORKERS})) or {}
    live = {pool["specialty"]: pool for pool in told.get("pools", [])} if "pools" in told else None
    rows = _rows(found, live or {})
    if is_json:
        more = told.get("more_pools", 0)
        row = {"is_live": live is not None, "pools": rows, "more_pools": more, "workers": told.get("workers", [])}
        terminal.out(terminal.as_json(row, is_indented=True))
        return
    for line in _lines(rows, is_live=live is not None):
        terminal.out(line)
    if told.get("more_pools"):
        terminal.note(f"{told['more_pools']} more pools are not shown")
    if rows and live is None:
        terminal.note("no process has the journal open: these are the pools that one would have")


def _rows(found: Found, live: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row a pool: what the configuration says of it, None for one that was spawned, and how it stands, where it runs."""
    tables = {} if found.project is None else found.project.config.workers
    rows = []
    for name in dict.fromkeys([*tables, *live]):
        table, now = tables.get(name), live.get(name)
        told = dict.fromkeys(_CONFIGURED) if table is None else {**table.model_dump(), "max": table.most}
        rows.append({"specialty": name, **told, "now": None if now is None else {key: now.get(key) for key in _LIVE}})
    return rows


def _lines(rows: list[dict[str, Any]], *, is_live: bool) -> list[str]:
    if not rows:
        return ["no pools: add [workers.NAME], NAME being the agent whose calls lease a worker"]
    if not is_live:
        return columns(_TITLES, [[_cell(row[key]) for key in ("specialty", *_CONFIGURED)] for row in rows])
    told = [[row["specialty"], row["count"], row["max"], *[(row["now"] or {}).get(key) for key in _LIVE]] for row in rows]
    return columns(_LIVE_TITLES, [[_cell(cell) for cell in cells] for cells in told])


def _cell(value: object) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
