"""A bargain: a buyer and a seller write each other until they agree, and a carrier names its price when it is asked."""

from __future__ import annotations

from typing import Any

from agentflow import Context, Event, State, agent

Answer = dict[str, Any]


@agent("buyer")
async def buy(event: Event, state: State, ctx: Context) -> Answer | None:
    """Ask both for a price; raise the offer by 10 until the seller agrees or the budget is used up."""
    sender, body = event.data["from"], event.data["body"]
    if not sender:  # the event itself
        ctx.send("carrier", {"kg": body["kg"]})
        ctx.send("seller", {"offer": 50})
        return {"budget": body["budget"]}
    if sender == "carrier":
        return {"freight": body["price"]}
    if body["ask"] <= state["budget"] - state["freight"]:
        ctx.send("seller", {"deal": body["ask"]})
    elif body["last_offer"] + 10 <= state["budget"] - state["freight"]:
        ctx.send("seller", {"offer": body["last_offer"] + 10})
    return None  # with nothing sent the market falls quiet


@agent("seller")
async def sell(event: Event, state: State, ctx: Context) -> Answer | None:
    """Come down by 15 with each offer, but not below 70; what the buyer takes is agreed."""
    body = event.data["body"]
    if "deal" in body:
        return {"consensus": True, "price": body["deal"]}
    ask = max(70, state.get("ask", 120) - 15)
    ctx.send("buyer", {"ask": ask, "last_offer": body["offer"]})
    return {"ask": ask}


@agent("carrier")
async def quote(event: Event, state: State, ctx: Context) -> None:
    """Name the price for a weight."""
    ctx.send("buyer", {"price": 2 * event.data["body"]["kg"]})
