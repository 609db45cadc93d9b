"""Budgets of runs, flows and agents: nothing begins that they do not pay for, and what is in flight is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from agentflow import Event, Hook, Runner
from agentflow.core.records import BudgetExhausted, BudgetWarned, StepStarted

MakeRunner = Callable[..., Runner]
RETRY = {"jitter": False}
JOURNAL: Mapping[str, Any] = {"journal": {"url": "memory:"}}


class Desk:
    """Makes handlers that note who was called, and what the run's budget was like at that moment."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.seen: list[Any] = []

    def agent(self, name: str, *, tokens: int = 0, cost_usd: float = 0.0, seconds: float = 0.0, error: BaseException | None = None) -> Any:
        async def answer(event: Event, state: Any, ctx: Any) -> dict[str, Any]:
            self.names.append(name)
            self.seen.append(ctx.budget)
            await asyncio.sleep(seconds)
            ctx.record_usage(tokens=tokens, cost_usd=cost_usd)
            if error is not None:
                raise error
            return {name: state.get(name, 0) + 1}

        return answer


async def run(runner: Runner, event: Event | None = None) -> tuple[Any, list[Any]]:
    """Return an event's result, and all facts of its run."""
    facts: list[Any] = []
    runner.observe(lambda record: facts.append(record.fact))
    async with runner:
        result = await runner.run(event or Event())
    return result, facts


@pytest.mark.parametrize("sections", [{}, JOURNAL])
async def test_budget_of_one_call_for_two_agents_lets_one_run(make_runner: MakeRunner, sections: Any) -> None:
    """Exactly one begins; its result is kept; the run fails for its budget, which is told once."""
    desk = Desk()
    flow = {"mode": "collaborative", "collaborative_agents": ["a", "b"], "budget": {"calls": 1}}
    handlers = {name: desk.agent(name, seconds=1) for name in "ab"}
    result, facts = await run(make_runner(flow, handlers, **sections))
    assert desk.names == ["a"]
    assert (result.status, result.reason, result.error.code) == ("failed", "budget", "budget")
    assert "calls 0 of 1" not in result.error.message
    assert "budget.calls" in result.error.message
    assert [(fact.scope, fact.figure, fact.limit) for fact in facts if isinstance(fact, BudgetExhausted)] == [("", "calls", 1)]
    assert [fact.agent for fact in facts if isinstance(fact, StepStarted)] == ["a"]
    assert dict(result.state) == {"a": 1}
    assert result.usage.calls == 1


@pytest.mark.parametrize(
    ("flow", "flows", "target"),
    [
        ({"mode": "sequential", "sequential_agents": ["a"] * 5}, {}, ""),
        ({"mode": "collaborative", "collaborative_agents": ["a", "b", "c", "d"]}, {}, ""),
        ({"mode": "collaborative", "collaborative_agents": ["a", "b", "c", "d"], "max_concurrency": 1}, {}, ""),
        ({"mode": "loop", "loop_agent": "a", "max_iterations": 9}, {}, ""),
        ({"mode": "mixed", "collaborative_agents": ["a", "b"], "sequential_agents": ["c", "d"]}, {}, ""),
        ({"mode": "route"}, {"inner": {"mode": "sequential", "sequential_agents": ["a"] * 5}}, "inner"),
        ({"mode": "loop", "loop_agent": "inner"}, {"inner": {"mode": "collaborative", "collaborative_agents": ["a", "b"]}}, ""),
        ({"mode": "sequential", "sequential_agents": ["a"], "retry": {"max_retries": 9, **RETRY}}, {}, ""),
    ],
)
@pytest.mark.parametrize("sections", [{}, JOURNAL])
async def test_runs_of_every_mode_keep_to_their_budget(make_runner: MakeRunner, flow: Any, flows: Any, target: str, sections: Any) -> None:
    """Exactly as many calls as there are in it, nested flows included, then the run ends with the reason `budget`."""
    desk = Desk()
    is_failing = "retry" in flow
    handlers = {name: desk.agent(name, error=OSError("busy") if is_failing else None) for name in "abcd"}
    result, facts = await run(make_runner({**flow, "budget": {"calls": 3}}, handlers, flows=flows, **sections), Event(target))
    assert len(desk.names) == 3
    assert (result.status, result.reason, result.error.code) == ("failed", "budget", "budget")
    assert len([fact for fact in facts if isinstance(fact, BudgetExhausted)]) == 1
    if is_failing:
        assert "OSError: busy" in result.error.message


@pytest.mark.parametrize(
    ("budget", "calls"),
    [({"tokens": 25}, 3), ({"tokens": 20}, 2), ({"cost_usd": 0.5}, 2), ({"seconds": 5}, 3), ({"seconds": 4, "tokens": 1000}, 2)],
)
async def test_each_figure_ends_a_run(make_runner: MakeRunner, budget: dict[str, Any], calls: int) -> None:
    """Tokens, cost and seconds of work; what overshoots is the last attempt alone."""
    desk = Desk()
    flow = {"mode": "sequential", "sequential_agents": ["a"] * 6, "budget": budget}
    result, facts = await run(make_runner(flow, {"a": desk.agent("a", tokens=10, cost_usd=0.25, seconds=2)}))
    assert (len(desk.names), result.reason, dict(result.state)) == (calls, "budget", {"a": calls})
    assert [fact.figure for fact in facts if isinstance(fact, BudgetExhausted)] == [next(iter(budget))]


async def test_a_budget_is_each_runs_own(make_runner: MakeRunner) -> None:
    """What one run used is not another's."""
    desk = Desk()
    runner = make_runner({"mode": "sequential", "sequential_agents": ["a"], "budget": {"calls": 1}}, {"a": desk.agent("a")})
    async with runner:
        assert {(await runner.run(Event())).status for _ in range(3)} == {"completed"}


async def test_fifty_agents_at_once_never_reserve_more_than_there_is(make_runner: MakeRunner) -> None:
    """With `reserve_tokens`, used and reserved together stay within the limit at every call, and what was not used goes to others."""
    desk = Desk()
    names = [f"agent{number}" for number in range(50)]
    handlers = {name: desk.agent(name, tokens=number % 4, seconds=number % 7) for number, name in enumerate(names)}
    flow = {"mode": "collaborative", "collaborative_agents": names, "max_concurrency": 50, "budget": {"tokens": 60}}
    result, _ = await run(make_runner(flow, handlers, agents={name: {"reserve_tokens": 4} for name in names}))
    assert result.reason == "budget"
    assert len(desk.names) == 15
    assert all(one.consumed["tokens"] + one.reserved["tokens"] <= 60 for one in desk.seen)
    assert max(one.reserved["tokens"] for one in desk.seen) == 60
    names = names[:20]
    desk = Desk()
    handlers = {name: desk.agent(name, tokens=2, seconds=1) for name in names}
    flow = {"mode": "collaborative", "collaborative_agents": names, "max_concurrency": 2, "budget": {"tokens": 80}}
    result, _ = await run(make_runner(flow, handlers, agents={name: {"reserve_tokens": 20} for name in names}))
    assert (result.status, result.usage.total_tokens) == ("completed", 40)
    assert all(one.consumed["tokens"] + one.reserved["tokens"] <= 80 for one in desk.seen)


async def test_a_warning_comes_once(make_runner: MakeRunner) -> None:
    """At `warn_at` of the first figure that comes there; a budget that ends well says no more."""
    flow = {"mode": "sequential", "sequential_agents": ["a"] * 5, "budget": {"tokens": 100, "calls": 99, "warn_at": 0.3}}
    result, facts = await run(make_runner(flow, {"a": Desk().agent("a", tokens=15)}))
    assert result.status == "completed"
    warned = [(fact.scope, fact.figure, fact.used, fact.limit) for fact in facts if isinstance(fact, BudgetWarned)]
    assert warned == [("", "tokens", 30, 100)]


async def test_an_agents_budget_fails_its_calls_only(make_runner: MakeRunner) -> None:
    """Others go on; the failed call says whose budget it was, and is not retried."""
    desk = Desk()
    flow = {"mode": "sequential", "sequential_agents": ["a", "a", "b", "a"], "on_error": "continue", "retry_attempts": 3}
    handlers = {name: desk.agent(name) for name in "ab"}
    result, facts = await run(make_runner(flow, handlers, agents={"a": {"budget": {"calls": 1}}}, **JOURNAL))
    assert desk.names == ["a", "b"]
    assert (result.status, result.errors["a"].code, result.errors["a"].attempts) == ("partial", "budget", 0)
    assert "agent `a`" in result.errors["a"].message
    assert [fact.scope for fact in facts if isinstance(fact, BudgetExhausted)] == ["agent:a"]


@pytest.mark.parametrize("agent", [{"fallback": ["b"]}, {"default_output": {"b": 1}}])
@pytest.mark.parametrize("error", [None, OSError("busy")])
async def test_who_stands_in_answers_for_an_agent_without_budget(make_runner: MakeRunner, agent: Any, error: Any) -> None:
    """Before its first attempt as before a retry: the fallback, or the default output, is the answer."""
    desk = Desk()
    flow = {"mode": "sequential", "sequential_agents": ["a", "a"], "retry": {"max_retries": 2, **RETRY}}
    agents = {"a": {**agent, "budget": {"calls": 1}}}
    result, _ = await run(make_runner(flow, {"a": desk.agent("a", error=error), "b": desk.agent("b")}, agents=agents, **JOURNAL))
    assert result.status == "completed"
    assert desk.names.count("a") == 1
    stands_in = 2 if error else 1
    assert desk.names.count("b") == (stands_in if "fallback" in agent else 0)
    assert result.reason == ("completed" if "fallback" in agent else "degraded")


async def test_a_fallback_without_budget_gives_way_to_the_next_one(make_runner: MakeRunner) -> None:
    """Its budget is its own: it says nothing of who comes after it in the chain."""
    desk = Desk()
    flow = {"mode": "sequential", "sequential_agents": ["a", "a"]}
    agents = {"a": {"fallback": ["b", "c"]}, "b": {"budget": {"calls": 1}}}
    handlers = {"a": desk.agent("a", error=OSError("busy")), "b": desk.agent("b"), "c": desk.agent("c")}
    result, _ = await run(make_runner(flow, handlers, agents=agents))
    assert (result.status, "".join(desk.names)) == ("completed", "abac")


async def test_a_nested_flows_budget_ends_that_flow(make_runner: MakeRunner) -> None:
    """Each time it is entered it has the whole of it; the flow around goes on if it bears that."""
    desk = Desk()
    inner = {"mode": "sequential", "sequential_agents": ["a", "a", "a"], "budget": {"calls": 2}}
    flow = {"mode": "loop", "loop_agent": "inner", "max_iterations": 2, "on_error": "continue"}
    result, facts = await run(make_runner(flow, {"a": desk.agent("a")}, flows={"inner": inner}))
    assert (desk.names, result.status) == (["a"] * 4, "partial")
    assert [fact.scope for fact in facts if isinstance(fact, BudgetExhausted)] == ["flow:0#1", "flow:0#2"]
    assert result.errors["inner"].code == "budget"


async def test_a_default_output_is_free(make_runner: MakeRunner) -> None:
    """A step that the run's budget keeps from being tried again still has it."""
    flow = {"mode": "sequential", "sequential_agents": ["a"], "budget": {"calls": 1}, "retry_attempts": 1}
    result, _ = await run(make_runner(flow, {"a": Desk().agent("a", error=OSError("no"))}, agents={"a": {"default_output": {"x": 1}}}))
    assert (result.status, result.reason, dict(result.state)) == ("completed", "degraded", {"x": 1})
    assert result.errors["a"].code == "budget"


async def test_what_is_not_made_costs_nothing(make_runner: MakeRunner) -> None:
    """A veto, an open circuit and an answer from the cache give back what was reserved for the attempt."""
    desk = Desk()

    def veto(args: Any) -> None:
        if args.agent == "vetoed":
            raise PermissionError("no")

    flow = {"mode": "sequential", "on_error": "continue", "budget": {"calls": 4, "tokens": 40}}
    flow["sequential_agents"] = ["vetoed", "ill", "ill", "asked", "asked", "vetoed", "last"]
    agents: dict[str, Any] = {
        "ill": {"circuit_breaker": {"failure_threshold": 1}},
        "asked": {"cache": {"ttl_seconds": 60}},
    }
    names = ("vetoed", "ill", "asked", "last")
    handlers = {name: desk.agent(name, error=OSError("ill") if name == "ill" else None) for name in names}

    async def asked(event: Event, state: Any) -> None:
        desk.names.append("asked")

    handlers["asked"] = asked
    agents = {name: {"reserve_tokens": 10, **agents.get(name, {})} for name in names}
    for sections in ({}, JOURNAL):
        desk.names.clear()
        runner = make_runner(flow, handlers, agents=agents, **sections)
        runner.register_callback(Hook.BEFORE_AGENT_RUN, "veto", veto)
        result, _ = await run(runner)
        assert (result.status, desk.names) == ("partial", ["ill", "asked", "last"])
        assert desk.seen[-1].to_dict()["consumed"] == {"tokens": 0, "cost_usd": 0.0, "seconds": 0.0, "calls": 2}
        assert desk.seen[-1].reserved["calls"] == 1


@pytest.mark.parametrize("sections", [{}, JOURNAL])
async def test_a_run_that_is_cancelled_before_its_attempt_ends(make_runner: MakeRunner, sections: Any) -> None:
    """While it waits for its rate limit, for a hook, or for its next attempt: nothing of its budget keeps it."""

    async def slow(args: Any) -> None:
        await asyncio.sleep(50)

    flow = {"mode": "sequential", "sequential_agents": ["a"], "budget": {"tokens": 40}}
    handlers = {"a": Desk().agent("a", error=OSError("busy"))}
    limited = {"a": {"reserve_tokens": 3, "rate_limit": {"requests_per_second": 0.01}}}
    waiting = {"a": {"reserve_tokens": 3, "retry": {"max_retries": 1, "initial_delay_seconds": 20}}}
    for agents, is_hooked in ((limited, False), (waiting, False), ({}, True)):
        runner = make_runner(flow, handlers, agents=agents, **sections)
        if is_hooked:
            runner.register_callback(Hook.BEFORE_AGENT_RUN, "slow", slow)
        async with runner:
            await runner.run(Event()) if agents is limited else None  # it takes the one token there is
            handle = await runner.emit(Event())
            await asyncio.sleep(1)
            handle.cancel()
            assert (await handle.result()).status == "cancelled"


async def test_a_hook_that_times_out_is_no_fault_of_the_budget(make_runner: MakeRunner) -> None:
    """The step fails with the time-out."""

    async def slow(args: Any) -> None:
        await asyncio.sleep(50)

    flow = {"mode": "sequential", "sequential_agents": ["a"], "budget": {"calls": 3}}
    runner = make_runner(flow, {"a": Desk().agent("a")}, agents={"a": {"timeout_seconds": 2}})
    runner.register_callback(Hook.BEFORE_AGENT_RUN, "slow", slow)
    result, _ = await run(runner)
    assert result.error.type == "StepTimeoutError"


async def test_ctx_budget_says_how_it_stands(make_runner: MakeRunner) -> None:
    """Consumed, reserved, limit and what remains, while a call is in flight; None where the run has no budget."""
    desk = Desk()
    flow = {"mode": "sequential", "sequential_agents": ["a", "a"], "budget": {"tokens": 50, "calls": 3}}
    await run(make_runner(flow, {"a": desk.agent("a", tokens=15, seconds=2)}, agents={"a": {"reserve_tokens": 20}}))
    assert desk.seen[1].to_dict() == {
        "consumed": {"tokens": 15, "cost_usd": 0.0, "seconds": pytest.approx(2.0), "calls": 1},
        "reserved": {"tokens": 20, "cost_usd": 0.0, "seconds": 0.0, "calls": 1},
        "limit": {"tokens": 50, "cost_usd": None, "seconds": None, "calls": 3},
        "remaining": {"tokens": 15, "cost_usd": None, "seconds": None, "calls": 1},
        "exhausted": "",
    }
    assert str(desk.seen[1].remaining["tokens"]) == "15"
    desk = Desk()
    await run(make_runner({"mode": "sequential", "sequential_agents": ["a"]}, {"a": desk.agent("a")}))
    assert desk.seen == [None]


async def test_what_is_in_flight_ends_when_the_budget_does(make_runner: MakeRunner) -> None:
    """Nothing new begins, and nobody is interrupted."""
    desk = Desk()
    inner = {"mode": "sequential", "sequential_agents": ["a", "b"]}
    flow = {"mode": "collaborative", "collaborative_agents": ["inner", "slow"], "budget": {"calls": 2}}
    handlers = {"a": desk.agent("a"), "b": desk.agent("b"), "slow": desk.agent("slow", seconds=30)}
    result, _ = await run(make_runner(flow, handlers, flows={"inner": inner}))
    assert desk.names == ["a", "slow"]
    assert dict(result.state) == {"slow": 1}  # the other branch has not come to its end
    assert (result.outputs["a"], result.outputs["slow"]) == ({"a": 1}, {"slow": 1})
    assert (result.reason, result.timing.duration_s) == ("budget", pytest.approx(30))


async def test_error_handlers_and_compensators_are_on_no_budget(make_runner: MakeRunner) -> None:
    """Who sees to a run that has used all of it can still be called."""
    desk = Desk()
    flow = {"mode": "sequential", "sequential_agents": ["a", "a"], "budget": {"calls": 1}}
    handlers = {name: desk.agent(name) for name in ("a", "undo", "triage")}
    result, _ = await run(make_runner(flow, handlers, agents={"a": {"compensate": "undo"}}, error_routing={"error_handler": "triage"}))
    assert desk.names == ["a", "triage", "undo"]
    assert (result.reason, result.flags) == ("budget", ())
