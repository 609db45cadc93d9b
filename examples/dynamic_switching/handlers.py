"""One event, three ways to handle it: which one is decided by the size of its data, or by its metadata."""

from __future__ import annotations

from typing import Any

from agentflow import Event, Hook, HookArgs, Runner, State


def register(runner: Runner) -> None:
    """Register the agents, and a hook that notes which pattern the data's size suggests."""
    for name in ("loader", "cleaner", "summarizer"):
        runner.register_agent(name, _agent(name))
    runner.register_callback(Hook.BEFORE_EVENT_HANDLING, "conditional-router", suggest_pattern)


async def suggest_pattern(args: HookArgs) -> None:
    """Write the suggestion and its reason into the metadata, where agents and the result show it."""
    size = args.event.data.get("size")
    if size is None:
        return
    pattern = "route" if size < 1_000 else "collaborative" if size < 10_000 else "sequential"
    args.state.meta["suggested_pattern"] = pattern
    args.state.meta["routing_reason"] = f"data_size: {size}"


def _agent(name: str) -> Any:
    async def handle(event: Event, state: State) -> dict[str, Any]:
        return {f"{name}_saw": [key for key in state if key.endswith("_saw")]}

    return handle
