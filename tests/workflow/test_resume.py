"""Going on: what is recorded is not run again, what was in flight is, and nothing passes for what it is not."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agentflow import Runner, Workflow
from agentflow.core.codec import sealed
from agentflow.core.run_row import RunFilter
from agentflow.errors import (
    FencedError,
    IllegalTransitionError,
    JournalDamagedError,
    JournalVersionError,
    RunnerStateError,
    StoreError,
    WorkflowError,
)
from agentflow.stores.memory import MemoryStore
from agentflow.workflow import AgentStepSpec, LoopDecision, StepOutcome
from tests.workflow.conftest import Counting, spec

VICTIM = Path(__file__).with_name("victim.py")
EVERY_RUN = ["w/a", "w/b", "w/p/a", "w/pipeline-1[0].1/s", "w/pipeline-1[0].2/s", *(f"w/loop-1#{n}/again" for n in (1, 2, 3, 4))]


def _workflow(executor: Counting, store: MemoryStore, root_id: str = "w") -> Workflow:
    return Workflow(executor, root_id=root_id, store=store, resume=True)


async def test_what_succeeded_is_not_run_again(store: MemoryStore) -> None:
    """With `a` recorded only `b` runs; the outcomes stand in order, and that of `a` is equal to what it was."""
    before = await _workflow(Counting(), store).agent(spec("a", "x"))
    executor = Counting()
    outcomes = await _workflow(executor, store).parallel([spec("a", "x"), spec("b", "y")])
    assert (["b"], before, "b") == (executor.ran, outcomes[0], outcomes[1].task_id)
    assert (1, before.duration) == (outcomes[0].attempts, outcomes[0].duration)


async def test_what_failed_is_run_again(store: MemoryStore) -> None:
    """Successes are kept, failures are not: each resume tries these again until they succeed."""
    luck = iter([False, False, True])

    def act(one: AgentStepSpec) -> object:
        return "ok" if one.task_id == "a" or next(luck) else StepOutcome.failed("", "", "no")

    for succeeded, ran in ((False, ["a", "b"]), (False, ["b"]), (True, ["b"]), (True, [])):
        executor = Counting(act)
        async with _workflow(executor, store) as workflow:
            outcomes = await workflow.parallel([spec("a"), spec("b")])
        assert ([True, succeeded], ran) == ([one.success for one in outcomes], executor.ran)
    row = await store.row("w")
    assert row is not None
    assert ("completed", "partial") == (row.state, row.status)


async def test_what_was_lost_and_then_failed_is_run_again(store: MemoryStore) -> None:
    """A step that was in flight when its process ended, and fails when it is taken up, is no dead letter: the next resume tries it."""
    hanging = Counting(lambda _: asyncio.Event().wait())
    lost = _workflow(hanging, store)
    task = asyncio.create_task(lost.agent(spec("a")))
    while not hanging.ran:
        await asyncio.sleep(0)
    await lost.close()
    with pytest.raises(RunnerStateError, match="stopped"):
        await task
    failing = _workflow(Counting(lambda _: StepOutcome.failed("", "", "no")), store)
    assert "no" == (await failing.agent(spec("a"))).error
    await failing.close()
    outcome = await _workflow(Counting(), store).agent(spec("a"))
    assert (True, "w/a~2") == (outcome.success, outcome.session_id)


async def test_other_work_under_a_known_id_is_stale(store: MemoryStore) -> None:
    """With another prompt nothing of the verb runs; the stale step and those that wait fail, those recorded answer."""
    await _workflow(Counting(), store).parallel([spec("a", "x"), spec("b", "y")])
    executor = Counting()
    workflow = _workflow(executor, store)
    a, b, c = await workflow.parallel([spec("a", "changed"), spec("b", "y"), spec("c")])
    assert ([], [False, True, False]) == (executor.ran, [a.success, b.success, c.success])
    assert "stale identity" in (a.error or "")
    assert "stale identity of a" in (c.error or "")
    assert "stale identity" in ((await workflow.agent(spec("a", "x", agent="other"))).error or "")
    looped = await workflow.loop([spec("l", "1")], lambda _: LoopDecision.stop(), 2, name="n")
    again = await _workflow(executor, store).loop([spec("l", "2")], lambda _: LoopDecision.stop(), 2, name="n")
    assert (None, "error") == (looped.error, again.reason)
    assert again.error is not None
    assert "stale identity" in again.error


async def test_a_description_is_no_part_of_an_identity(store: MemoryStore) -> None:
    """A step whose description or parent session changed answers from the journal."""
    await _workflow(Counting(), store).agent(spec("a", "x", description="old"))
    executor = Counting()
    assert (await _workflow(executor, store).agent(spec("a", "x", description="new", parent_session_id="s"))).success
    assert [] == executor.ran


async def test_steps_may_be_dropped_and_added(store: MemoryStore) -> None:
    """Where `a` is gone and `c` is new, `b` is reused and only `c` runs."""
    async with _workflow(Counting(), store) as workflow:
        await workflow.parallel([spec("a"), spec("b")])
    executor = Counting()
    async with _workflow(executor, store) as workflow:
        assert all(one.success for one in await workflow.parallel([spec("b"), spec("c")]))
    assert ["c"] == executor.ran


async def test_two_workflows_may_have_steps_of_one_id(store: MemoryStore) -> None:
    """A workflow that is resumed after another one ran gets its own outcomes."""
    for name in ("A", "B"):
        await _workflow(Counting(lambda one, name=name: f"of {name}"), store, name).agent(spec("step"))
    executor = Counting()
    assert "of A" == (await _workflow(executor, store, "A").agent(spec("step"))).output
    assert [] == executor.ran


async def test_many_workflows_that_lost_their_second_step(store: MemoryStore) -> None:
    """Of 15 workflows whose second step was lost in flight, each first step ran once, and each second one is done once."""
    executor = Counting()
    for number in range(15):
        workflow = _workflow(executor, store, f"w{number}")
        await workflow.agent(spec("one"))
        hanging = Counting(lambda _: asyncio.Event().wait())
        lost = _workflow(hanging, store, f"w{number}")
        task = asyncio.create_task(lost.agent(spec("two")))
        while not hanging.ran:
            await asyncio.sleep(0)
        await lost.close()  # as a process that ends: what runs is left to be resumed
        with pytest.raises(Exception, match=r"stopped|resumed"):
            await task
    for number in range(15):
        async with _workflow(executor, store, f"w{number}") as workflow:
            assert (await workflow.agent(spec("one"))).success
            second = await workflow.agent(spec("two"))
            assert (True, 2) == (second.success, second.attempts)
    assert (15, 15) == (executor.ran.count("one"), executor.ran.count("two"))


async def test_rounds_that_are_over_answer_as_they_stand(store: MemoryStore) -> None:
    """A loop that was left in its third round goes on there; what failed in a round that is over is not run again."""

    def act(one: AgentStepSpec) -> object:
        return StepOutcome.failed("", "", "no") if one.task_id == "bad" else asyncio.Event().wait() if one.prompt == "3" else "ok"

    decided: list[list[bool]] = []

    def decide(outcomes: list[StepOutcome]) -> LoopDecision:
        decided.append([one.success for one in outcomes])
        return LoopDecision.go_on()

    def specs(number: int) -> list[AgentStepSpec]:
        return [spec("good", str(number)), spec("bad", str(number))]

    executor = Counting(act)
    first = _workflow(executor, store)
    task = asyncio.create_task(first.loop(specs, decide, 3))
    while executor.ran.count("good") < 3:
        await asyncio.sleep(0)
    await first.close()
    with pytest.raises(Exception, match="stopped"):
        await task
    executor = Counting()
    outcome = await _workflow(executor, store).loop(specs, decide, 3)
    assert (["good", "bad"], 3, "max_iterations") == (executor.ran, outcome.iterations, outcome.reason)
    assert [[True, False], [True, False], [True, True]] == decided


async def test_only_one_goes_on_with_a_workflow(store: MemoryStore) -> None:
    """Of two that resume at once one runs the step, once; the other is refused. One that was idle meanwhile is fenced off."""
    gate = asyncio.Event()
    executor = Counting(lambda _: gate.wait())
    idle = _workflow(Counting(), store)
    await idle.agent(spec("before"))
    both = [asyncio.create_task(_workflow(executor, store).agent(spec("a"))) for _ in range(2)]
    while not executor.ran:
        await asyncio.sleep(0)
    done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    gate.set()
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    assert 1 == len(done)
    assert ["IllegalTransitionError", "StepOutcome"] == sorted(type(one).__name__ for one in outcomes)
    assert ["a"] == executor.ran
    with pytest.raises(FencedError, match="resumed elsewhere"):
        await idle.agent(spec("b"))


async def test_a_known_workflow_is_not_begun_anew(store: MemoryStore) -> None:
    """Without resume a root_id that is recorded is refused."""
    await _workflow(Counting(), store).agent(spec("a"))
    with pytest.raises(IllegalTransitionError, match="resume=True"):
        await Workflow(Counting(), root_id="w", store=store).agent(spec("a"))


async def test_an_answer_that_was_changed_is_refused(store: MemoryStore) -> None:
    """A recorded outcome with another text in it does not have its checksum, and is not given for the answer."""
    await _workflow(Counting(), store).agent(spec("a", "x"))
    entries = store._runs["w/a"].entries
    entries[:] = [replace(entry, body=entry.body.replace(b"did x", b"did y")) for entry in entries]
    executor = Counting()
    with pytest.raises(JournalDamagedError, match="checksum"):
        await _workflow(executor, store).agent(spec("a", "x"))
    assert [] == executor.ran


async def test_what_a_later_release_wrote_is_not_resumed(store: MemoryStore) -> None:
    """A record of a later version is refused, nothing runs, and the journal is as it was."""
    await _workflow(Counting(), store).agent(spec("a"))
    entries = store._runs["w"].entries
    last = entries[-1]
    entries[-1] = later = sealed("w", last.seq, last.epoch, last.at, last.type, 99, last.body, entries[-2].hash)
    executor = Counting()
    with pytest.raises(JournalVersionError):
        await _workflow(executor, store).agent(spec("b"))
    assert ([], later) == (executor.ran, store._runs["w"].entries[-1])


async def test_a_cancelled_caller_ends_its_step(store: MemoryStore) -> None:
    """A verb that is given up leaves nothing running, and its step runs again later."""
    executor = Counting(lambda _: asyncio.Event().wait())
    workflow = _workflow(executor, store)
    task = asyncio.create_task(workflow.parallel([spec("a"), spec("b")]))
    while len(executor.ran) < 2:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(10):
        while await store.rows(RunFilter(is_open=True)) != [await store.row("w")]:
            await asyncio.sleep(0)
    executor.act = lambda _: "ok"
    assert (True, "w/a~2") == ((out := await workflow.agent(spec("a"))).success, out.session_id)


async def test_where_a_journal_may_be(tmp_path: Path) -> None:
    """A path and a `sqlite:` url name the same file, which a second workflow cannot have at once; other urls are refused."""
    path = tmp_path / "flow" / "journal.db"
    async with Workflow(Counting(), root_id="w", store=path, resume=True) as workflow:
        assert (await workflow.agent(spec("a"))).success
        with pytest.raises(StoreError):
            await Workflow(Counting(), store=path).agent(spec("a"))
    executor = Counting()
    async with Workflow(executor, root_id="w", store=f"sqlite:{path}", resume=True) as workflow:
        assert (await workflow.agent(spec("a"))).success
    assert [] == executor.ran
    with pytest.raises(WorkflowError, match="cannot keep its journal"):
        await Workflow(Counting(), store="redis:x").agent(spec("a"))


def _run(journal: Path, hangs: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, VICTIM, journal, hangs], stdout=subprocess.PIPE, text=True, cwd=VICTIM.parents[2])


@pytest.mark.parametrize("hangs", EVERY_RUN)
def test_a_killed_workflow_goes_on_where_it_was(tmp_path: Path, hangs: str) -> None:
    """Killed with -9 in any of its steps and resumed, each step that was done ran once, the one in flight twice under one key."""
    journal = tmp_path / "journal.db"
    told: list[str] = []
    with _run(journal, hangs) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told.append(line)
            if line.startswith(f"ran {hangs} "):
                break
        os.kill(process.pid, signal.SIGKILL)
        told.extend(process.stdout)  # what it had told before
    with _run(journal) as process:
        rest, _ = process.communicate(timeout=60)
    assert 0 == process.returncode
    ran = re.findall(r"ran (\S+) (\d+) (\S+)", "".join(told) + rest)
    assert {*EVERY_RUN} == {name for name, _, _ in ran}
    again = [(attempt, key) for name, attempt, key in ran if name == hangs]
    assert ["1", "2"] == [attempt for attempt, _ in again]
    assert 1 == len({key for _, key in again})
    in_flight = {hangs, "w/a", "w/b"} if hangs in ("w/a", "w/b") else {hangs}
    once = [name for name, _, _ in ran if name not in in_flight]
    assert sorted(set(once)) == sorted(once)
    with _run(journal) as process:
        rest, _ = process.communicate(timeout=60)
    assert "ran" not in rest
    assert rest.startswith("done ['again of")
    assert rest.endswith(" 0\n")


async def test_a_runner_lays_a_workflow_aside(tmp_path: Path) -> None:
    """A runner that resumes all runs of a journal cannot go on with a workflow's: they wait, and the workflow takes them up."""
    url = f"sqlite:{tmp_path / 'journal.db'}"
    hanging = Counting(lambda _: asyncio.Event().wait())
    lost = Workflow(hanging, root_id="w", store=url, resume=True)
    task = asyncio.create_task(lost.agent(spec("a")))
    while not hanging.ran:
        await asyncio.sleep(0)
    await lost.close()
    with pytest.raises(RunnerStateError, match="stopped"):
        await task
    runner = Runner.from_dict({"orchestration": {"mode": "route"}, "agents": {"x": {}}, "journal": {"url": url}})
    runner.register_agent("x", lambda event, state: None)
    async with runner:
        assert ["paused", "paused"] == [await handle.wait() for handle in await runner.resume()]
    async with Workflow(Counting(), root_id="w", store=url, resume=True) as workflow:
        outcome = await workflow.agent(spec("a", ""))
    assert (True, "w/a") == (outcome.success, outcome.session_id)
