"""A trip: a planner says what is to be booked, and when a hotel turns out to be full a replanner puts another in its place."""

from __future__ import annotations

from typing import Any

from agentflow import Context, Event, State, agent

PRICES = {"train to Oslo": 90, "museum": 15, "hostel": 40}  # nothing else is to be had

Answer = dict[str, Any]


@agent("planner")
async def plan(event: Event, state: State) -> Answer:
    """Plan three bookings that need nothing of each other, and a note that needs all of them."""
    bookings = [
        {"id": "train", "agent": "booking", "input": f"train to {event.data['city']}"},
        {"id": "bed", "agent": "booking", "input": event.data["bed"]},
        {"id": "fun", "agent": "booking", "input": "museum"},
    ]
    return {"plan": [*bookings, {"id": "note", "agent": "writer", "depends_on": ["train", "bed", "fun"]}]}


@agent("booking")
async def book(event: Event, state: State, ctx: Context) -> Answer:
    """Book one thing."""
    wanted = event.data["input"]
    if wanted not in PRICES:
        raise LookupError(f"no {wanted} is free")
    return {f"price of {wanted}": PRICES[wanted]}


@agent("replanner")
async def revise(event: Event, state: State) -> Answer | None:
    """Leave the plan as it is while all goes well; else take a hostel. What is done stays done, and new steps have new ids."""
    if "bed" not in event.data["failed"]:
        return None
    done = [step["id"] for step in event.data["done"]]
    return {
        "plan": [
            {"id": "cheap_bed", "agent": "booking", "input": "hostel"},
            {"id": "note", "agent": "writer", "depends_on": [*done, "cheap_bed"]},
        ]
    }


@agent("writer")
async def write(event: Event, state: State, ctx: Context) -> Answer:
    """Sum up; `ctx.outputs` has each step's answer by its id."""
    booked = {thing: price for id_ in ("train", "bed", "cheap_bed", "fun") for thing, price in ctx.outputs.get(id_, {}).items()}
    return {"note": ", ".join(thing.removeprefix("price of ") for thing in booked), "total": sum(booked.values())}
