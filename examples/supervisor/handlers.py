"""A claim on a car insurance: an adjuster asks one specialist after another, and a writer sums up what they found."""

from __future__ import annotations

from typing import Any

from agentflow import Event, State, agent

PAID_UP = {"P-1": 500, "P-2": 300}  # what the insured bear themselves, by policy
HOURS = {"bumper": 3, "door": 6, "mirror": 1}

Answer = dict[str, Any]


@agent("adjuster")
async def lead(event: Event, state: State) -> Answer:
    """Say who is needed next; here rules say it, a model would do it just so."""
    if "covered" not in state:
        return {"next": "policies"}
    if not state["covered"] or "estimate" in state:
        return {"done": True}
    # By capability and with a task of its own; `fraud`, called by name, gets the claim. Both work at once.
    return {"next": [{"agent": "damage_estimate", "task": {"parts": event.data["damaged"]}}, "fraud"]}


@agent("policies")
async def look_up(event: Event, state: State) -> Answer:
    """Say whether the policy covers the claim."""
    excess = PAID_UP.get(event.data["policy"])
    return {"covered": excess is not None, "excess": excess or 0}


@agent("garage")
async def estimate(event: Event, state: State) -> Answer:
    """Say what the repair will cost."""
    return {"estimate": sum(HOURS[part] for part in event.data["parts"]) * 120}


@agent("fraud")
async def compare(event: Event, state: State) -> Answer:
    """Say whether the claim looks like an earlier one."""
    return {"suspicious": event.data.get("claims_this_year", 0) > 2}


@agent("writer")
async def write(event: Event, state: State) -> Answer:
    """Decide from what all specialists found: `results` has their answers in order."""
    found = {key: value for result in event.data["results"] for key, value in result["output"].items()}
    if not found["covered"]:
        return {"letter": "There is no such policy."}
    if found["suspicious"]:
        return {"letter": "A colleague will call you."}
    return {"letter": f"We pay {max(0, found['estimate'] - found['excess'])} of {found['estimate']}."}
