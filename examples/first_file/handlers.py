"""Every agent that the first file's modes may use, over one quarter of (made-up) sales."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from agentflow import Event, Runner, State

DATA = Path(__file__).parent / "data"

Answer = dict[str, Any]


def register(runner: Runner) -> None:
    """Register the agents of all modes, as switching the mode must need no change here."""
    agents = {
        "analyzer": analyze,
        "validator": validate,
        "processor": process,
        "collector": collect,
        "transformer": transform,
        "publisher": publish,
        "quality_checker": check_quality,
    }
    for name, handler in agents.items():
        runner.register_agent(name, handler)


def analyze(event: Event, state: State) -> Answer:
    """Find how revenue moved from the first month to the last."""
    revenue = _revenue_by(_sales(event), "month")
    months = sorted(revenue)
    growth = 100 * (revenue[months[-1]] / revenue[months[0]] - 1)
    return {"analysis": {"best_month": max(months, key=revenue.__getitem__), "growth_percent": round(growth, 1)}}


def validate(event: Event, state: State) -> Answer:
    """Name the rows whose figures cannot be right."""
    wrong = [place for place, row in enumerate(_sales(event)) if row["units"] <= 0 or row["revenue"] <= 0]
    return {"validation": {"is_valid": not wrong, "wrong_rows": wrong}}


def process(event: Event, state: State) -> Answer:
    """Add up the revenue of every region."""
    return {"revenue_by_region": _revenue_by(_sales(event), "region")}


def collect(event: Event, state: State) -> Answer:
    """Read the data set."""
    return {"rows": _sales(event)}


def transform(event: Event, state: State) -> Answer:
    """Add the price per unit to every collected row."""
    return {"rows": [{**row, "price": round(row["revenue"] / row["units"], 2)} for row in state["rows"]]}


def publish(event: Event, state: State) -> Answer:
    """Say in one line what was collected."""
    return {"published": f"{len(state['rows'])} rows from {event.data['dataset']}"}


def check_quality(event: Event, state: State) -> Answer:
    """Look once more: the quality is the share of complete rows."""
    rows = _sales(event)
    quality = sum(all(row.values()) for row in rows) / len(rows)
    return {"quality": quality, "loop_complete": quality >= 0.95}


def _sales(event: Event) -> list[Answer]:
    rows: list[Answer] = json.loads((DATA / event.data["dataset"]).read_text(encoding="utf-8"))
    return rows


def _revenue_by(rows: list[Answer], key: str) -> dict[str, float]:
    revenue: Counter[str] = Counter()
    for row in rows:
        revenue[row[key]] += row["revenue"]
    return dict(revenue)
