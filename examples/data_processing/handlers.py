"""A pipeline that stops at the first stage that cannot do its work and keeps what the others did."""

from __future__ import annotations

from typing import Any

from agentflow import Event, State

RATES = {"EUR": 1.0, "USD": 0.9, "GBP": 1.2}

Answer = dict[str, Any]


async def validate(event: Event, state: State) -> Answer:
    """Refuse orders without an amount."""
    orders = event.data["orders"]
    if not all("amount" in order for order in orders):
        raise ValueError("an order has no amount")
    return {"valid_orders": orders}


async def transform(event: Event, state: State) -> Answer:
    """Bring all amounts into euro; raises KeyError for a currency without a rate."""
    euro = [round(order["amount"] * RATES[order["currency"]], 2) for order in state["valid_orders"]]
    return {"amounts": euro}


async def enrich(event: Event, state: State) -> Answer:
    """Add the total."""
    return {"total": round(sum(state["amounts"]), 2)}


async def publish(event: Event, state: State) -> Answer:
    """Say it in a line."""
    return {"published": f"{len(state['amounts'])} orders, {state['total']:.2f} EUR"}
