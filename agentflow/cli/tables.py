"""Values and tables as text for a person."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from agentflow.cli.progress import ending
from agentflow.cli.terminal import as_json, safe
from agentflow.core.run_row import RunRow

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_value(value: object) -> str:
    """Return a value as TOML writes it on one line."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key if _BARE.fullmatch(str(key)) else as_json(str(key))} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    return as_json(value)


def written(rows: Sequence[Mapping[str, object]]) -> str:
    """Return the agents of a configuration, a paragraph each."""
    return "\n\n".join("\n".join(_agent(row)) for row in rows) or "no agents"


def _agent(row: Mapping[str, object]) -> list[str]:
    reached = {True: "reached by the main flow", False: "not reached by the main flow", None: "the main flow has mistakes"}
    state = ", ".join([*([] if row["enabled"] else ["disabled"]), reached[row["reached"]]])  # type: ignore[index]
    lines = [f"{row['name']}  ({state})"]
    keys = {name: row[name] and ", ".join(row[name]) for name in ("capabilities", "reads", "writes")}  # type: ignore[arg-type]
    told = {
        "role": row["role"],
        "description": row["description"],
        "capabilities": keys["capabilities"],
        "reads": keys["reads"],
        "writes": "nothing" if row["writes"] == [] else keys["writes"],
        "version": row["version"],
        "handler": row["handler"] or "not named in the file",
    }
    return lines + [f"    {title}: {text}" for title, text in told.items() if text]


def columns(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows under their titles, each column as wide as what stands in it; the last one is not padded."""
    table = [[safe(cell).replace("\n", " ") for cell in row] for row in (titles, *rows)]
    widths = [max(len(row[at]) for row in table) for at in range(len(titles))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def moment(at: float | None) -> str:
    """Return seconds since the epoch as date and time in UTC, "" for none."""
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def blocker_told(row: RunRow) -> str:
    """Return the run whose turn it is in a session, and where it stands."""
    return f"{row.run_id} ({row.state}: {row.reason})" if row.reason else f"{row.run_id} ({row.state})"


def state_told(row: RunRow) -> str:
    """Return in words where a run stands: its status when it has ended, else its state, with the reason."""
    told = row.status or row.state
    return ending(told, row.reason) if row.reason else told
