"""Stub agents: a configuration is run without its handlers, and who ran on what is on record."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow import AgentResult, Event, Runner, State
from agentflow.errors import RegistrationError
from agentflow.testing import stub_agents

CONFIG: dict[str, Any] = {
    "orchestration": {"mode": "sequential", "sequential_agents": ["a", "b", "c"], "retry_attempts": 1, "retry": {"jitter": False}},
    "agents": {"a": {}, "b": {}, "c": {}, "idle": {}},
}


async def test_who_ran_in_which_order_on_which_state() -> None:
    """Each call is recorded when it begins: agent, position, attempt, event and what it saw."""
    runner = Runner.from_dict(CONFIG, environ={})
    calls = stub_agents(runner, {"a": {"rows": [1]}, "b": [ValueError("no"), None]})
    async with runner:
        result = await runner.run(Event("x", {"day": 1}, {"who": "me"}))
    assert "completed" == result.status
    assert ["a", "b", "b", "c"] == calls.agents
    assert [("0.1", 1), ("0.1", 2)] == [(call.position, call.attempt) for call in calls.of("b")]
    assert ({"day": 1}, {"day": 1, "rows": [1]}) == (calls[0].state, calls[-1].state)
    assert ({"who": "me"}, {"day": 1}) == (calls[0].meta, calls[0].event.data)
    assert [] == calls.of("idle")


async def test_answers_of_each_kind() -> None:
    """An answer may be anything a handler may return, an exception, a function, or a list of these."""

    async def c(event: Event, state: State) -> dict[str, int]:
        return {"n": state["n"] + 1}

    answers = {"a": State({"n": 1}), "b": [AgentResult({"n": 2}), {"n": 20}], "c": c}
    runner = Runner.from_dict(CONFIG, environ={})
    stub_agents(runner, answers)
    async with runner:
        numbers = [(await runner.run(Event())).state["n"] for _ in range(3)]
    assert [3, 21, 21] == numbers


async def test_stubs_take_the_place_of_handlers() -> None:
    """Agents that have a handler get a stub in its place, also those without a table."""
    runner = Runner.from_dict({"orchestration": {"mode": "route"}, "agents": {"a": {}}}, environ={})

    @runner.agent("extra")
    def real(event: Event, state: State) -> None:
        raise AssertionError("the real one ran")

    calls = stub_agents(runner)
    async with runner:
        assert "completed" == (await runner.run(Event("extra"))).status
    assert ["extra"] == calls.agents


@pytest.mark.parametrize(
    ("answers", "told"), [({"d": None}, "no agent named `d`"), ({"a": []}, "the list of answers for agent `a` is empty")]
)
def test_answers_for_nobody(answers: dict[str, Any], told: str) -> None:
    """Answers for an agent that is not there, or none at all, are refused."""
    with pytest.raises(RegistrationError, match=told):
        stub_agents(Runner.from_dict(CONFIG, environ={}), answers)
