"""A circuit breaker for every agent, put around them by three hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from breaker import CircuitBreaker, CircuitOpenError

from agentflow import Event, Hook, HookArgs, Runner, State


def register(runner: Runner) -> None:
    """Register the agent and its breaker, which opens after three failures."""
    runner.register_agent("quotes", quote)
    guard(runner, lambda: CircuitBreaker(threshold=3))


def guard(runner: Runner, new_breaker: Callable[[], CircuitBreaker]) -> dict[str, CircuitBreaker]:
    """Put a breaker around every agent of the runner and return them by agent name."""
    breakers: dict[str, CircuitBreaker] = {}

    async def check(args: HookArgs) -> None:
        breakers.setdefault(args.agent, new_breaker()).check()

    async def count_success(args: HookArgs) -> None:
        breakers[args.agent].record_success()

    async def count_failure(args: HookArgs) -> None:
        if not isinstance(args.error, CircuitOpenError):
            breakers[args.agent].record_failure()

    runner.register_callback(Hook.BEFORE_AGENT_RUN, "circuit-breaker", check)
    runner.register_callback(Hook.AFTER_AGENT_RUN, "circuit-breaker-success", count_success)
    runner.register_callback(Hook.AGENT_ERROR, "circuit-breaker-failure", count_failure)
    return breakers


async def quote(event: Event, state: State) -> dict[str, Any]:
    """Answer with a price, unless the event says that the price service is down."""
    if event.data.get("is_down"):
        raise ConnectionError("the price service does not answer")
    return {"price": 101.5}
