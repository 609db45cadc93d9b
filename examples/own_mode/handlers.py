"""A bank where nothing is done before two others have looked at the last thing that was done: a mode of its own."""

from __future__ import annotations

from typing import Any

from agentflow import Event, Runner, State, agent
from agentflow.config.model import FlowConfig
from agentflow.core.plan import Call, Node, Par, Seq

Answer = dict[str, Any]


def four_eyes(flow: FlowConfig) -> Node:
    """Run `agents` one after another, and all `checkers` at once after each of them."""
    check = Par(tuple(Call(name) for name in flow.options["checkers"]), failure_threshold=0)
    return Seq(tuple(node for name in flow.options["agents"] for node in (Call(name), check)))


def register(runner: Runner) -> None:
    """Make the mode known."""
    runner.register_mode("four_eyes", four_eyes)


@agent("clerk")
async def prepare(event: Event, state: State) -> Answer:
    """Prepare the payment."""
    return {"step": "prepared"}


@agent("reserve")
async def reserve(event: Event, state: State) -> Answer:
    """Set the amount aside."""
    return {"step": "reserved"}


@agent("pay")
async def pay(event: Event, state: State) -> Answer:
    """Pay."""
    return {"step": "paid"}


@agent("second")
async def look(event: Event, state: State) -> Answer:
    """Look at what was done."""
    return {"seen": [*state.get("seen", []), state["step"]]}


@agent("audit")
async def audit(event: Event, state: State) -> None:
    """Refuse amounts that nobody may pay."""
    if event.data["amount"] > 1000:
        raise PermissionError("more than 1000")
