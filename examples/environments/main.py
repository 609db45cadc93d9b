"""Choose the file by the environment: ENVIRONMENT=development | staging | production."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from agentflow import Event, Runner

CONFIGS = Path(__file__).parents[2] / "configs"


def runner_for(environment: str) -> Runner:
    """Return the runner of an environment; a name without a file is a config error that says so."""
    return Runner.from_config(CONFIGS / f"{environment}.toml")


async def main() -> None:
    """Send the same event to the runner of the chosen environment."""
    environment = os.environ.get("ENVIRONMENT", "development")
    async with runner_for(environment) as runner:
        result = await runner.run(Event("analyzer", {"task": "analyze_market_data"}))
    print(f"{environment}: {result.status}, agents: {', '.join(result.outputs)}")


if __name__ == "__main__":
    asyncio.run(main())
