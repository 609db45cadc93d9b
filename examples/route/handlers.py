"""Two agents with separate duties: an event reaches exactly one of them."""

from __future__ import annotations

from statistics import fmean, median
from typing import Any

from agentflow import Event, State


async def process(event: Event, state: State) -> dict[str, Any]:
    """Sort the values and drop the repeated ones."""
    return {"processed": sorted(set(event.data["values"]))}


async def analyze(event: Event, state: State) -> dict[str, Any]:
    """Describe the values."""
    values = event.data["values"]
    return {"analysis": {"count": len(values), "mean": fmean(values), "median": median(values)}}
