"""Executors that count, and a store that several workflows share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from agentflow.stores.memory import MemoryStore
from agentflow.workflow import AgentStepSpec, Emit


class Counting:
    """Runs `act(spec)` for each step, one breath later, and counts what runs at once."""

    def __init__(self, act: Callable[[AgentStepSpec], Any] = lambda spec: f"{spec.agent} did {spec.prompt}", hint: int = 8) -> None:
        self.act = act
        self.concurrency_hint = hint
        self.ran: list[str] = []
        self.peak = self._now = 0

    async def execute_step(self, spec: AgentStepSpec, emit: Emit) -> object:
        self._now += 1
        self.peak = max(self.peak, self._now)
        self.ran.append(spec.task_id)
        try:
            for _ in range(3):
                await asyncio.sleep(0)
            told = self.act(spec)
            return await told if asyncio.iscoroutine(told) else told
        finally:
            self._now -= 1


def spec(task_id: str, prompt: str = "", agent: str = "worker", **more: Any) -> AgentStepSpec:
    """Return a spec."""
    return AgentStepSpec(task_id, agent, prompt=prompt, **more)


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    """An open store in memory."""
    store = MemoryStore()
    await store.open()
    yield store
    await store.close()
