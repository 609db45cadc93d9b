"""The same system started from Python: load the file, register the agents, emit, wait for the result."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from handlers import register

from agentflow import Event, Runner


async def main() -> None:
    """Emit one event and print what the agents found."""
    runner = Runner.from_config(Path(__file__).parent / "agentflow.toml")
    register(runner)
    async with runner:
        event = Event(
            "analyzer",
            {"task": "analyze_market_data", "dataset": "Q4_sales_data.json", "priority": "high"},
            metadata={"session_id": "orchestration-demo-001", "workflow_id": "market-analysis"},
        )
        handle = await runner.emit(event)
        result = await handle.result()
    print(result.status)
    print(json.dumps(result.outputs, indent=2))


if __name__ == "__main__":
    asyncio.run(main())
