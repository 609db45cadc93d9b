"""Executors that count, and a store that several workflows share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from agentflow.core.codec import decode
from agentflow.core.records import EffectRecorded
from agentflow.stores.memory import MemoryStore
from agentflow.workflow import AgentStepSpec, Emit, StepOutcome


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


def spending(tokens: int | Mapping[str, int], **more: Any) -> Counting:
    """Return an executor whose steps use so many tokens, by task id or each."""

    def act(one: AgentStepSpec) -> StepOutcome:
        return StepOutcome("", "", "", "done", tokens=tokens if isinstance(tokens, int) else tokens[one.task_id])

    return Counting(act, **more)


async def recorded(store: MemoryStore, root_id: str = "w") -> list[Any]:
    """Return the milestones of a workflow."""
    facts = [decode(root_id, entry).fact for entry in await store.entries(root_id)]
    return [fact.value for fact in facts if isinstance(fact, EffectRecorded)]


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    """An open store in memory."""
    store = MemoryStore()
    await store.open()
    yield store
    await store.close()
