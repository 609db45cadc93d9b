"""What leaders say: answers that can be followed, and those that fail their flow with a reason that teaches."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentflow import Event, Runner
from agentflow.core.result import RunResult

SUPERVISOR = {"mode": "supervisor", "supervisor": "lead", "agents": ["a", "b"], "max_rounds": 3}
WORKERS = {"mode": "orchestrator_workers", "planner": "lead", "workers": ["a", "b"], "max_tasks": 2}
PLAN = {"mode": "plan_execute", "planner": "lead", "agents": ["a", "b"], "max_tasks": 3}
TWO = {"id": "x", "agent": "a"}, {"id": "y", "agent": "b", "depends_on": ["x"]}


def run(flow: dict[str, Any], answer: Any, data: dict[str, Any] | None = None, **handlers: Any) -> RunResult:
    """Run one event through a flow whose leader gives this answer each time; members do nothing but say so."""
    agents = {"lead": {}, "a": {"capabilities": ["sums"]}, "b": {}, **{name: {} for name in handlers}}
    runner = Runner.from_dict({"orchestration": flow, "agents": agents}, environ={})
    for name in agents:
        runner.register_agent(name, handlers.get(name, lambda event, state, name=name: answer if name == "lead" else {name: event.data}))

    async def main() -> RunResult:
        async with runner:
            return await runner.run(Event("", data or {}))

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("flow", "answer", "code", "told"),
    [
        (SUPERVISOR, {}, "AF0520", "`lead` named nobody, and is not done"),
        (SUPERVISOR, {"next": ""}, "AF0520", "named nobody"),
        (SUPERVISOR, {"next": "c"}, "AF0503", "no member is named `c`"),
        (SUPERVISOR, {"next": 3}, "AF0520", "`next` holds int"),
        (SUPERVISOR, {"next": ["a", "b", "a"]}, "AF0520", "3 members, and 2 are allowed"),
        (SUPERVISOR, {"next": {"task": 1}}, "AF0520", "a table in `next` names nobody"),
        (WORKERS, {}, "AF0520", "returned no `tasks`"),
        (WORKERS, {"tasks": {"id": 1}}, "AF0520", "`tasks` is dict, not a list"),
        (WORKERS, {"tasks": [1, 2, 3]}, "AF0520", "`tasks` has 3 items, and 2 are allowed"),
        (WORKERS, {"tasks": [{"id": "x"}, {"id": "x"}]}, "AF0520", "two of `tasks` have the id `x`"),
        (WORKERS, {"tasks": [{"id": [1]}]}, "AF0520", "an id is a text or a whole number"),
        (WORKERS, {"tasks": [{"specialty": "art"}]}, "AF0503", "no member is named `art` or can do it"),
        (PLAN, {}, "AF0520", "returned no `plan`"),
        (PLAN, {"plan": "do it"}, "AF0520", "`plan` is str, not a list"),
        (PLAN, {"plan": [*TWO, TWO[0]]}, "AF0520", "two of `plan` have the id `x`"),
        (PLAN, {"plan": [{"id": "x", "agent": "c"}]}, "AF0503", "step `x` names no member: `c`"),
        (PLAN, {"plan": [{"id": "x"}]}, "AF0503", "names no member"),
        (PLAN, {"plan": [{"id": "x", "agent": "a", "depends_on": "y"}]}, "AF0520", "`depends_on` of step `x` is no list"),
        (PLAN, {"plan": [{"id": "x", "agent": "a", "depends_on": ["z"]}]}, "AF0520", "depends on `z`, which is no step"),
        (PLAN, {"plan": [{**TWO[0], "depends_on": ["y"]}, TWO[1]]}, "AF0520", "deadlock: steps `x`, `y` wait for each other"),
        (PLAN, {"plan": [{"id": f"{at}", "agent": "a"} for at in range(4)]}, "AF0520", "4 steps, and 3 are allowed"),
    ],
)
def test_an_answer_that_cannot_be_followed_fails_the_flow(flow: dict[str, Any], answer: Any, code: str, told: str) -> None:
    """Nobody is called for an answer that names nobody, too many, the same twice, or what waits for itself; the error says which."""
    result = run(flow, answer)
    assert result.error is not None
    assert ("failed", code) == (result.status, result.error.code)
    assert told in result.error.message
    assert not {"a", "b"} & set(result.outputs)


@pytest.mark.parametrize(
    ("flow", "answer", "called"),
    [
        ({**SUPERVISOR, "default_agent": "b"}, {"next": "nobody"}, {"b"}),
        ({**SUPERVISOR, "default_agent": "b"}, {}, {"b"}),
        (SUPERVISOR, {"next": "sums"}, {"a"}),
        (SUPERVISOR, {"next": {"capability": "sums", "task": {"n": 1}}}, {"a"}),
        ({**WORKERS, "default_agent": "b"}, {"tasks": [{"id": "t", "specialty": "art"}]}, {"t"}),
        (WORKERS, {"tasks": [1, {"input": 2}]}, {"0", "1"}),
        ({**PLAN, "default_agent": "b"}, {"plan": [{"id": "x", "agent": "c"}]}, {"x"}),
        (PLAN, {"plan": []}, set()),
        (WORKERS, {"tasks": []}, set()),
    ],
)
def test_who_is_named_by_ability_or_not_at_all(flow: dict[str, Any], answer: Any, called: set[str]) -> None:
    """A capability stands for the first member that has it, and `default_agent` for what nobody can do."""
    result = run(flow, answer)
    assert result.status == "completed"
    assert {name for name in result.outputs if name != "lead"} == called


@pytest.mark.parametrize(("flow", "key"), [(SUPERVISOR, "next"), (WORKERS, "tasks"), (PLAN, "plan")])
def test_what_a_leader_says_is_read_from_its_own_answer(flow: dict[str, Any], key: str) -> None:
    """A key of the same name in the event steers nothing, and stays what it was; saying just the same is an answer all the same."""
    value: Any = {"next": "a", "tasks": [{"id": "t"}], "plan": [{"id": "x", "agent": "a"}]}[key]
    silent = run(flow, {}, {key: value})
    assert (silent.status, silent.state[key]) == ("failed", value)
    told = run({**flow}, {key: value}, {key: value})
    assert (told.status, told.state[key]) == ("completed", value)
    assert told.outputs["lead"] == {key: value}


def test_rounds_of_a_supervisor_are_counted_by_its_calls() -> None:
    """A supervisor that never is done is called `max_rounds` times, and the run says why it ended."""
    result = run(SUPERVISOR, {"next": "a"})
    assert ("completed", "max_rounds", 6) == (result.status, result.reason, result.usage.calls)
