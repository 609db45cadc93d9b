"""A shop: nobody says who is next; each agent takes the events it has subscribed to, and emits more of them."""

from __future__ import annotations

from typing import Any

from agentflow import AgentResult, Context, Event, State, agent

STOCK = {"lamp": 1, "chair": 40}

Answer = dict[str, Any]


@agent("desk")
async def serve(event: Event, state: State, ctx: Context) -> AgentResult:
    """Place what a visitor orders, and let the visit be counted."""
    ctx.emit(Event("order.placed", event.data))
    return AgentResult({"served": True}, route="counter")


@agent("counter")
async def count(event: Event, state: State) -> Answer:
    """Count the visit, in a run of its own."""
    return {"visits": 1}


@agent("till")
async def charge(event: Event, state: State, ctx: Context) -> Answer:
    """Take the money, and tell whoever it concerns."""
    ctx.emit(Event("order.paid", event.data))
    return {"charged": event.data["item"]}


@agent("mailer")
async def mail(event: Event, state: State) -> Answer:
    """Write to the customer about each step of the order."""
    return {"mail": f"{event.data['item']}: {event.target.removeprefix('order.')}"}


@agent("warehouse")
async def send(event: Event, state: State, ctx: Context) -> Answer:
    """Send the item; say so when it was the last one."""
    left = STOCK[event.data["item"]] - 1
    if not left:
        ctx.emit(Event("stock.low", {"item": event.data["item"]}))
    return {"left": left}


@agent("ledger")
async def book(event: Event, state: State) -> Answer:
    """Book the price; without one it fails, which is nobody else's affair."""
    return {"booked": event.data["price"]}


@agent("buyer")
async def order_more(event: Event, state: State) -> Answer:
    """Order what is low."""
    return {"ordered": event.data["item"]}
