"""A pipeline whose middle step is a flow of its own, which holds another flow in turn."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from agentflow import Event, State

Answer = dict[str, Any]


async def collect(event: Event, state: State) -> Answer:
    """Take the numbers to work on from the event."""
    return {"numbers": [float(number) for number in event.data["numbers"]]}


async def analyze(event: Event, state: State) -> Answer:
    """Take the mean."""
    return {"mean": round(fmean(state["numbers"]), 3)}


async def refine(event: Event, state: State) -> Answer:
    """Come closer to the square root of the sum: one step of Heron's method."""
    total = sum(state["numbers"])
    guess = state.get("estimate", total)
    better = (guess + total / guess) / 2
    return {"estimate": better, "estimate_error": abs(better * better - total) / total}


async def publish(event: Event, state: State) -> Answer:
    """Tell both results in one line."""
    return {"published": f"mean {state['mean']}, root of the sum {state['estimate']:.2f}"}
