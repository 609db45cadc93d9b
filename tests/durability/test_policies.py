"""Failure policies of runs whose processes die: wherever that is, nothing is tried anew, skipped, or given back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import pytest

from agentflow import Runner
from agentflow.core.records import (
    BudgetExhausted,
    BudgetWarned,
    FallbackTaken,
    StepCompleted,
    StepDegraded,
    StepFailed,
    StepRetried,
    StepStarted,
    WorkflowRecovering,
)
from agentflow.engine.account import Account
from tests.durability.checker import faults_of, standing_of
from tests.durability.world import Death, Life, World, make, one

RESERVED = 7  # tokens, of each attempt
USED = 10
RETRY = {"initial_delay_seconds": 1.0, "jitter": False}
JOURNAL = {"url": "memory:", "snapshot_every": 4}
LIMITS: Mapping[str, Any] = {"max_process_deaths": 100}
AGENTS: Mapping[str, Mapping[str, Any]] = {
    "p": {"retry": {"max_retries": 1, **RETRY}, "self_correct": 1, "fallback": ["q", "r"], "budget": {"tokens": 10_000, "warn_at": 0.001}},
    "q": {"retry": {"max_retries": 1, **RETRY}},
    "r": {"self_correct": 1, "budget": {"calls": 1000}},
    "d": {"retry": {"max_retries": 1, **RETRY}, "default_output": {"d": 0}},
    "ok": {},
}
MODES: Mapping[str, Mapping[str, Any]] = {
    "sequential": {"mode": "sequential", "sequential_agents": ["p", "d", "ok"]},
    "collaborative": {"mode": "collaborative", "collaborative_agents": ["p", "d", "ok"]},
    "mixed": {"mode": "mixed", "collaborative_agents": ["p", "ok"], "sequential_agents": ["d"]},
    "loop": {"mode": "loop", "loop_agent": "inner", "max_iterations": 2},
    "route": {"mode": "route", "max_hops": 3},
    "nested": {"mode": "sequential", "sequential_agents": ["outer", "ok"]},
}
INNER = {"mode": "sequential", "sequential_agents": ["p", "d"], "budget": {"tokens": 10_000}, **LIMITS}
FLOWS = {"inner": INNER, "outer": {"mode": "collaborative", "collaborative_agents": ["inner", "ok"], **LIMITS}}


def bad(world: World) -> Callable[..., Any]:
    """Return a handler that always fails."""

    async def answer(event: Any, state: Any, ctx: Any) -> Any:
        world.note(ctx)
        ctx.record_usage(tokens=USED)
        await asyncio.sleep(0.25)
        raise OSError(f"{ctx.agent} is busy")

    return answer


def teachable(world: World) -> Callable[..., Any]:
    """Return a handler that succeeds once it was told what was wrong."""

    async def answer(event: Any, state: Any, ctx: Any) -> Any:
        world.note(ctx)
        ctx.record_usage(tokens=USED)
        await asyncio.sleep(0.25)
        if "correction" not in event.data:
            raise ValueError("no title")
        return {"r": event.data["correction"]["error"]}

    return answer


def good(world: World) -> Callable[..., Any]:
    """Return a handler that succeeds."""

    async def answer(event: Any, state: Any, ctx: Any) -> Any:
        world.note(ctx)
        ctx.record_usage(tokens=USED)
        await asyncio.sleep(0.25)
        return {ctx.agent: state.get(ctx.agent, 0) + 1}

    return answer


def runner_of(world: World, mode: str) -> Runner:
    """Return a runner with all policies, in a mode."""
    handlers = {"p": bad(world), "q": bad(world), "d": bad(world), "r": teachable(world), "ok": good(world)}
    agents = {name: {"reserve_tokens": RESERVED, **table} for name, table in AGENTS.items()}
    flow = {**MODES[mode], **LIMITS, "budget": {"tokens": 100_000, "warn_at": 0.0005}}
    return make(flow, handlers, agents=agents, flows=FLOWS, journal=JOURNAL)


async def live(life: Life, runner: Runner, target: str) -> Any:
    """Begin the run, or go on with it, and return its result, with what the process itself thinks it has used."""
    runner = await life.start(runner)
    handles = await runner.resume()
    handle = handles[0] if handles else await runner.emit(one(target, {"n": 1}, id="event"))
    result = await handle.result()
    account = handle._run.account or Account()  # it had ended before
    used = {scope: asdict(ledger.used) for scope, ledger in account.ledgers.items()}
    assert account.reserved == {}
    assert all(asdict(ledger.reserved) == dict.fromkeys(asdict(ledger.reserved), 0) for ledger in account.ledgers.values())
    await runner.stop()
    return result, used


def survive(world: World, make_one: Callable[[], Runner], deaths: list[Death], target: str = "", commit_s: float = 0.0) -> Any:
    """Let processes die one after another until the last one ends the run."""
    for death in [*deaths, None]:
        told = world.process(lambda life: live(life, make_one(), target), death, commit_s=commit_s)
        if told is not None:
            return told
    raise AssertionError("it never ended")


def policy_facts(world: World) -> dict[str, list[Any]]:
    """Return what was decided at each position, in order, without what depends on how often an attempt was lost."""
    told: dict[str, list[Any]] = {}
    for fact in world.facts(world.run_ids[0]):
        match fact:
            case StepRetried():
                told.setdefault(fact.position, []).append(("retried", fact.wait_s, str(fact.failure)))
            case FallbackTaken():
                told.setdefault(fact.position, []).append(("fell back", fact.to, fact.fallback, str(fact.failure)))
            case StepDegraded():
                told.setdefault(fact.position, []).append(("degraded", str(fact.failure)))
            case StepCompleted():
                told.setdefault(fact.position, []).append(("completed", dict(fact.patch.data)))
            case StepFailed():
                told.setdefault(fact.position, []).append(("failed", str(fact.failure)))
            case BudgetWarned():
                told.setdefault(f"warned {fact.scope}", []).append(fact.figure)
            case _:
                pass
    return told


def said(result: Any) -> Any:
    errors = {name: (error.code, error.message, error.position) for name, error in result.errors.items()}
    return result.status, result.reason, result.flags, dict(result.state), result.outputs, errors


def standing(world: World) -> Any:
    run = world.store._runs[world.run_ids[0]]
    return standing_of(run.row.run_id, run.entries, run.row.plan_hash, world.store._plans[run.row.plan_hash])


def approx(figures: Mapping[str, float]) -> Any:
    return pytest.approx(dict(figures), abs=1e-5)


def target_of(mode: str) -> str:
    return "inner" if mode == "route" else ""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("commit_s", [0.0, 0.01])
def test_policies_go_on_where_a_process_died_at_any_append(mode: str, commit_s: float, is_proof: bool) -> None:
    """Failures, corrections, waits, place in the chain, default outputs and budgets are as if no process had died.

    A lost attempt is made again, and is charged a call and what it had reserved.
    """
    whole = World()
    result, used = survive(whole, lambda: runner_of(whole, mode), [], target_of(mode), commit_s)
    expected, facts, spent = said(result), policy_facts(whole), standing(whole).spending.spent
    assert {scope: approx(figures) for scope, figures in used.items()} == {scope: asdict(figures) for scope, figures in spent.items()}
    assert ["tokens"] == facts["warned "] == facts["warned agent:p"]
    assert any(fact[0] == "degraded" for told in facts.values() for fact in told)
    deaths = 0
    for at in range(1, 100):
        for second in (None, 1, 3) if is_proof or at % 5 == 0 else (None,):
            world = World()
            lives = [Death(append=at, is_written=at % 2 == 0)] + ([] if second is None else [Death(append=second)])
            result, used = survive(world, lambda: runner_of(world, mode), lives, target_of(mode), commit_s)  # noqa: B023 - called at once
            deaths += world.counts["deaths"]
            if not world.counts["deaths"]:
                assert deaths >= 8
                return
            assert [] == world.faults
            assert (expected, facts) == (said(result), policy_facts(world)), lives
            run_id = world.run_ids[0]
            lost = sum(len(fact.in_flight) for fact in world.told(run_id, WorkflowRecovering))
            now = standing(world).spending.spent
            assert now[""].tokens == spent[""].tokens + RESERVED * lost
            assert now[""].calls - spent[""].calls == len(world.told(run_id, StepStarted)) - len(whole.told(whole.run_ids[0], StepStarted))
            assert now[""].seconds == pytest.approx(spent[""].seconds, abs=1e-5)
            assert {scope: approx(asdict(figures)) for scope, figures in now.items()}.items() >= used.items()
            row = world.row(run_id)
            assert [] == faults_of(row, world.store._runs[run_id].entries, world.store._plans.get(row.plan_hash))
    raise AssertionError("it has more appends than this")


def tight(world: World, flow: Mapping[str, Any], **agents: Mapping[str, Any]) -> Runner:
    """Return a runner of agents that succeed, `p` does not."""
    handlers = {name: bad(world) if name == "p" else good(world) for name in ("p", "q", "ok")}
    return make({**flow, **LIMITS}, handlers, agents=agents, journal=JOURNAL)


@pytest.mark.parametrize(
    "flow",
    [
        {"mode": "sequential", "sequential_agents": ["ok", "q", "ok", "q", "ok", "q"]},
        {"mode": "collaborative", "collaborative_agents": ["ok", "q"]},
        {"mode": "loop", "loop_agent": "ok", "max_iterations": 9},
        {"mode": "sequential", "sequential_agents": ["p"], "retry": {"max_retries": 9, **RETRY}},
    ],
)
def test_a_budget_that_is_used_up_ends_the_run_whenever_its_process_dies(flow: Mapping[str, Any]) -> None:
    """It is told once, a run that has ended for it once is not taken up, and no attempt goes beyond it."""
    limit = 1 if flow["mode"] == "collaborative" else 4
    for at in range(1, 16):
        for second in (None, 2):
            world = World()
            lives = [Death(append=at, is_written=at % 2 == 0)] + ([] if second is None else [Death(append=second)])
            result, _ = survive(world, lambda: tight(world, {**flow, "budget": {"calls": limit}}), lives)  # noqa: B023 - called at once
            assert ("failed", "budget", "budget") == (result.status, result.reason, result.error.code), lives
            assert [""] == [fact.scope for fact in world.told(world.run_ids[0], BudgetExhausted)]
            assert world.counts["calls"] <= limit
            assert result.flags == ("dead_lettered",)
            assert [] == world.faults


@pytest.mark.parametrize("policy", [{"fallback": ["q"]}, {"default_output": {}}])
def test_an_agents_budget_holds_across_processes(policy: Mapping[str, Any]) -> None:
    """Each call beyond it goes to who stands in, and one that a process took with it counts."""
    flow = {"mode": "sequential", "sequential_agents": ["ok", "ok", "ok"]}
    for at in range(1, 14):
        world = World()
        agents = {"ok": {"budget": {"calls": 2}, **policy}}
        result, used = survive(world, lambda: tight(world, flow, **agents), [Death(append=at)])  # noqa: B023 - called at once
        assert result.status == "completed"
        assert [] == world.faults
        lost = sum(len(fact.in_flight) for fact in world.told(world.run_ids[0], WorkflowRecovering))
        spent = standing(world).spending.spent["agent:ok"].calls
        assert used.get("agent:ok", {"calls": spent})["calls"] == spent
        assert 2 <= spent <= 2 + lost  # one that was announced, and would have been refused, counts too
        assert 2 - lost <= result.state["ok"] <= 2
        assert ["agent:ok"] == [fact.scope for fact in world.told(world.run_ids[0], BudgetExhausted)]


def test_the_bound_on_attempts_holds_across_processes() -> None:
    """Retries, corrections and fallbacks of the whole run count, also those of processes that died."""
    flow = {"mode": "sequential", "sequential_agents": ["p", "ok"], "on_error": "continue", "max_total_attempts": 5}
    agents = {"p": {"self_correct": 2, "retry": {"max_retries": 90, **RETRY}}}
    for at in range(1, 12):
        world = World()
        make_one = lambda: tight(world, flow, **agents, q={}, ok={"budget": {"calls": 9}})  # noqa: B023, E731 - called at once
        result, _ = survive(world, make_one, [Death(append=at), Death(append=2)])
        assert ("partial", "attempt_limit") == (result.status, result.errors["p"].code)
        assert len(world.told(world.run_ids[0], StepRetried)) == 5
