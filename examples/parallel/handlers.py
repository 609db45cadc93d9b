"""Two suppliers are asked and the stock is counted at the same time; then the missing pieces are ordered where they cost least."""

from __future__ import annotations

from typing import Any

from agentflow import Context, Event, State

Answer = dict[str, Any]

PRICES = {"north": {"lamp": 41.0, "chair": 89.0}, "south": {"lamp": 44.0, "chair": 79.0, "desk": 240.0}}
STOCK = {"lamp": 3, "chair": 0}


async def quote(event: Event, state: State) -> Answer:
    """Give one supplier's price; which one, the step's own input says."""
    asked = event.data["input"]
    price = PRICES[asked["supplier"]].get(asked["item"])
    if price is None:
        raise LookupError(f"{asked['supplier']} sells no {asked['item']}")
    return {"quotes": [{"supplier": asked["supplier"], "price": price, "total": price * asked["count"]}]}


async def count(event: Event, state: State) -> Answer:
    """Count what is in stock; without an input of its own the step gets the event's data."""
    return {"in_stock": STOCK.get(event.data["item"], 0)}


async def buy(event: Event, state: State, ctx: Context) -> Answer:
    """Order what is missing from the cheapest supplier. `ctx.input` is short for `event.data["input"]`."""
    needed = ctx.input
    missing = max(0, needed["wanted"] - needed["in_stock"])
    best = min(state["quotes"], key=lambda one: one["price"])
    return {"ordered": {"supplier": best["supplier"], "pieces": missing, "total": best["price"] * missing}}
