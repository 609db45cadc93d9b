"""Watch a circuit open, try again and close, on a clock that the program moves by hand."""

from __future__ import annotations

import asyncio

from breaker import CircuitBreaker
from handlers import guard, quote

from agentflow import Event, Runner


async def main() -> None:
    """Send good and bad events and print what became of each, and the circuit's state after it."""
    now = 0.0
    runner = Runner.from_dict({"agents": {"quotes": {}}})
    runner.register_agent("quotes", quote)
    breakers = guard(runner, lambda: CircuitBreaker(threshold=3, reset_seconds=30, successes_to_close=2, clock=lambda: now))
    async with runner:
        for seconds, is_down in [(0, False), (0, True), (0, True), (0, True), (1, False), (30, False), (0, False), (0, False)]:
            now += seconds
            result = await runner.run(Event("quotes", {"is_down": is_down}))
            outcome = result.error.message if result.error else "ok"
            print(f"t={now:>4.0f}s  {outcome:<35} {breakers['quotes'].state}")


if __name__ == "__main__":
    asyncio.run(main())
