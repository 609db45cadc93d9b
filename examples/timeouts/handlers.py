"""An agent that answers at once, and one that waits for something that does not come."""

from __future__ import annotations

import asyncio
from typing import Any

from agentflow import Event, State


async def answer(event: Event, state: State) -> dict[str, Any]:
    """Answer at once."""
    return {"answered": True}


async def wait(event: Event, state: State) -> dict[str, Any]:
    """Wait without end unless the event says that there is nothing to wait for."""
    if not event.data.get("is_ready"):
        await asyncio.Event().wait()
    return {"waited": True}
