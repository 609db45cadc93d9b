"""How much a run may record: it is warned of at a fifth, and fails at the limit, whoever wrote its records."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentflow import Runner
from agentflow.core.records import FlowCut, StepStarted, WorkflowFailed, WorkflowPaused
from tests.durability.checker import faults_of
from tests.durability.world import Death, Life, World, make, one

LOOP = {"mode": "loop", "loop_agent": "a", "max_iterations": 100_000}
ROUNDS = 25  # of two records each, after the first record: the fiftieth is in the 25th round


def _runner(world: World, pad: str = "", **limits: Any) -> Runner:
    async def turn(event: Any, state: Any, ctx: Any) -> dict[str, str]:
        world.note(ctx)
        return {"pad": f"{pad}{len(world.ledger) % 10}"}

    return make(LOOP, {"a": turn}, journal={"url": "memory:", "snapshot_every": 7}, limits=limits)


def _check(world: World) -> None:
    assert [] == world.faults
    for run_id in world.run_ids:
        run = world.store._runs[run_id]
        assert [] == faults_of(run.row, run.entries, world.store._plans.get(run.row.plan_hash))


async def _emitted(life: Life, runner: Runner) -> Any:
    return await (await (await life.start(runner)).emit(one())).result()


async def _resumed(life: Life, runner: Runner) -> Any:
    await life.start(runner)
    (handle,) = await runner.resume()
    return await handle.result()


@pytest.mark.parametrize("commit_s", [0.0, 0.01])
def test_a_run_fails_when_it_has_recorded_as_many_records_as_it_may(world: World, commit_s: float) -> None:
    """At `limits.max_records` nothing more begins, and the run fails with `history_limit` and an error that names limit and cure."""
    result = world.process(lambda life: _emitted(life, _runner(world, max_records=50)), commit_s=commit_s)
    assert ("failed", "history_limit", ROUNDS) == (result.status, result.reason, len(world.ledger))
    assert ("AF0513", "HistoryLimitError", "") == (result.error.code, result.error.type, result.error.agent)
    assert "51 records, and limits.max_records is 50; divide" in result.error.message
    assert "raise max_records in [limits]" in result.error.message
    run_id = result.run_id
    assert ["StepStarted", "StepCompleted", "FlowCut", "WorkflowFailed"] == world.types(run_id)[-4:]
    assert ("failed", "history_limit", "failed") == (world.row(run_id).status, world.row(run_id).reason, world.row(run_id).state)
    _check(world)


def test_a_run_fails_when_its_records_have_as_many_bytes_as_they_may(world: World) -> None:
    """`limits.max_run_bytes` counts the bodies of all records; a run that is over it fails in the same way."""
    result = world.process(lambda life: _emitted(life, _runner(world, pad="x" * 4000, max_run_bytes=20_000)))
    assert ("history_limit", "AF0513", 5) == (result.reason, result.error.code, len(world.ledger))
    assert "bytes of records, and limits.max_run_bytes is 20,000" in result.error.message
    assert "raise max_run_bytes in [limits]" in result.error.message
    assert 20_000 <= sum(len(entry.body) for entry in world.store._runs[result.run_id].entries[:-2]) < 24_500
    _check(world)


def test_a_step_that_records_too_much_at_once_is_the_last(world: World) -> None:
    """A run that passes the warning and the limit in one step begins no other."""
    result = world.process(lambda life: _emitted(life, _runner(world, pad="x" * 50_000, max_run_bytes=40_000)))
    assert ("history_limit", 1) == (result.reason, len(world.ledger))


def test_a_run_that_ends_with_its_last_record_allowed_completes(world: World) -> None:
    """A run of which nothing is left to do has ended by itself, however long it has become."""

    async def nothing(event: Any, state: Any) -> None: ...

    names = [f"a{number}" for number in range(5)]  # eleven records with the first, before the last one
    flow = {"mode": "sequential", "sequential_agents": names}
    result = world.process(lambda life: _emitted(life, make(flow, dict.fromkeys(names, nothing), limits={"max_records": 10})))
    assert ("completed", 12) == (result.status, len(world.facts(result.run_id)))


def test_a_run_without_a_journal_has_no_such_limit() -> None:
    """What records nothing cannot record too much."""
    calls: list[int] = []

    async def turn(event: Any, state: Any) -> None:
        calls.append(1)

    config = {"orchestration": {**LOOP, "max_iterations": 100}, "agents": {"a": {}}, "limits": {"max_records": 10}}
    runner = Runner.from_dict(config, environ={})
    runner.register_agent("a", turn)

    async def main() -> str:
        async with runner:
            return (await runner.run(one())).status

    assert ("completed", 100) == (asyncio.run(main()), len(calls))


def test_the_limit_holds_in_a_file_and_after_a_restart(tmp_path: Path) -> None:
    """A journal in SQLite counts in the same way, and what another runner had recorded counts."""

    begun = asyncio.Event()

    def runner(most: int) -> Runner:
        async def turn(event: Any, state: Any, ctx: Any) -> dict[str, int]:
            if state.get("n") == 19 and ctx.attempt == 1:
                begun.set()
                await asyncio.sleep(999)
            return {"n": state.get("n", 0) + 1}

        return make(LOOP, {"a": turn}, journal={"url": f"sqlite:{tmp_path / 'j.db'}", "snapshot_every": 5}, limits={"max_records": most})

    async def main() -> tuple[Any, int]:
        async with runner(500) as first:
            await first.emit(one())
            await begun.wait()
            await first.stop(0)
        async with runner(60) as second:  # 40 records are there; to take the run over is one more, the step again another
            (handle,) = await second.resume()
            return await handle.result(), len(await second.events(handle.run_id))

    result, records = asyncio.run(main())
    assert ("history_limit", 29, 61 + 2) == (result.reason, result.state["n"], records)


# --- what is in flight ---


@pytest.mark.parametrize("is_stubborn", [False, True])
def test_what_is_in_flight_is_closed_as_for_a_timeout(world: World, is_stubborn: bool) -> None:
    """Beside the line of steps that came to the limit, others are cancelled, and left behind when they do not end."""
    cancelled: list[float] = []

    async def turn(event: Any, state: Any) -> None:
        await asyncio.sleep(0.1)

    async def slow(event: Any, state: Any) -> None:
        while True:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                cancelled.append(asyncio.get_running_loop().time())
                if not is_stubborn:
                    raise

    runner = make(
        {"mode": "collaborative", "collaborative_agents": ["busy", "slow"]},
        {"a": turn, "slow": slow},
        flows={"busy": LOOP},
        limits={"max_records": 50},
        runner={"cancel_grace_seconds": 3},
    )

    async def emit(life: Life) -> Any:
        result = await _emitted(life, runner)
        return result, asyncio.get_running_loop().time()

    result, ended_at = world.process(emit)
    assert ("failed", "history_limit") == (result.status, result.reason)
    assert ([2.4, 5.4] if is_stubborn else [2.4]) == [round(at, 1) for at in cancelled]
    assert (*(("abandoned",) if is_stubborn else ()), "dead_lettered") == result.flags
    assert (10.4 if is_stubborn else 2.4) == round(ended_at, 1)
    assert [""] == [fact.position for fact in world.told(result.run_id, FlowCut)]
    _check(world)


@pytest.mark.parametrize("commit_s", [0.0, 0.01])
def test_a_step_that_records_by_itself_is_ended_too(world: World, commit_s: float) -> None:
    """A handler that does one effect after the other comes to the limit within one step."""

    async def collect(event: Any, state: Any, ctx: Any) -> None:
        for number in range(10_000):
            await ctx.once(f"page {number}", lambda: world.effects.append(("", "", "")))

    flow = {"mode": "sequential", "sequential_agents": ["a"]}
    result = world.process(lambda life: _emitted(life, make(flow, {"a": collect}, limits={"max_records": 50})), commit_s=commit_s)
    assert ("history_limit", 48) == (result.reason, len(world.effects))
    assert 52 == len(world.facts(result.run_id))
    _check(world)


def test_a_step_that_is_made_again_and_again_is_ended_too(world: World) -> None:
    """The records of attempts count, and the wait for the next one ends at the limit."""

    async def fail(event: Any, state: Any) -> None:
        raise OSError("busy")

    flow = {"mode": "sequential", "sequential_agents": ["a"], "retry_attempts": 100}
    result = world.process(lambda life: _emitted(life, make(flow, {"a": fail}, limits={"max_records": 20})))
    assert ("history_limit", 20 + 2) == (result.reason, len(world.facts(result.run_id)))
    assert 10 == len(world.told(result.run_id, StepStarted))
    _check(world)


def test_a_run_that_waits_for_a_person_fails_at_the_limit_and_does_not_pause(world: World) -> None:
    """An approval that is open keeps no run from its limit, and can be answered no more."""

    async def turn(event: Any, state: Any) -> None: ...

    runner = make(
        {"mode": "collaborative", "collaborative_agents": ["busy", "asked"]},
        {"a": turn, "asked": turn},
        flows={"busy": LOOP},
        agents={"asked": {"requires_approval": True, "approval_timeout_seconds": 60}},
        limits={"max_records": 50},
    )

    async def emit(life: Life) -> tuple[str, bool]:
        handle = await (await life.start(runner)).emit(one())
        told = await handle.wait()
        await asyncio.sleep(100)
        return told, await handle.approve("asked")

    assert ("failed", False) == world.process(emit)
    (run_id,) = world.run_ids
    assert ("history_limit", []) == (world.row(run_id).reason, world.told(run_id, WorkflowPaused))
    _check(world)


@pytest.mark.parametrize("limit_s", range(3, 13))
def test_a_deadline_that_passes_while_the_end_is_being_written_changes_nothing(world: World, limit_s: int) -> None:
    """An approval whose time is up after its run was closed is not answered behind the end, however long the commit takes."""

    async def turn(event: Any, state: Any) -> None: ...

    runner = make(
        {"mode": "collaborative", "collaborative_agents": ["busy", "asked"]},
        {"a": turn, "asked": turn},
        flows={"busy": LOOP},
        agents={"asked": {"requires_approval": True, "approval_timeout_seconds": limit_s + 0.5}},
        limits={"max_records": 12},
    )
    assert "history_limit" == world.process(lambda life: _emitted(life, runner), commit_s=1).reason
    _check(world)


@pytest.mark.parametrize("commit_s", [0.0, 0.01])
def test_lines_of_steps_that_come_to_the_limit_together_end_the_run_once(world: World, commit_s: float) -> None:
    """Two branches that find the run at its limit in one moment close it once."""

    async def turn(event: Any, state: Any) -> None:
        await asyncio.sleep(1)

    flows = {name: {**LOOP, "loop_agent": agent} for name, agent in (("left", "a"), ("right", "b"))}
    flow = {"mode": "collaborative", "collaborative_agents": ["left", "right"]}
    runner = make(flow, {"a": turn, "b": turn}, flows=flows, limits={"max_records": 50})
    assert "history_limit" == world.process(lambda life: _emitted(life, runner), commit_s=commit_s).reason
    _check(world)


# --- the warning ---


def test_a_run_is_warned_of_once_at_a_fifth(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """One line in the log, with the figures, when a fifth is reached; none before, and no second one after a restart."""

    def warnings() -> list[str]:
        return [line for line in capsys.readouterr().err.splitlines() if "history_grows" in line]

    world.process(lambda life: _emitted(life, _runner(world, max_records=100)), Death(append=9))
    assert [] == warnings()
    world.process(lambda life: _resumed(life, _runner(world, max_records=100)), Death(append=20))
    (line,) = warnings()
    assert "warning" in line
    assert "max_records=100" in line
    assert "records=20" in line or "records=21" in line
    assert world.run_ids[0] in line
    world.process(lambda life: _resumed(life, _runner(world, max_records=100)))
    assert [] == warnings()
    assert "history_limit" == world.row(world.run_ids[0]).reason


# --- across processes ---


@pytest.mark.parametrize("append", range(1, 27))
@pytest.mark.parametrize("is_written", [False, True])
def test_the_records_of_all_processes_count(world: World, append: int, is_written: bool) -> None:
    """Wherever a process dies, who resumes the run counts from its first record, snapshots or not; it ends once, in the same way."""
    world.process(lambda life: _emitted(life, _runner(world, max_records=50)), Death(append, is_written=is_written))
    if not world.run_ids:
        return
    (run_id,) = world.run_ids
    if world.row(run_id).is_open:
        world.process(lambda life: _resumed(life, _runner(world, max_records=50)))
    (end,) = world.told(run_id, WorkflowFailed)
    assert ("failed", "history_limit", "AF0513") == (end.status, end.reason, end.failure.code)
    assert 50 <= len(world.facts(run_id)) <= 50 + 4
    _check(world)


@pytest.mark.parametrize("at_s", [2.5, 5.5, 8.0])
def test_a_process_that_dies_while_it_closes_a_run_leaves_it_to_the_next(world: World, at_s: float) -> None:
    """Until the end is recorded nothing is: who resumes the run finds it at its limit, and begins nothing."""
    begun: list[str] = []

    def stubborn() -> Runner:
        async def turn(event: Any, state: Any, ctx: Any) -> None:
            begun.append(ctx.agent)
            await asyncio.sleep(0.1)

        async def slow(event: Any, state: Any, ctx: Any) -> None:
            begun.append(ctx.agent)
            while True:
                try:
                    await asyncio.sleep(1000)
                except asyncio.CancelledError:
                    continue

        return make(
            {"mode": "collaborative", "collaborative_agents": ["busy", "slow"]},
            {"a": turn, "slow": slow},
            flows={"busy": LOOP},
            limits={"max_records": 50},
            runner={"cancel_grace_seconds": 3},
            journal={"url": "memory:", "snapshot_every": 1},
        )

    world.process(lambda life: _emitted(life, stubborn()), Death(at_s=at_s))
    calls = len(begun)
    result = world.process(lambda life: _resumed(life, stubborn()))
    assert ("failed", "history_limit", calls) == (result.status, result.reason, len(begun))
    _check(world)


def test_a_run_goes_on_under_the_limits_of_whoever_resumes_it(world: World) -> None:
    """With less allowed it fails before anything begins; with more it goes on."""
    for _ in range(2):
        world.process(lambda life: _emitted(life, _runner(world, max_records=50)), Death(append=20))
    calls = len(world.ledger)

    async def resume(life: Life, run_id: str, most: int) -> Any:
        runner = await life.start(_runner(world, max_records=most))
        (handle,) = await runner.resume(run_id)
        return await handle.result()

    first, second = world.run_ids
    assert "history_limit" == world.process(lambda life: resume(life, first, 20)).reason
    assert calls == len(world.ledger)
    assert "history_limit" == world.process(lambda life: resume(life, second, 80)).reason
    assert 80 <= len(world.facts(second)) <= 80 + 4
    _check(world)


def test_a_fork_goes_on_where_the_limit_was_met(world: World) -> None:
    """Under the same limits a fork fails as its origin did, beginning nothing; once more is allowed it goes on behind the last step."""

    async def turn(event: Any, state: Any) -> dict[str, int]:
        return {"n": state.get("n", 0) + 1}

    def runner(most: int) -> Runner:
        return make({**LOOP, "max_iterations": 40}, {"a": turn}, limits={"max_records": most})

    async def fork(life: Life, most: int) -> Any:
        started = await life.start(runner(most))
        return await (await started.fork(world.run_ids[0])).result()

    world.process(lambda life: _emitted(life, runner(50)))
    again, longer = (world.process(lambda life, most=most: fork(life, most)) for most in (50, 500))
    assert ("history_limit", ROUNDS) == (again.reason, again.state["n"])
    assert ("completed", 40) == (longer.status, longer.state["n"])
    _check(world)
