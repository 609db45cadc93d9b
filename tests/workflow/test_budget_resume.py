"""Budgets across processes: what was used stays used, and what the budget forbids is left to be done."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentflow import Workflow
from agentflow.core.codec import decode
from agentflow.core.records import BudgetExhausted
from agentflow.core.run_row import RunFilter
from agentflow.stores.memory import MemoryStore
from agentflow.workflow import AgentStepSpec, Budget, LoopDecision, StepOutcome
from tests.workflow.conftest import Counting, recorded, spec, spending

PAYER = Path(__file__).with_name("payer.py")


async def _left(workflow: Workflow, executor: Counting, specs: list[AgentStepSpec], begun: int) -> None:
    """Leave a workflow when so many steps were begun, as a process that ends does."""
    task = asyncio.create_task(workflow.parallel(specs))
    while len(executor.ran) < begun:
        await asyncio.sleep(0)
    for _ in range(9):
        await asyncio.sleep(0)
    await workflow.close()
    with pytest.raises(Exception, match="stopped"):
        await task


async def test_recorded_answers_cost_nothing_and_what_they_cost_stays_charged(store: MemoryStore) -> None:
    """A resumed workflow begins with what it had used, failed steps and those dropped since included; it answers what is recorded."""

    def act(one: AgentStepSpec) -> StepOutcome:
        return StepOutcome("", "", "", "ok", success=one.task_id != "bad", tokens=30)

    async def run(executor: Counting, names: str, limit: int) -> tuple[list[str], Workflow, list[Any]]:
        workflow = Workflow(executor, root_id="w", store=store, resume=True, budget=Budget(tokens=limit))
        events = workflow.subscribe()
        codes = [one.code for one in await workflow.parallel([spec(name) for name in names.split()])]
        await workflow.close()
        return codes, workflow, [event["type"] async for event in events]

    codes, _, told = await run(Counting(act, hint=1), "a bad dropped more", 90)
    assert (["", "AF0531", "", "budget"], ["budget_warning", "budget_exhausted"]) == (codes, told)
    executor = Counting(act)
    codes, workflow, told = await run(executor, "a more", 90)
    assert ([], ["", "budget"], 90) == (executor.ran, codes, workflow.budget_snapshot().consumed["tokens"])
    codes, workflow, _ = await run(executor, "a more", 120)
    assert (["more"], ["", ""], 120) == (executor.ran, codes, workflow.budget_snapshot().consumed["tokens"])
    kinds = [value["type"] for value in await recorded(store)]
    assert ["budget_warning", "budget_exhausted", "budget_warning"] == kinds  # the second budget's, of 120, is not the first one's
    assert 4 == len(await store.rows(RunFilter(root_id="w")))


async def test_a_loop_that_is_denied_ends_and_its_round_goes_on_later(store: MemoryStore) -> None:
    """The round in which a step was denied is not decided; with more calls to make a resumed loop runs the rest of it."""
    decided: list[int] = []

    def decide(outcomes: list[StepOutcome]) -> LoopDecision:
        decided.append(len(outcomes))
        return LoopDecision.go_on()

    async def run(executor: Counting, calls: int) -> Any:
        workflow = Workflow(executor, root_id="w", store=store, resume=True, budget=Budget(calls=calls))
        return await workflow.loop([spec("a"), spec("b")], decide, 2)

    outcome = await run(Counting(), 3)
    assert ("budget", 2, [2]) == (outcome.reason, outcome.iterations, decided)
    assert "calls 3 of 3" in (outcome.error or "")
    executor = Counting()
    outcome = await run(executor, 4)
    assert (["b"], "max_iterations", [2, 2]) == (executor.ran, outcome.reason, decided)


async def test_that_it_is_used_up_is_recorded_once_for_each_budget(store: MemoryStore) -> None:
    """A resumed workflow that is denied again says so in the words that are recorded, whatever figures it had now."""

    async def run(names: str, reserved: int) -> list[Any]:
        workflow = Workflow(spending(30), root_id="w", store=store, resume=True, budget=Budget(tokens=100))
        events = workflow.subscribe()
        outcomes = await workflow.parallel([spec(name, reserve_tokens=reserved) for name in names.split()])
        assert "budget" == outcomes[-1].code
        await workflow.close()
        return [event async for event in events]

    told = await run("a b c", 40)
    assert [{"type": "budget_exhausted", "figure": "tokens", "used": 80, "limit": 100}] == told
    assert told == await run("c", 50)
    assert told == await recorded(store)
    facts = [decode("w", entry).fact for entry in await store.entries("w")]
    assert [BudgetExhausted("", "tokens", 80, 100)] == [fact for fact in facts if isinstance(fact, BudgetExhausted)]


async def test_a_budget_may_come_later(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a workflow used before it had a budget counts, also of a step that was in flight when it was left; a warning comes at once."""
    monkeypatch.setattr("agentflow.engine.phases.wait_after", lambda *_, **__: 0.0)
    ways = iter(["done", "fails", "hangs", "done"])

    async def act(_: AgentStepSpec) -> StepOutcome:
        way = next(ways)
        if way == "hangs":
            await asyncio.Event().wait()
        return StepOutcome("", "", "", "ok", success=way == "done", tokens=40)

    executor = Counting(act)
    lost = Workflow(executor, root_id="w", store=store, resume=True, max_retries=1)
    await lost.agent(spec("a"))
    await _left(lost, executor, [spec("b")], 3)
    workflow = Workflow(executor, root_id="w", store=store, resume=True, max_retries=1, budget=Budget(tokens=120))
    assert (await workflow.agent(spec("b"))).success
    told = workflow.budget_snapshot()
    assert (120, 4) == (told.consumed["tokens"], told.consumed["calls"])
    assert "budget" == (await workflow.agent(spec("c"))).code
    await workflow.close()
    workflow = Workflow(executor, root_id="w", store=store, resume=True, budget=Budget(tokens=150))
    events = workflow.subscribe()
    async with workflow:
        pass
    assert ["budget_warning"] == [event["type"] async for event in events]


async def test_steps_in_flight_are_taken_up_as_far_as_the_budget_goes(tmp_path: Path) -> None:
    """Of three lost attempts two can be made again; the third step is denied, and left as it stands for a larger budget."""
    store = tmp_path / "journal.db"  # which has to be waited for, so that the steps come at once
    executor = Counting(lambda _: asyncio.Event().wait())
    specs = [spec(name) for name in "abc"]
    await _left(Workflow(executor, root_id="w", store=store, resume=True, budget=Budget(calls=5)), executor, specs, 3)
    executor = Counting()
    workflow = Workflow(executor, root_id="w", store=store, resume=True, budget=Budget(calls=5))
    outcomes = await workflow.parallel(specs)
    await workflow.close()
    assert (2, ["", "", "budget"]) == (len(executor.ran), sorted(one.code for one in outcomes))
    workflow = Workflow(executor, root_id="w", store=store, resume=True, budget=Budget(calls=6))
    outcomes = await workflow.parallel(specs)
    assert [(True, "w/a"), (True, "w/b"), (True, "w/c")] == [(one.success, one.session_id) for one in outcomes]


async def test_a_budget_may_be_taken_away(store: MemoryStore) -> None:
    """A step that was left in flight under a budget is bound by none when the workflow goes on without."""
    executor = Counting(lambda _: asyncio.Event().wait())
    await _left(Workflow(executor, root_id="w", store=store, resume=True, budget=Budget(calls=1)), executor, [spec("a")], 1)
    bound = Workflow(Counting(), root_id="w", store=store, resume=True, budget=Budget(calls=1))
    assert "budget" == (await bound.agent(spec("a"))).code
    await bound.close()
    workflow = Workflow(Counting(), root_id="w", store=store, resume=True)
    outcome = await workflow.agent(spec("a"))
    assert (True, 2, "w/a") == (outcome.success, outcome.attempts, outcome.session_id)


def _pay(journal: Path, hangs: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, PAYER, journal, hangs], stdout=subprocess.PIPE, text=True, cwd=PAYER.parents[2])


@pytest.mark.parametrize("hangs", ["s2", "s5"])
def test_a_killed_workflow_gives_nothing_back(tmp_path: Path, hangs: str) -> None:
    """Killed with -9 and resumed, it has used what is recorded, and what the lost attempt had reserved; the rest is denied."""
    journal = tmp_path / "journal.db"
    told: list[str] = []
    with _pay(journal, hangs) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told.append(line)
            if line == f"ran {hangs}\n":
                break
        os.kill(process.pid, signal.SIGKILL)
    with _pay(journal) as process:
        rest, _ = process.communicate(timeout=60)
    assert 0 == process.returncode
    lines = [*told, *rest.splitlines(keepends=True)]
    ran = [line.split()[1] for line in lines if line.startswith("ran")]
    # 100 tokens, 10 a step, one of them charged to the attempt that was lost: nine steps have their answer.
    assert (10, 9, 2) == (len(ran), len(set(ran)), ran.count(hangs))
    assert "used 100.0 denied 3 events 1\n" == lines[-1]
    with _pay(journal) as process:
        again, _ = process.communicate(timeout=60)
    assert "used 100.0 denied 3 events 1\n" == again
