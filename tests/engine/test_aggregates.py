"""Aggregates in runs: one answer of many, whoever answers first; a panel of reviewers with a verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from agentflow import Event, Runner
from agentflow.config.diagnostics import ConfigError
from agentflow.errors import AgentflowError

MakeRunner = Callable[..., Runner]
NAMES = ("a", "b", "c")
ANSWERS: Mapping[str, Any] = {
    "a": {"text": "one", "score": 0.4, "tags": ["x"]},
    "b": {"text": "two", "score": 0.9},
    "c": {"text": "two", "score": 0.9, "tags": ["y"]},
}
EXPECTED: Mapping[str, Any] = {
    "first": {"text": "one", "score": 0.4, "tags": ["x"]},
    "vote": {"text": "two", "score": 0.9, "tags": ["x"]},
    "concat": {"text": "one\ntwo\ntwo", "score": [0.4, 0.9, 0.9], "tags": ["x", "y"]},
    "best:score": {"text": "two", "score": 0.9},
}
FLOWS: Mapping[str, Any] = {
    "collaborative": {"mode": "collaborative", "collaborative_agents": list(NAMES)},
    "mixed": {"mode": "mixed", "collaborative_agents": list(NAMES), "sequential_agents": ["last"]},
    "parallel": {"mode": "parallel", "steps": [{"id": f"{name}1", "agent": name, "input": name} for name in NAMES]},
}


def handlers(order: tuple[str, ...] = NAMES, answers: Mapping[str, Any] = ANSWERS) -> dict[str, Any]:
    """Return handlers that answer in an order of time of their own; None fails."""

    def made(name: str) -> Any:
        async def handler(event: Event, state: Any) -> Any:
            await asyncio.sleep(order.index(name))
            if answers[name] is None:
                raise OSError(f"{name} is away")
            return answers[name]

        return handler

    async def last(event: Event, state: Any) -> None:
        pass

    return {name: made(name) for name in NAMES} | {"last": last}


@pytest.mark.parametrize("mode", FLOWS)
@pytest.mark.parametrize("aggregate", EXPECTED)
async def test_all_orders_of_completion_come_to_the_same(make_runner: MakeRunner, mode: str, aggregate: str) -> None:
    """In each mode with a join; each agent's own answer stays in the outputs, and no conflict is told of."""
    for order in permutations(NAMES):
        async with make_runner({**FLOWS[mode], "aggregate": aggregate}, handlers(order)) as runner:
            result = await runner.run(Event())
        assert (result.status, dict(result.state)) == ("completed", EXPECTED[aggregate])
        outputs = [patch for name, patch in result.outputs.items() if name != "last"]
        assert (outputs, result.conflicts) == ([ANSWERS[name] for name in NAMES], [])


async def test_who_failed_has_no_part_in_the_answer(make_runner: MakeRunner) -> None:
    """The first of those that succeeded, in declared order."""
    answers = {**ANSWERS, "a": None}
    async with make_runner({**FLOWS["collaborative"], "aggregate": "first"}, handlers(answers=answers)) as runner:
        result = await runner.run(Event())
    assert (result.status, dict(result.state)) == ("partial", ANSWERS["b"])


async def test_a_join_whose_answer_cannot_be_made_fails(make_runner: MakeRunner) -> None:
    """With a coded error that names the key; the outputs stay."""
    async with make_runner({**FLOWS["parallel"], "aggregate": "best:rank"}, handlers()) as runner:
        result = await runner.run(Event())
    assert result.error is not None
    assert (result.error.code, result.error.position, dict(result.state)) == ("AF0307", "0", {})
    assert "no branch has set `rank`" in result.error.message
    assert list(result.outputs) == ["a1", "b1", "c1"]


PANEL = """
[orchestration]
mode = "parallel"
aggregate = "verdicts:verdict"
quorum = 2

[[orchestration.steps]]
id = "security"
agent = "reviewer"
input = "Is it safe?"

[[orchestration.steps]]
id = "style"
agent = "reviewer"
input = "Is it readable?"

[[orchestration.steps]]
id = "tests"
agent = "reviewer"
input = "Is it tested?"

[agents.reviewer]
writes = ["verdict", "reason"]
"""
VERDICT = '''
"""What a panel decides: it passes when nobody who answered says no."""


def verdict(results):
    against = [one["id"] for one in results if one["output"].get("verdict") != "pass"]
    return {"verdict": "fail" if against else "pass", "against": against, "heard": [one["id"] for one in results]}
'''


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (("pass", "pass", "pass"), ("completed", {"verdict": "pass", "against": [], "heard": ["security", "style", "tests"]})),
        (("pass", "fail", "pass"), ("completed", {"verdict": "fail", "against": ["style"], "heard": ["security", "style", "tests"]})),
        ((None, "pass", "pass"), ("partial", {"verdict": "pass", "against": [], "heard": ["style", "tests"]})),
        ((None, None, "pass"), ("failed", None)),
    ],
)
async def test_a_panel_decides_the_same_whoever_answers_first(tmp_path: Path, answers: Any, expected: Any) -> None:
    """N reviewers at once, at least two have to answer, and a function of the project makes the verdict of what they say."""
    (tmp_path / "agentflow.toml").write_text(PANEL, encoding="utf-8")
    (tmp_path / "verdicts.py").write_text(VERDICT, encoding="utf-8")
    questions = ("Is it safe?", "Is it readable?", "Is it tested?")
    for order in permutations(range(3)):
        runner = Runner.from_config(tmp_path / "agentflow.toml", environ={})

        @runner.agent("reviewer")
        async def review(event: Event, state: Any, order: tuple[int, ...] = order) -> Any:
            number = questions.index(event.data["input"])
            await asyncio.sleep(order.index(number))
            if answers[number] is None:
                raise OSError("away")
            return {"verdict": answers[number], "reason": f"because of {event.data['input']}"}

        async with runner:
            result = await runner.run(Event(data={"change": "x"}))
        status, decided = expected
        assert result.status == status
        if decided is None:
            assert result.error is not None
            assert result.error.code == "AF0505"
        else:
            assert dict(result.state) == {"change": "x", **decided}
            assert all("reason" in patch for patch in result.outputs.values())


@pytest.mark.parametrize("url", ["", "memory:"])
async def test_a_panel_in_a_loop_votes_on_what_its_members_leave(make_runner: MakeRunner, url: str) -> None:
    """In the second round two of three say again what the state has: that is no change, and still the majority."""
    rounds: Mapping[str, Any] = {"a": ["pass", "pass"], "b": ["pass", "pass"], "c": ["pass", "fail"]}

    def made(name: str) -> Any:
        async def handler(event: Event, state: Any) -> Any:
            return {"verdict": rounds[name][state["iteration"]]}

        return handler

    flow = {"mode": "loop", "loop_agent": "panel", "max_iterations": 2}
    panel = {"mode": "collaborative", "collaborative_agents": list(NAMES), "aggregate": "vote"}
    sections = {"journal": {"url": url}} if url else {}
    async with make_runner(flow, {name: made(name) for name in NAMES}, flows={"panel": panel}, **sections) as runner:
        result = await runner.run(Event())
    assert (result.status, dict(result.state)) == ("completed", {"verdict": "pass"})


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"aggregate": "vote", "merge": "strict"}, "AF0253"),
        ({"aggregate": "vote", "merge": {"x": "sum"}}, "AF0253"),
        ({"aggregate": "most"}, "AF0104"),
        ({"aggregate": "best:"}, "AF0104"),
        ({"aggregate": "nowhere:verdict"}, "AF0403"),
    ],
)
async def test_an_aggregate_that_makes_no_sense_is_refused(make_runner: MakeRunner, keys: Any, code: str) -> None:
    """With another word for the same, unknown, or naming a function that is not there: before anything runs."""
    with pytest.raises((ConfigError, AgentflowError)) as caught:
        async with make_runner({**FLOWS["collaborative"], **keys}, handlers()):
            pass
    codes = {one.code for one in caught.value.diagnostics} if isinstance(caught.value, ConfigError) else {caught.value.code}
    assert code in codes


async def test_steps_that_wait_for_others_have_no_one_answer(make_runner: MakeRunner) -> None:
    """They run in more than one join."""
    steps = [{"id": "x", "agent": "a"}, {"id": "y", "agent": "b", "depends_on": ["x"]}]
    with pytest.raises(ConfigError, match="AF0253"):
        async with make_runner({"mode": "parallel", "steps": steps, "aggregate": "vote"}, handlers()):
            pass
