"""Two watchers for hard days: one for slow events, one for what each agent gets to see."""

from __future__ import annotations

import logging
from typing import Any

from agentflow import Event, Hook, HookArgs, Runner, RunResult, State

SLOW_SECONDS = 5.0

log = logging.getLogger("debugging")


def register(runner: Runner) -> None:
    """Register the agents and both watchers."""
    runner.register_agent("loader", load)
    runner.register_agent("reporter", report)
    watch_slow_events(runner, SLOW_SECONDS)
    watch_coordination(runner)


def watch_slow_events(runner: Runner, limit_seconds: float) -> None:
    """Warn about every event that takes longer than the limit, and mark its result."""

    async def monitor(args: HookArgs) -> None:
        assert isinstance(args.result, RunResult)
        seconds = args.result.timing.duration_s or 0.0
        if seconds > limit_seconds:
            log.warning("slow orchestration: event %s took %.3f s", args.event.id, seconds)
            args.state.meta["is_slow"] = "true"

    runner.register_callback(Hook.AFTER_EVENT_HANDLING, "performance-monitor", monitor)


def watch_coordination(runner: Runner) -> None:
    """Log which keys of the state each agent is given."""

    async def debug(args: HookArgs) -> None:
        log.debug("agent %s is given %s", args.agent, sorted(args.state))

    runner.register_callback(Hook.BEFORE_AGENT_RUN, "coordination-debug", debug)


async def load(event: Event, state: State) -> dict[str, Any]:
    """Load two rows."""
    return {"rows": [1, 2]}


async def report(event: Event, state: State) -> dict[str, Any]:
    """Count the rows."""
    return {"report": f"{len(state['rows'])} rows"}
