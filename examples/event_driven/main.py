"""Emits an order without a price and tells all that came of it, whoever failed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agentflow import Event, Runner


async def main() -> None:
    """Wait for the whole family of runs."""
    async with Runner.from_config(Path(__file__).parent / "agentflow.toml") as runner:
        handle = await runner.emit(Event("order.placed", {"item": "lamp"}))
        tree = await handle.tree()
    for result in tree.values():
        for agent, patch in result.outputs.items():
            print(agent, dict(patch))
        for agent, error in result.errors.items():
            print(agent, "failed:", error)


if __name__ == "__main__":
    asyncio.run(main())
