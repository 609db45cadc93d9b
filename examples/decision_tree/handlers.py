"""Parcels: questions about weight, country and value lead to the one who takes it."""

from __future__ import annotations

from typing import Any

from agentflow import AgentResult, Context, Event, State

Answer = dict[str, Any]


async def send(event: Event, state: State, ctx: Context) -> Answer:
    """Take the parcel."""
    return {"sent_by": ctx.agent}


async def declare(event: Event, state: State) -> AgentResult:
    """Declare the value, and hand on to the courier: a leaf may name the next one."""
    return AgentResult({"declared": event.data["value"]}, route="courier")
