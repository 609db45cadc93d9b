"""A service that answers only after a few tries, and a mistake that no try can mend."""

from __future__ import annotations

from typing import Any

from agentflow import Context, Event, State


async def fetch(event: Event, state: State, ctx: Context) -> dict[str, Any]:
    """Fail with a connection error until the attempt that the event allows."""
    if ctx.attempt <= event.data.get("failures", 2):
        raise ConnectionError(f"attempt {ctx.attempt}: the service does not answer")
    if event.data.get("has_bad_input"):
        raise ValueError("the query is not valid")
    return {"fetched_at_attempt": ctx.attempt}


async def report(event: Event, state: State) -> dict[str, Any]:
    """Say how many attempts it took."""
    return {"report": f"fetched at attempt {state['fetched_at_attempt']}"}
