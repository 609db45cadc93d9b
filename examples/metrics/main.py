"""Run a few events, some of them bad, and print what was counted."""

from __future__ import annotations

import asyncio

from handlers import OrchestrationMetrics, check, collect, parse

from agentflow import Event, Runner


async def main() -> None:
    """Print one line for the runner and one for each agent."""
    runner = Runner.from_dict({"orchestration": {"mode": "collaborative"}, "agents": {"parser": {}, "checker": {}}})
    runner.register_agent("parser", parse)
    runner.register_agent("checker", check)
    metrics = OrchestrationMetrics()
    collect(runner, metrics)
    async with runner:
        for text in ("12.5", "7", "seven", "1e3", "0.25"):
            await runner.run(Event("parser", {"text": text}, metadata={"orchestration_mode": "collaborative"}))
    print(f"events {metrics.events}, patterns {dict(metrics.pattern_usage)}")
    for name, agent in sorted(metrics.agents.items()):
        print(f"{name}: runs {agent.runs}, errors {agent.errors}, success rate {agent.success_rate:.0%}")


if __name__ == "__main__":
    asyncio.run(main())
