"""A trace id for every event and a span id for every agent, given and logged by hooks."""

from __future__ import annotations

import json
import secrets
import sys
import time
from typing import Any

from agentflow import Event, Hook, HookArgs, Runner, State


def register(runner: Runner) -> None:
    """Register the agents and trace them to stderr, one JSON object a line."""
    for name in ("collector", "left", "right"):
        runner.register_agent(name, answer)
    trace(runner, lambda record: print(json.dumps(record), file=sys.stderr))


def trace(runner: Runner, log: Any) -> None:
    """Call `log` with a record at the start of each event and at the start and end of each agent."""
    spans: dict[tuple[str, str], tuple[str, float]] = {}

    async def start_trace(args: HookArgs) -> None:
        args.state.meta["trace_id"] = f"trace-{secrets.token_hex(8)}"
        log({"message": "orchestration trace started", "trace_id": args.state.meta["trace_id"], "event_id": args.event.id})

    async def start_span(args: HookArgs) -> None:
        span = f"span-{secrets.token_hex(4)}"
        spans[args.run_id, args.position] = span, time.perf_counter()
        args.state.meta[f"{args.agent}_span_id"] = span
        log({"message": "agent span started", **_ids(args, span)})

    async def end_span(args: HookArgs) -> None:
        span, started = spans.pop((args.run_id, args.position))
        milliseconds = round(1000 * (time.perf_counter() - started), 3)
        log({"message": "agent span completed", **_ids(args, span), "milliseconds": milliseconds, "success": args.error is None})

    runner.register_callback(Hook.BEFORE_EVENT_HANDLING, "trace-start", start_trace)
    runner.register_callback(Hook.BEFORE_AGENT_RUN, "agent-trace", start_span)
    runner.register_callback(Hook.AFTER_AGENT_RUN, "agent-trace-end", end_span)
    runner.register_callback(Hook.AGENT_ERROR, "agent-trace-error", end_span)


async def answer(event: Event, state: State) -> dict[str, Any]:
    """Count the agents that answered so far."""
    return {"answers": state.get("answers", 0) + 1}


def _ids(args: HookArgs, span: str) -> dict[str, str | None]:
    return {"trace_id": args.state.meta["trace_id"], "span_id": span, "agent": args.agent, "event_id": args.event.id}
