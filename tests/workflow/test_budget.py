"""Budgets: one ledger for all steps of a workflow, whatever verb asks for them, and however often it is resumed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentflow import Workflow
from agentflow.engine.hooks import Hook
from agentflow.errors import InvalidValueError, WorkflowError
from agentflow.stores.memory import MemoryStore
from agentflow.workflow import AgentStepSpec, Budget, Emit, LoopDecision, StepOutcome, TaskExecutor, WorkflowBuilder, identity_of
from tests.workflow.conftest import Counting, recorded, spec, spending


async def test_a_budget_of_one_call_lets_one_step_run() -> None:
    """The first step succeeds, the second is denied: never run, with a code and the figure that is used up."""
    executor = Counting()
    workflow = Workflow(executor, root_id="w", budget=Budget(calls=1))
    first, second = await workflow.agent(spec("a")), await workflow.agent(spec("b"))
    assert (True, "", ["a"]) == (first.success, first.code, executor.ran)
    assert (False, "budget", 0, "") == (second.success, second.code, second.attempts, second.session_id)
    assert (second.error or "").startswith("the budget of workflow w is used up: calls 1 of 1; raise budget.calls")


async def test_what_is_in_flight_may_overshoot_and_nothing_begins_after_it() -> None:
    """60 and 50 tokens at once are more than 100: both steps end, the next one is denied."""
    workflow = Workflow(spending({"a": 60, "b": 50}), budget={"tokens": 100})
    assert [True, True] == [one.success for one in await workflow.parallel([spec("a"), spec("b")])]
    denied = await workflow.agent(spec("c"))
    assert "tokens 110 of 100" in (denied.error or "")
    told = workflow.budget_snapshot()
    assert (110, 100, 0, "tokens") == (told.consumed["tokens"], told.limit["tokens"], told.remaining["tokens"], told.exhausted)


async def test_what_has_no_limit_is_never_used_up() -> None:
    """A million tokens without a limit deny nothing, and nothing is said to remain."""
    for budget in (None, Budget(), {"calls": 10}):
        workflow = Workflow(spending(1_000_000), budget=budget)
        assert all(one.success for one in await workflow.parallel([spec("a"), spec("b")]))
        told = workflow.budget_snapshot()
        assert (2_000_000, 2, None, "") == (told.consumed["tokens"], told.consumed["calls"], told.remaining["tokens"], told.exhausted)


async def test_a_snapshot_says_what_is_left_and_does_not_change() -> None:
    """Of 100 tokens 30 are used and 70 remain; the snapshot stays so, whatever comes, and cannot be written."""
    workflow = Workflow(spending(30), budget=Budget(tokens=100))
    await workflow.agent(spec("a"))
    told = workflow.budget_snapshot()
    await workflow.agent(spec("b"))
    assert (30, 70) == (told.consumed["tokens"], told.remaining["tokens"])
    assert 60 == workflow.budget_snapshot().consumed["tokens"]
    for wrong in (lambda: setattr(told, "exhausted", "calls"), lambda: told.consumed.__setitem__("tokens", 0)):  # type: ignore[attr-defined]
        with pytest.raises((AttributeError, TypeError)):
            wrong()
    assert {"consumed", "reserved", "limit", "remaining", "exhausted"} == {*told.to_dict()}


async def test_cost_and_time_are_figures_too() -> None:
    """What a handler records as cost counts, and how long attempts took; each may deny the next step."""

    async def dear(event: Any, state: Any, ctx: Emit) -> str:
        ctx.context.record_usage(cost_usd=0.6)
        return "x"

    workflow = Workflow(TaskExecutor({"worker": dear}), budget=Budget(cost_usd=1.0))
    told = [(await workflow.agent(spec(name))).error for name in "abc"]
    assert told[:2] == [None, None]
    assert "cost_usd 1.2 of 1" in (told[2] or "")
    workflow = Workflow(Counting(), budget=Budget(seconds=1e-9))
    assert [True, False] == [(await workflow.agent(spec(name))).success for name in "ab"]
    assert workflow.budget_snapshot().consumed["seconds"] > 0


async def _agents(workflow: Workflow) -> Any:
    return [await workflow.agent(spec(f"s{number}")) for number in range(6)]


async def _parallel(workflow: Workflow) -> Any:
    return await workflow.parallel([spec(f"s{number}") for number in range(6)])


async def _phase(workflow: Workflow) -> Any:
    return await workflow.phase("p", [spec(f"s{number}") for number in range(6)])


async def _pipeline(workflow: Workflow) -> Any:
    return await workflow.pipeline(range(3), [lambda _, item: spec("one"), lambda before, item: spec("two")])


async def _loop(workflow: Workflow) -> Any:
    return await workflow.loop([spec("a")], lambda _: LoopDecision.go_on(), 6)


@pytest.mark.parametrize("verb", [_agents, _parallel, _phase, _pipeline, _loop])
async def test_every_verb_asks_the_budget_and_one_event_tells_of_it(verb: Callable[[Workflow], Any], store: MemoryStore) -> None:
    """With three calls to make, three steps run and the rest is denied; that it is used up is told and recorded once."""
    executor = Counting(hint=1)
    async with Workflow(executor, root_id="w", store=store, budget=Budget(calls=3)) as workflow:
        events = workflow.subscribe()
        outcomes = await verb(workflow)
        assert not (await workflow.agent(spec("more"))).success
    assert 3 == len(executor.ran)
    assert {"budget"} == {one.code for one in outcomes if not one.success}
    exhausted = {"type": "budget_exhausted", "figure": "calls", "used": 3, "limit": 3}
    assert [exhausted] == [event async for event in events if event["type"] == "budget_exhausted"]
    assert 1 == (await recorded(store)).count(exhausted)
    row = await store.row("w")
    assert row is not None
    assert "partial" == row.status


async def test_a_warning_is_told_once() -> None:
    """At 80 of 100 tokens, or at the share one asks for, a warning comes; never again."""
    for warn_at, used in ((0.8, 80), (0.25, 40)):
        workflow = Workflow(spending(40), budget=Budget(tokens=100, warn_at=warn_at))
        events = workflow.subscribe()
        async with workflow:
            for name in "abcd":
                await workflow.agent(spec(name))
        warnings = [event async for event in events if event["type"] == "budget_warning"]
        assert [{"type": "budget_warning", "figure": "tokens", "used": used, "limit": 100}] == warnings


async def test_reservations_bound_what_is_used() -> None:
    """Of 50 steps at once that reserve what they may use, what is used and reserved never passes the limit: the rest is denied."""
    seen: list[float] = []

    def act(one: AgentStepSpec) -> StepOutcome:
        told = workflow.budget_snapshot()
        seen.append(told.consumed["tokens"] + told.reserved["tokens"])
        return StepOutcome("", "", "", "ok", tokens=100 - 3 * (int(one.task_id) % 5))

    executor = Counting(act, hint=8)
    workflow = Workflow(executor, budget=Budget(tokens=1000))
    outcomes = await workflow.parallel([spec(str(number), reserve_tokens=100) for number in range(50)])
    told = workflow.budget_snapshot()
    assert max(seen) <= 1000
    assert 900 < told.consumed["tokens"] <= 1000
    assert (0, "") == (told.reserved["tokens"], told.exhausted)
    denied = [one for one in outcomes if one.code == "budget"]
    assert 50 == len(denied) + len(executor.ran)
    assert "are used or reserved, and the step reserves 100" in (denied[-1].error or "")


async def test_without_a_limit_of_tokens_a_reservation_has_no_effect() -> None:
    """It is no part of a step's identity either, goes through JSON, and is a whole number."""
    reserving = spec("a", reserve_tokens=10)
    assert (await Workflow(Counting()).agent(reserving)).success
    assert (await Workflow(Counting(), budget={"calls": 1}).agent(reserving)).success
    assert identity_of("w", spec("a")) == identity_of("w", reserving)
    assert reserving == AgentStepSpec.from_dict(reserving.to_dict())
    for wrong in (-1, 1.5, True, None):
        with pytest.raises(InvalidValueError, match="reserve_tokens"):
            spec("a", reserve_tokens=wrong)


async def test_an_attempt_more_is_asked_for_as_a_step_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries are calls: with two of them a step that always fails is tried twice, and ends with the budget's error."""
    monkeypatch.setattr("agentflow.engine.phases.wait_after", lambda *_, **__: 0.0)

    def act(_: AgentStepSpec) -> str:
        raise ValueError("no luck")

    executor = Counting(act)
    workflow = Workflow(executor, max_retries=5, budget=Budget(calls=2))
    events = workflow.subscribe()
    async with workflow:
        outcome = await workflow.agent(spec("a"))
        assert "budget" == (await workflow.agent(spec("b"))).code
    assert (["a", "a"], 2, "budget") == (executor.ran, outcome.attempts, outcome.code)
    assert "no luck" in (outcome.error or "")
    assert 1 == len([event async for event in events if event["type"] == "budget_exhausted"])


async def test_a_step_in_a_step_takes_from_the_same_budget() -> None:
    """What a step runs by itself counts with it: with two calls to make, the second step it asks for is denied."""

    async def act(one: AgentStepSpec) -> object:
        if one.task_id != "outer":
            return "inner"
        return [(await workflow.agent(spec(name))).success for name in ("x", "y")]

    workflow = Workflow(Counting(act), budget=Budget(calls=2))
    assert [True, False] == (await workflow.agent(spec("outer"))).output


async def test_an_executor_sees_what_is_left() -> None:
    """The context of a step has the workflow's budget, with what the step itself reserves."""
    seen: list[Any] = []

    class Looks:
        async def execute_step(self, one: AgentStepSpec, emit: Emit) -> str:
            seen.append(emit.context.budget)
            return "ok"

    await Workflow(Looks(), budget=Budget(tokens=100)).agent(spec("a", reserve_tokens=30))
    assert (30, 70, 1) == (seen[0].reserved["tokens"], seen[0].remaining["tokens"], seen[0].reserved["calls"])


async def test_event_hooks_do_not_let_more_begin() -> None:
    """Where a callback comes before each step, and many have passed the door, the budget is asked again behind it."""
    executor = Counting()
    workflow = Workflow(executor, budget=Budget(calls=3))
    workflow.register_callback(Hook.BEFORE_EVENT_HANDLING, "late", lambda args: asyncio.sleep(0))
    events = workflow.subscribe()
    async with workflow:
        outcomes = await workflow.parallel([spec(str(number)) for number in range(8)])
    assert (3, 5) == (len(executor.ran), sum(one.code == "budget" for one in outcomes))
    assert 1 == len([event async for event in events if event["type"] == "budget_exhausted"])


def test_what_is_no_budget_is_refused() -> None:
    """Unknown keys are named with a hint, and figures have to be figures; the builder takes the same."""
    for wrong in (5, {"token": 1}, {"tokens": 0}, {"tokens": 1.5}, {"calls": True}, {"cost_usd": -1}, {"seconds": float("inf")}):
        with pytest.raises(WorkflowError, match="budget"):
            Workflow(Counting(), budget=wrong)  # type: ignore[arg-type]
    for wrong_share in (0, 1.1, None, "x"):
        with pytest.raises(WorkflowError, match="warn_at"):
            Workflow(Counting(), budget={"tokens": 1, "warn_at": wrong_share})
    with pytest.raises(WorkflowError, match="tokens"):
        WorkflowBuilder(Counting()).budget({"token": 1}).build()
    built = WorkflowBuilder(Counting()).budget({"tokens": 7}).build()
    assert 7 == built.budget_snapshot().limit["tokens"]
