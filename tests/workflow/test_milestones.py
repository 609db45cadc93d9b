"""Phases, the log, and those who listen."""

from __future__ import annotations

import asyncio

import pytest

from agentflow import Workflow
from agentflow.core.codec import decode
from agentflow.core.records import EffectRecorded
from agentflow.errors import InvalidValueError, RunnerStateError, WorkflowError
from agentflow.stores.memory import MemoryStore
from agentflow.workflow import StepOutcome
from tests.workflow.conftest import Counting, spec


async def test_phases_tell_when_they_begin_and_end() -> None:
    """Each phase has its number, the steps it was given, and how many succeeded and failed; the log stands between."""
    workflow = Workflow(Counting(lambda one: StepOutcome.failed("", "", "no") if one.prompt == "bad" else "ok"))
    events = workflow.subscribe()
    async with workflow:
        await workflow.phase("draft", [spec("a"), spec("b", "bad")])
        async with workflow.phase("check"):
            task = asyncio.create_task(workflow.agent(spec("a", "other work under the same id")))
            await asyncio.sleep(0)
            workflow.log("half done")
    assert (await task).success
    assert [
        {"type": "phase_start", "index": 0, "name": "draft", "step_count": 2},
        {"type": "phase_end", "index": 0, "name": "draft", "succeeded": 1, "failed": 1},
        {"type": "phase_start", "index": 1, "name": "check", "step_count": None},
        {"type": "log", "message": "half done"},
        {"type": "phase_end", "index": 1, "name": "check", "succeeded": 1, "failed": 0},
    ] == [event async for event in events]


async def test_a_phase_in_a_phase_has_its_own_ids() -> None:
    """Steps of one id in different phases are different steps, and the outer phase counts those of the inner one."""
    executor = Counting()
    workflow = Workflow(executor, root_id="r")
    async with workflow.phase("outer") as outer:
        async with workflow.phase("inner"):
            inside = await workflow.agent(spec("a", "1"))
        outside = await workflow.agent(spec("a", "2"))
    assert ["r/outer/inner/a", "r/outer/a"] == [inside.session_id, outside.session_id]
    assert 2 == outer.succeeded


async def test_a_phase_that_comes_again_needs_a_key() -> None:
    """The same name twice is refused, with a key of its own it is another phase; a phase without specs cannot be awaited."""
    workflow = Workflow(Counting())
    await workflow.phase("p", [spec("a")])
    with pytest.raises(WorkflowError, match="was there before"):
        await workflow.phase("p", [spec("a")])
    assert 1 == len(await workflow.phase("p", [spec("a")], key="p-2"))
    with pytest.raises(WorkflowError, match="no specs"):
        await workflow.phase("q")
    for wrong in ("", "a/b", "x" * 101):
        with pytest.raises(WorkflowError, match="cannot be named"):
            workflow.phase(wrong)


async def test_a_phase_that_is_left_by_an_exception_has_no_end() -> None:
    """What is raised in a phase goes on its way, and nothing says that the phase ended."""
    workflow = Workflow(Counting())
    events = workflow.subscribe()
    with pytest.raises(ValueError, match="stop"):
        async with workflow.phase("p"):
            raise ValueError("stop")
    await workflow.close()
    assert ["phase_start"] == [event["type"] async for event in events]


async def test_a_slow_listener_loses_the_oldest_and_is_told() -> None:
    """256 events wait for a listener; of 300 the first 44 are gone, which it is told first."""
    workflow = Workflow(Counting())
    events = workflow.subscribe()
    for number in range(300):
        workflow.log(f"line {number}")
    await workflow.finish()
    told = [event async for event in events]
    assert ({"type": "lagged", "n": 44}, 257, "line 44") == (told[0], len(told), told[1]["message"])


async def test_the_journal_loses_nothing_of_the_log() -> None:
    """Every line of the log is recorded in the workflow's run, however slow its listeners are."""
    store = MemoryStore()
    await store.open()
    async with Workflow(Counting(), root_id="r", store=store) as workflow:
        workflow.subscribe()
        for number in range(300):
            workflow.log(f"line {number}")
    facts = [decode("r", entry).fact for entry in await store.entries("r")]
    lines = [fact.value["message"] for fact in facts if isinstance(fact, EffectRecorded)]  # type: ignore[index, call-overload]
    assert [f"line {number}" for number in range(300)] == lines


async def test_a_closed_workflow_does_nothing_more() -> None:
    """After the end a verb and the log are refused; what is no text is refused before."""
    workflow = Workflow(Counting())
    with pytest.raises(InvalidValueError, match="log message"):
        workflow.log(1)  # type: ignore[arg-type]
    async with workflow:
        pass
    await workflow.close()
    with pytest.raises(RunnerStateError, match="closed"):
        await workflow.agent(spec("a"))
    with pytest.raises(RunnerStateError, match="closed"):
        workflow.log("late")


async def test_a_listener_that_leaves_is_not_waited_for() -> None:
    """A subscription that was closed gets nothing more, and waiting ones wake up when the workflow ends."""
    workflow = Workflow(Counting())
    left, stays = workflow.subscribe(), workflow.subscribe()
    left.close()
    waiting = asyncio.ensure_future(anext(stays))
    await asyncio.sleep(0)
    workflow.log("x")
    assert {"type": "log", "message": "x"} == await waiting
    assert [] == [event async for event in left]
    waiting = asyncio.ensure_future(anext(stays))
    await asyncio.sleep(0)
    await workflow.close()
    with pytest.raises(StopAsyncIteration):
        await waiting
