"""Debug a config file: why does it not load, and when it does, what does every agent see?"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from handlers import load, report, watch_coordination, watch_slow_events

from agentflow import Event, Runner
from agentflow.errors import AgentflowError

HERE = Path(__file__).parent
CONFIG = {
    "orchestration": {"mode": "sequential", "sequential_agents": ["loader", "reporter"]},
    "agents": {"loader": {}, "reporter": {}},
}


def debug_orchestration(config_file: Path) -> None:
    """Say whether the file loads, and if not, everything that is wrong with it."""
    try:
        Runner.from_config(config_file)
    except AgentflowError as error:
        print(error)
    else:
        print(f"{config_file.name}: configuration loaded")


async def main() -> None:
    """Check both files, then run an event with every watcher on."""
    logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
    logging.getLogger("debugging").setLevel(logging.DEBUG)
    for name in ("agentflow.toml", "broken.toml"):
        debug_orchestration(HERE / name)
    runner = Runner.from_dict(CONFIG)
    runner.register_agent("loader", load)
    runner.register_agent("reporter", report)
    watch_slow_events(runner, 0.0)
    watch_coordination(runner)
    async with runner:
        result = await runner.run(Event("loader", id="debugged"))
    print(result.state["report"])


if __name__ == "__main__":
    asyncio.run(main())
