"""Two runners in one process; each event goes to the one that its metadata asks for."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agentflow import Event, Runner

HERE = Path(__file__).parent


async def main() -> None:
    """Send a simple and a complex event, each to its own runner."""
    runners = {name: Runner.from_config(HERE / f"{name}.toml") for name in ("simple", "complex")}

    def runner_for(event: Event) -> Runner:
        return runners.get(event.metadata.get("complexity", "simple"), runners["simple"])

    text = {"text": "the quick fox and the slow fox and the hen"}
    async with runners["simple"], runners["complex"]:
        for complexity in ("simple", "complex", "unknown"):
            event = Event("processor", text, metadata={"complexity": complexity, "session_id": "session-123"})
            result = await runner_for(event).run(event)
            print(f"{complexity}: {result.state['summary']} (agents: {', '.join(result.outputs)})")


if __name__ == "__main__":
    asyncio.run(main())
