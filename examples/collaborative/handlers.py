"""Three views of the same numbers, taken at the same time."""

from __future__ import annotations

from statistics import fmean, median, pstdev
from typing import Any

from agentflow import Event, State


async def analyze(event: Event, state: State) -> dict[str, Any]:
    """Describe the numbers, leaving out what is none."""
    numbers = [value for value in event.data["values"] if isinstance(value, int | float)]
    return {"analysis": {"mean": round(fmean(numbers), 2), "median": median(numbers), "deviation": round(pstdev(numbers), 2)}}


async def validate(event: Event, state: State) -> dict[str, Any]:
    """Say how many values are no numbers."""
    wrong = [value for value in event.data["values"] if not isinstance(value, int | float)]
    return {"validation": {"is_valid": not wrong, "wrong_values": wrong}}


async def process(event: Event, state: State) -> dict[str, Any]:
    """Scale the numbers to 0-1. Raises TypeError for anything else: the other two agents still answer."""
    values = event.data["values"]
    low, high = min(values), max(values)
    return {"processed": [round((value - low) / (high - low), 3) for value in values]}
