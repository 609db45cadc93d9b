"""A planner makes a task of each file it is asked about, workers do what is their trade, an editor writes one note."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path
from typing import Any

from agentflow import Event, State

DATA = Path(__file__).parent / "data"
TELLING = ("great", "late")

Answer = dict[str, Any]


async def plan(event: Event, state: State) -> Answer:
    """Make a task of each file; its ending is the specialty that it needs."""
    return {"tasks": [{"id": name, "specialty": name.rpartition(".")[2], "input": name} for name in event.data["files"]]}


async def total(event: Event, state: State) -> Answer:
    """Add up the amounts of a table; the event's data is the task."""
    amounts = [float(row["amount"]) for row in csv.DictReader(_text(event.data["input"]).splitlines())]
    return {"finding": f"{len(amounts)} rows, {sum(amounts):.2f} in all"}


async def count_words(event: Event, state: State) -> Answer:
    """Count the telling words of a text."""
    words = Counter(re.findall(r"\w+", _text(event.data["input"]).lower()))
    return {"finding": ", ".join(f"{word}: {words[word]}" for word in TELLING)}


async def write(event: Event, state: State) -> Answer:
    """Write the findings in the order of the plan."""
    return {"note": [f"{result['id']}: {result['output']['finding']}" for result in event.data["results"]]}


def _text(name: str) -> str:
    path = DATA / name
    if not path.exists():
        raise LookupError(f"there is no file {name}")
    return path.read_text(encoding="utf-8")
