"""How to test a config file: stand-in agents, one event, and what each agent did and saw."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentflow import Event, Runner, State

HERE = Path(__file__).parent

CASES = [
    pytest.param(
        "test-collaborative.toml",
        {"analyzer": [], "validator": [], "processor": []},  # each its own copy of the state: nobody sees another's mark
        id="collaborative pattern",
    ),
    pytest.param(
        "test-sequential.toml",
        {"collector": [], "processor": ["collector_processed"], "publisher": ["collector_processed", "processor_processed"]},
        id="sequential pattern",
    ),
]


def stand_in(name: str) -> Any:
    """Return an agent that leaves a mark and writes down whose marks it saw."""

    async def handle(event: Event, state: State) -> dict[str, Any]:
        return {f"{name}_processed": True, f"{name}_saw": [key for key in state if key.endswith("_processed")]}

    return handle


@pytest.mark.parametrize(("config_file", "seen_by_agent"), CASES)
def test_orchestration_pattern(config_file: str, seen_by_agent: dict[str, list[str]]) -> None:
    """Every agent of the file runs once and sees the marks that its pattern promises."""
    runner = Runner.from_config(HERE / config_file)
    for name in seen_by_agent:
        runner.register_agent(name, stand_in(name))

    async def emit() -> Any:
        async with runner:
            return await runner.run(Event(next(iter(seen_by_agent)), {"test": "data"}, metadata={"session_id": "test-session"}))

    result = asyncio.run(emit())

    assert result.status == "completed"
    assert list(result.outputs) == list(seen_by_agent)
    assert {name: result.state[f"{name}_saw"] for name in seen_by_agent} == seen_by_agent
