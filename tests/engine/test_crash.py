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
    act = Supervision._act_on

    def on_due(self: Supervision, item: Any) -> None:
        if next(faults, False):
            raise RuntimeError("a fault of ours")
        act(self, item)

    async def never(event: Event, state: State) -> None:
        await asyncio.Event().wait()

    runner = Runner.from_dict({"orchestration": {"timeout_seconds": 1}, "agents": {"a": {}}})
    runner.register_agent("a", never)
    async with runner:
        monkeypatch.setattr(Supervision, "_act_on", on_due)
        first = await runner.emit(Event("a"))
        second = await runner.emit(Event("a"))
        assert ["failed", "timed_out"] == [(await handle.result()).status for handle in (first, second)]
    assert "engine_fault" in capsys.readouterr().err


async def test_task_that_is_cancelled_before_it_begins_hangs_nothing() -> None:
    """A handler that cancels the tasks of its siblings before they begin ends the run all the same."""

    async def cancel_the_others(event: Event, state: State) -> dict[str, int]:
        for task in asyncio.all_tasks():
            if task.get_name().startswith("run-") and task is not asyncio.current_task():
                task.cancel()
        return {"a": 1}

    flow = {"mode": "collaborative", "collaborative_agents": ["a", "b"], "failure_threshold": 1.0}
    runner = Runner.from_dict({"orchestration": flow, "agents": {"a": {}, "b": {"timeout_seconds": 1}}})
    runner.register_agent("a", cancel_the_others)
    runner.register_agent("b", _answer)
    async with runner:
        result = await runner.run(Event())
    assert ("partial", {"a": 1}) == (result.status, dict(result.state))


async def test_task_that_its_handler_cancelled_is_not_used_again() -> None:
    """What a handler does to its own task does not reach the next step."""

    async def cancel_oneself(event: Event, state: State) -> dict[str, int]:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return {"a": 1}

    async def wait(event: Event, state: State) -> dict[str, int]:
        await asyncio.sleep(0.01)
        return {"b": 1}

    runner = Runner.from_dict({"orchestration": {"mode": "sequential", "sequential_agents": ["a", "b"]}, "agents": {"a": {}, "b": {}}})
    runner.register_agent("a", cancel_oneself)
    runner.register_agent("b", wait)
    async with runner:
        result = await runner.run(Event())
    assert ("completed", {"a": 1, "b": 1}) == (result.status, dict(result.state))


async def test_fields_of_an_event_are_read_only() -> None:
    """A handler that sets the target or session of its event fails: they belong to the run."""

    async def change(event: Event, state: State) -> None:
        with pytest.raises(AttributeError):
            event.session_id = "other"  # type: ignore[misc] # what the test is about
        event.target = "changed"  # type: ignore[misc] # what the test is about

    runner = Runner.from_dict({"orchestration": {"mode": "sequential", "sequential_agents": ["a"]}, "agents": {"a": {}}})
    runner.register_agent("a", change)
    async with runner:
        result = await runner.run(Event("x", session_id="s"))
    assert ("failed", "AttributeError") == (result.status, result.error and result.error.type)
