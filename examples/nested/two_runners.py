"""The same nesting with two runners: an agent of the main runner emits to another and awaits its result."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from agentflow import Event, Runner, State

HERE = Path(__file__).parent


async def main() -> None:
    """Run the outer pipeline; its middle agent asks the inner runner."""
    outer = Runner.from_config(HERE / "main_sequential.toml")
    inner = Runner.from_config(HERE / "analysis_collaborative.toml")

    @outer.agent("nested_analyzer")
    async def analyze(event: Event, state: State) -> dict[str, Any]:
        question = Event("analyzer", {"numbers": state["numbers"]}, metadata={"parent_event_id": str(event.id)})
        answer = await inner.run(question)
        answer.raise_for_status()
        return {**{key: answer.state[key] for key in ("mean", "estimate")}, "nested_analysis_complete": True}

    async with inner, outer:
        result = await outer.run(Event("collector", {"numbers": [1, 3, 5, 7]}))
    print(result.status, "-", result.state["published"])


if __name__ == "__main__":
    asyncio.run(main())
