"""Word agents: two that look, and one that sums up whatever was found."""

from __future__ import annotations

from collections import Counter
from typing import Any

from agentflow import Event, State


async def count(event: Event, state: State) -> dict[str, Any]:
    """Count the words."""
    return {"words": len(event.data["text"].split())}


async def rank(event: Event, state: State) -> dict[str, Any]:
    """Find the word used most."""
    return {"top_word": Counter(event.data["text"].lower().split()).most_common(1)[0][0]}


async def process(event: Event, state: State) -> dict[str, Any]:
    """Sum up, with as much as the agents before have found."""
    details = [f"{key}={state[key]}" for key in ("words", "top_word") if key in state]
    return {"summary": " ".join(["processed", *details])}
