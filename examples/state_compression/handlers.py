"""Between the stages of a pipeline only the essential keys are kept: a hook returns a smaller state."""

from __future__ import annotations

from typing import Any

from agentflow import Event, Hook, HookArgs, Runner, State

ESSENTIAL = ("processed_data", "published", "session_info", "seen_by_publisher")


def register(runner: Runner) -> None:
    """Register the stages and the compressor that runs after each of them."""
    runner.register_agent("collector", collect)
    runner.register_agent("processor", process)
    runner.register_agent("publisher", publish)
    runner.register_callback(Hook.AFTER_AGENT_RUN, "state-compressor", compress)


async def compress(args: HookArgs) -> State | None:
    """Drop what the next stage does not need; metadata stays. The collector's raw rows are still needed by the processor."""
    if args.agent == "collector":
        return None
    return State({key: args.state[key] for key in ESSENTIAL if key in args.state}, dict(args.state.meta))


async def collect(event: Event, state: State) -> dict[str, Any]:
    """Bring in many raw rows."""
    return {"raw_data": list(range(event.data["rows"])), "session_info": {"source": "meter"}}


async def process(event: Event, state: State) -> dict[str, Any]:
    """Make a small result of the rows."""
    return {"processed_data": {"rows": len(state["raw_data"]), "total": sum(state["raw_data"])}, "scratch": "not needed later"}


async def publish(event: Event, state: State) -> dict[str, Any]:
    """Publish the result, and note what this last stage could see."""
    return {"published": f"{state['processed_data']['rows']} rows", "seen_by_publisher": sorted(state)}
