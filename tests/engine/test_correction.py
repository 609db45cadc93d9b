"""Self-correction: an agent that has failed is told what was wrong, and tries again at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from agentflow import Event, Runner
from agentflow.core.records import StepRetried

MakeRunner = Callable[..., Runner]
SEQUENCE: Mapping[str, Any] = {"mode": "sequential", "sequential_agents": ["a"]}
RETRY = {"max_retries": 3, "jitter": False}


class Pupil:
    """A handler that fails `times` times with a text of its own, and notes what it was told, and when."""

    def __init__(self, times: int, error: Callable[[int], BaseException] = lambda number: ValueError(f"fault {number}")) -> None:
        self.times, self.error = times, error
        self.told: list[Any] = []
        self.at: list[float] = []

    async def __call__(self, event: Event, state: Any) -> Any:
        self.told.append(event.data.get("correction"))
        self.at.append(asyncio.get_running_loop().time())
        if len(self.told) <= self.times:
            raise self.error(len(self.told))
        return {"data": dict(event.data)}


@pytest.mark.parametrize("sections", [{}, {"journal": {"url": "memory:"}}])
@pytest.mark.parametrize(
    "flow",
    [
        SEQUENCE,
        {"mode": "collaborative", "collaborative_agents": ["a"]},
        {"mode": "loop", "loop_agent": "a", "max_iterations": 1},
        {"mode": "route", "default_agent": "a"},
        {"mode": "mixed", "collaborative_agents": ["a"], "sequential_agents": ["b"]},
    ],
)
async def test_the_error_reaches_the_next_attempt(make_runner: MakeRunner, flow: Any, sections: Any) -> None:
    """As `event.data["correction"]`, beside the data; only the last one, and nothing of it stays in state or event."""
    pupil, seen = Pupil(2), []

    async def b(event: Event, state: Any) -> None:
        seen.append(dict(event.data))

    handlers = {"a": pupil, "b": b}
    event = Event("a", {"topic": "tea"})
    async with make_runner(flow, handlers, agents={"a": {"self_correct": 2}}, **sections) as runner:
        result = await runner.run(event)
    assert result.status == "completed"
    assert pupil.told == [None, {"attempt": 1, "error": "ValueError: fault 1"}, {"attempt": 2, "error": "ValueError: fault 2"}]
    assert pupil.at == [0, 0, 0]
    assert result.state["data"] == {"topic": "tea", "correction": pupil.told[-1]}
    assert "correction" not in {**event.data, **dict(result.state)}
    assert seen == ([{"topic": "tea"}] if flow["mode"] == "mixed" else [])


async def test_corrections_come_before_retries(make_runner: MakeRunner) -> None:
    """n corrections at once, then the retries with their waits, 1, 2 and 4 s; each attempt is told of the one before."""
    pupil = Pupil(99)
    async with make_runner(SEQUENCE, {"a": pupil}, agents={"a": {"self_correct": 2, "retry": RETRY}}) as runner:
        result = await runner.run(Event())
    assert pupil.at == [0, 0, 0, 1, 3, 7]
    assert [None if told is None else told["attempt"] for told in pupil.told] == [None, 1, 2, 3, 4, 5]
    assert (result.error.message, result.error.attempts) == ("fault 6", 6)


async def test_without_it_nobody_is_told(make_runner: MakeRunner) -> None:
    """A retry has the input that the first attempt had."""
    pupil = Pupil(99)
    async with make_runner(SEQUENCE, {"a": pupil}, agents={"a": {"retry": RETRY}}) as runner:
        await runner.run(Event())
    assert (pupil.told, pupil.at) == ([None] * 4, [0, 1, 3, 7])


async def test_answers_that_are_none_are_corrected_and_not_retried(make_runner: MakeRunner) -> None:
    """What is no answer is bad input for a retry, but what a correction is for."""
    told: list[Any] = []

    async def a(event: Event, state: Any) -> Any:
        told.append(event.data.get("correction"))
        return {"x": object()} if len(told) == 1 else 7

    async with make_runner(SEQUENCE, {"a": a}, agents={"a": {"self_correct": 1, "retry": RETRY}}) as runner:
        result = await runner.run(Event())
    assert len(told) == 2
    assert "InvalidValueError" in told[1]["error"]
    assert result.error.code == "AF0303"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
async def test_what_is_no_exception_is_not_corrected(make_runner: MakeRunner, error: type[BaseException]) -> None:
    """It ends the step."""
    pupil = Pupil(9, lambda number: error())
    async with make_runner(SEQUENCE, {"a": pupil}, agents={"a": {"self_correct": 5}}) as runner:
        assert (await runner.run(Event())).status == "failed"
    assert len(pupil.told) == 1


async def test_a_timeout_is_corrected(make_runner: MakeRunner) -> None:
    """It is told of, and the next attempt has the whole time again."""
    told: list[Any] = []

    async def a(event: Event, state: Any) -> None:
        told.append(event.data.get("correction"))
        await asyncio.sleep(0 if told[-1] else 9)

    async with make_runner(SEQUENCE, {"a": a}, agents={"a": {"self_correct": 1, "timeout_seconds": 2}}) as runner:
        assert (await runner.run(Event())).status == "completed"
    assert "did not answer within 2 s" in told[1]["error"]


async def test_what_is_told_is_bounded(make_runner: MakeRunner) -> None:
    """A text of megabytes does not come back as input."""
    pupil = Pupil(1, lambda number: ValueError("x" * 10_000_000))
    async with make_runner(SEQUENCE, {"a": pupil}, agents={"a": {"self_correct": 1}}, journal={"url": "memory:"}) as runner:
        assert (await runner.run(Event())).status == "completed"
    assert 1000 < len(pupil.told[1]["error"]) < 10_000
    assert pupil.told[1]["error"].startswith("ValueError: xxx")
    assert pupil.told[1]["error"].endswith("(9992012 characters more)")


async def test_a_fallback_begins_without_a_correction(make_runner: MakeRunner) -> None:
    """What was wrong with another agent's answer is not told to it."""
    pupils = {"a": Pupil(99), "b": Pupil(1)}
    agents = {"a": {"self_correct": 1, "fallback": ["b"]}, "b": {"self_correct": 1}}
    async with make_runner(SEQUENCE, pupils, agents=agents) as runner:
        assert (await runner.run(Event())).status == "completed"
    assert [told and told["error"] for told in pupils["a"].told] == [None, "ValueError: fault 1"]
    assert [told and told["error"] for told in pupils["b"].told] == [None, "ValueError: fault 1"]


async def test_the_next_step_begins_without_a_correction(make_runner: MakeRunner) -> None:
    """Also the next round of the same agent."""
    pupil = Pupil(1)
    async with make_runner(
        {"mode": "loop", "loop_agent": "a", "max_iterations": 2}, {"a": pupil}, agents={"a": {"self_correct": 1}}
    ) as runner:
        await runner.run(Event())
    assert [told is None for told in pupil.told] == [True, False, True]


async def test_each_correction_is_recorded(make_runner: MakeRunner) -> None:
    """As an attempt that failed and is made again, without a wait."""
    facts: list[Any] = []
    async with make_runner(SEQUENCE, {"a": Pupil(2)}, agents={"a": {"self_correct": 1, "retry": RETRY}}) as runner:
        runner.observe(lambda record: facts.append(record.fact))
        await runner.run(Event())
    assert [(fact.attempt, fact.wait_s) for fact in facts if isinstance(fact, StepRetried)] == [(1, 0.0), (2, 1.0)]
