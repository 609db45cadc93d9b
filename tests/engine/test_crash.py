"""What a fault of agentflow itself does: the run ends, and nothing hangs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentflow import Event, Runner, State
from agentflow.core.walk import Walk
from agentflow.engine.supervision import Supervision


async def _answer(event: Event, state: State) -> dict[str, int]:
    return {"n": 1}


def _runner(**flow: Any) -> Runner:
    runner = Runner.from_dict({"orchestration": {"mode": "sequential", "sequential_agents": ["a"], **flow}, "agents": {"a": {}}})
    runner.register_agent("a", _answer)
    return runner


@pytest.mark.parametrize("is_double", [False, True])
async def test_fault_while_a_step_is_settled_fails_the_run(monkeypatch: pytest.MonkeyPatch, capsys: Any, is_double: bool) -> None:
    """An exception in the walk ends its run as failed, even when the run cannot be closed in order either."""

    def fault(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    async with _runner() as runner:
        monkeypatch.setattr(Walk, "complete", fault)
        if is_double:
            monkeypatch.setattr(Supervision, "close", fault)
        result = await runner.run(Event())
        monkeypatch.undo()
        assert ("failed", "a fault of ours") == (result.status, result.error.message if result.error else "")
        assert "completed" == (await runner.run(Event())).status
    assert "engine_fault" in capsys.readouterr().err


async def test_fault_at_a_deadline_stops_no_other_clock(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """When one run's deadline cannot be acted on that run fails, and those of other runs still fire."""
    faults = iter([True])
    act = Supervision.on_due

    def on_due(self: Supervision, item: Any) -> None:
        if next(faults, False):
            raise RuntimeError("a fault of ours")
        act(self, item)

    async def never(event: Event, state: State) -> None:
        await asyncio.Event().wait()

    runner = Runner.from_dict({"orchestration": {"timeout_seconds": 1}, "agents": {"a": {}}})
    runner.register_agent("a", never)
    async with runner:
        monkeypatch.setattr(Supervision, "on_due", on_due)
        first = await runner.emit(Event("a"))
        second = await runner.emit(Event("a"))
        assert ["failed", "timed_out"] == [(await handle.result()).status for handle in (first, second)]
    assert "engine_fault" in capsys.readouterr().err
