"""A receipt is read, brought into one currency and booked: each stage gets exactly what the one before it returned."""

from __future__ import annotations

from typing import Any

from agentflow import Context, Event, State

Answer = dict[str, Any]

EUROS = {"EUR": 1.0, "USD": 0.9, "CHF": 1.05}
ACCOUNTS = {"hotel": "4666", "train": "4673", "meal": "4650"}


async def read(event: Event, state: State) -> Answer:
    """Read a line as `2024-05-03 hotel Astra 120.00 USD`; of a list, the first stage gets `item` and `index`."""
    line = event.data["item"] if "item" in event.data else event.data["receipt"]
    words = line.split()
    if len(words) < 5:
        raise ValueError(f"cannot read the receipt {line!r}")
    date, kind, *payee, amount, currency = words
    return {"paid": {"date": date, "kind": kind, "payee": " ".join(payee), "amount": float(amount), "currency": currency}}


async def convert(event: Event, state: State, ctx: Context) -> Answer:
    """Bring the amount into the currency that the step's instruction names."""
    paid, currency = event.data["paid"], ctx.input["currency"]
    amount = paid["amount"] * EUROS[paid["currency"]] / EUROS[currency]
    return {"cost": {**paid, "amount": round(amount, 2), "currency": currency}}


async def book(event: Event, state: State) -> Answer:
    """Find the account and write the line of the ledger."""
    cost = event.data["cost"]
    line = f"{cost['date']} {cost['payee']} {cost['amount']:.2f} {cost['currency']}"
    return {"account": ACCOUNTS.get(cost["kind"], "4900"), "line": line}
