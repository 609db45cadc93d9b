"""Recorded runs through the runner: reading them back, forking them, moving them to another plan, going on with them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentflow import Event, Hook, HookArgs, Runner, State
from agentflow.core.plan import Call, Seq
from agentflow.errors import (
    DuplicateEventError,
    IllegalTransitionError,
    PlanMismatchError,
    RunnerStateError,
    RunNotFoundError,
)

JOURNAL = {"journal": {"url": "memory:"}}
SEQUENCE = {"mode": "sequential", "sequential_agents": ["a", "b", "c"]}


def marking(name: str) -> Any:
    async def handler(event: Event, state: State) -> None:
        state[name] = state.get(name, 0) + 1

    return handler


HANDLERS = {name: marking(name) for name in "abc"}


async def test_a_run_is_read_back_to_any_of_its_records(make_runner: Any) -> None:
    """`get` gives state, outputs and steps as they stood after a record, `events` the records in order."""
    async with make_runner(SEQUENCE, HANDLERS, **JOURNAL) as runner:
        result = await runner.run(Event("x", {"n": 1}))
        view, early = await runner.get(result.run_id), await runner.get(result.run_id, at=2)
        records = await runner.events(result.run_id)
    assert result.state.to_dict() == view.state
    assert ["n", "a"] == list(early.state["data"])
    assert list(range(len(records))) == [record.seq for record in records]
    assert ("WorkflowCreated", "WorkflowCompleted") == (records[0].type, records[-1].type)


async def test_runs_are_listed_by_what_is_asked_for(make_runner: Any) -> None:
    """`runs` filters by state, pattern and session, the newest first."""

    async def fail(event: Event, state: State) -> None:
        raise ValueError("no")

    async with make_runner(SEQUENCE, {**HANDLERS, "b": fail}, **JOURNAL) as runner:
        first = await runner.run(Event("x", session_id="s"))
        second = await runner.run(Event("x"))
        assert [second.run_id, first.run_id] == [row.run_id for row in await runner.runs(state="failed", pattern="sequential")]
        assert [first.run_id] == [row.run_id for row in await runner.runs(session="s")]
        assert [] == await runner.runs(state="completed")


async def test_a_fork_goes_on_by_itself_from_a_record(make_runner: Any) -> None:
    """A fork has done what its origin had done, sees the keys that were set, and leaves the origin as it is."""
    async with make_runner(SEQUENCE, HANDLERS, **JOURNAL) as runner:
        origin = await runner.run(Event("x", {"n": 1}))
        before = [record.to_dict() for record in await runner.events(origin.run_id)]
        handle = await runner.fork(origin.run_id, at=3, set={"n": 2})
        result = await handle.result()
        records = await runner.events(handle.run_id)
        assert before == [record.to_dict() for record in await runner.events(origin.run_id)]
        assert [] == await runner._history.verify()
    assert {"n": 2, "a": 1, "b": 1, "c": 1} == dict(result.state)
    assert origin.run_id == records[0].fact.forked_from
    assert 1 == sum(record.type == "StepCompleted" and record.fact.agent == "a" for record in records)


async def test_a_fork_of_a_run_that_was_cut_goes_on_where_that_stood(make_runner: Any) -> None:
    """How the old run ended, and what hooks did at its end, is not the fork's: it makes the step again that was in flight."""

    async def slow(event: Event, state: State, ctx: Any) -> dict[str, int]:
        await asyncio.sleep(9 if ctx.attempt == 1 else 1)
        return {"b": ctx.attempt}

    async with make_runner({**SEQUENCE, "timeout_seconds": 5}, {**HANDLERS, "b": slow}, **JOURNAL) as runner:

        @runner.on(Hook.AFTER_EVENT_HANDLING)
        async def ended(args: HookArgs) -> None:
            args.state["ends"] = args.state.get("ends", 0) + 1

        origin = await runner.run(Event("x"))
        result = await (await runner.fork(origin.run_id)).result()
        assert [] == await runner._history.verify()
    assert ("timed_out", {"a": 1, "ends": 1}) == (origin.status, dict(origin.state))
    assert ("completed", {"a": 1, "b": 2, "c": 1, "ends": 1}) == (result.status, dict(result.state))


async def test_a_run_that_is_not_there_is_named(make_runner: Any) -> None:
    """An unknown run, record or end is an error that names it."""
    async with make_runner(SEQUENCE, HANDLERS, **JOURNAL) as runner:
        result = await runner.run(Event("x"))
        with pytest.raises(RunNotFoundError, match="run-nowhere"):
            await runner.get("run-nowhere")
        with pytest.raises(RunNotFoundError, match="record 99"):
            await runner.fork(result.run_id, at=99)
        with pytest.raises(RunNotFoundError, match="run-nowhere"):
            await runner.resume("run-nowhere")
        with pytest.raises(IllegalTransitionError, match="completed"):
            await runner.resume(result.run_id)


async def test_without_a_journal_nothing_can_be_read_back(make_runner: Any) -> None:
    """A runner that records nothing says how to record."""
    async with make_runner(SEQUENCE, HANDLERS) as runner:
        assert "memory:" == runner.journal_url
        handle = await runner.emit(Event("x"))
        for asked in (runner.runs(), runner.get("x"), runner.resume(), handle.pause(), handle.checkpoint()):
            with pytest.raises(RunnerStateError, match=r"nothing .* recorded"):
                await asked


async def test_the_same_event_has_one_run(make_runner: Any) -> None:
    """An event emitted again under its id has the run it had; another event under that id is refused."""
    async with make_runner(SEQUENCE, HANDLERS, **JOURNAL) as runner:
        first = await runner.emit(Event("x", {"n": 1}, id="e-1"))
        again = await runner.emit(Event("x", {"n": 1}, id="e-1"))
        assert first.run_id == again.run_id
        assert (await first.result()).state == (await again.result()).state
        late = await runner.emit(Event("x", {"n": 1}, id="e-1"))
        assert (first.run_id, "completed") == (late.run_id, (await late.result()).status)
        with pytest.raises(DuplicateEventError):
            await runner.emit(Event("x", {"n": 2}, id="e-1"))
        assert 1 == len(await runner.runs())


def journaled(path: Path, flow: dict[str, Any], handlers: dict[str, Any]) -> Runner:
    runner = Runner.from_dict(
        {"orchestration": flow, "agents": {name: {} for name in handlers}, "journal": {"url": f"sqlite:{path}"}}, environ={}
    )
    for name, handler in handlers.items():
        runner.register_agent(name, handler)
    return runner


async def stopped_in(path: Path, handlers: dict[str, Any], agent: str) -> str:
    """Begin a run, stop the runner while `agent` works on it, and return the run's id."""
    begun = asyncio.Event()

    async def hang(event: Event, state: State) -> None:
        begun.set()
        await asyncio.sleep(999)

    runner = journaled(path, SEQUENCE, {**handlers, agent: hang})
    await runner.start()
    handle = await runner.emit(Event("x"))
    await begun.wait()
    report = await runner.stop(0)
    assert (handle.run_id,) == report.resumable
    with pytest.raises(RunnerStateError, match="resume"):
        await handle.result()
    return str(handle.run_id)


async def test_a_stopped_run_goes_on_where_it_stood(tmp_path: Path) -> None:
    """A run that `stop` has left is resumed: what was recorded is not done again."""
    run_id = await stopped_in(tmp_path / "j.db", HANDLERS, "b")
    called: list[str] = []

    def noting(name: str) -> Any:
        async def handler(event: Event, state: State, ctx: Any) -> None:
            called.append(f"{name}{ctx.attempt}")
            state[name] = 1

        return handler

    async with journaled(tmp_path / "j.db", SEQUENCE, {name: noting(name) for name in "abc"}) as runner:
        (handle,) = await runner.resume()
        result = await handle.result()
        assert [] == await runner._history.verify()
        assert [] == await runner.resume()
    assert (run_id, "completed", {"a": 1, "b": 1, "c": 1}) == (result.run_id, result.status, dict(result.state))
    assert ["b2", "c1"] == called


async def test_a_run_keeps_its_plan_until_it_is_moved(tmp_path: Path) -> None:
    """A changed configuration does not change a run; `plan="current"` moves it, unless what is done does not fit."""
    other = {"mode": "sequential", "sequential_agents": ["a", "c"]}
    kept = await stopped_in(tmp_path / "1.db", HANDLERS, "b")
    async with journaled(tmp_path / "1.db", other, HANDLERS) as runner:
        (handle,) = await runner.resume(kept)
        assert {"a": 1, "b": 1, "c": 1} == dict((await handle.result()).state)
    moved = await stopped_in(tmp_path / "2.db", HANDLERS, "b")
    async with journaled(tmp_path / "2.db", other, HANDLERS) as runner:
        (handle,) = await runner.resume(moved, plan="current")
        assert {"a": 1, "c": 1} == dict((await handle.result()).state)
        assert [] == await runner._history.verify()
    elsewhere = await stopped_in(tmp_path / "4.db", HANDLERS, "b")
    runner = journaled(tmp_path / "4.db", {"mode": "mine"}, HANDLERS)
    runner.register_mode("mine", lambda flow: Seq((Call("a"), Call("c"))))
    async with runner:
        (handle,) = await runner.resume(elsewhere, plan="current")
        assert {"a": 1, "c": 1} == dict((await handle.result()).state)
        assert ["mine"] == [row.pattern for row in await runner.runs()]
        assert [] == await runner._history.verify()
        early, fork = await runner.get(elsewhere, at=2), await runner.fork(elsewhere, at=2)
        assert ["0.0"] == [step.position for step in early.steps if step.status == "completed"]
        assert {"a": 1, "b": 1, "c": 1} == dict((await fork.result()).state)
        assert [] == await runner._history.verify()
    unfit = await stopped_in(tmp_path / "3.db", HANDLERS, "b")
    async with journaled(tmp_path / "3.db", {"mode": "sequential", "sequential_agents": ["c", "b"]}, HANDLERS) as runner:
        with pytest.raises(PlanMismatchError, match=r"0\.0"):
            await runner.resume(unfit, plan="current")
        (handle,) = await runner.resume(unfit, plan="current", accept=True)
        assert {"c": 1, "b": 1} == dict((await handle.result()).state)


async def test_a_moved_run_is_shown_as_it_stood_before(tmp_path: Path) -> None:
    """Also when no other run walks its first plan any more, and the others were deleted."""
    async with journaled(tmp_path / "j.db", SEQUENCE, HANDLERS) as runner:
        other = await runner.run(Event("x"))
    moved = await stopped_in(tmp_path / "j.db", HANDLERS, "b")
    flow = {"mode": "sequential", "sequential_agents": ["a", "c"]}
    async with journaled(tmp_path / "j.db", flow, HANDLERS) as runner:
        (handle,) = await runner.resume(moved, plan="current")
        await handle.result()
        assert 1 == await runner._store.delete([other.run_id])
    async with journaled(tmp_path / "j.db", flow, HANDLERS) as runner:
        early = await runner.get(moved, at=3)
        assert ["a", "b"] == [step.agent for step in early.steps]
        assert [] == await runner._history.verify()


async def test_stop_does_not_wait_for_a_paused_run(make_runner: Any) -> None:
    """A run that waits for a person is left as it stands, whatever the drain's time."""
    runner = make_runner(SEQUENCE, HANDLERS, agents={"a": {}, "b": {"requires_approval": True}, "c": {}})
    await runner.start()
    handle = await runner.emit(Event("x"))
    assert "paused" == await handle.wait()
    begun = asyncio.get_running_loop().time()
    report = await runner.stop(1000)
    assert (0, (handle.run_id,), ()) == (asyncio.get_running_loop().time() - begun, report.resumable, report.cancelled)


async def test_stop_leaves_a_run_that_pauses_meanwhile(make_runner: Any) -> None:
    """A run whose last step in flight ends during the drain, and which then waits for a person, is left at once."""

    async def slow(event: Event, state: State) -> None:
        await asyncio.sleep(5)

    runner = make_runner(SEQUENCE, {**HANDLERS, "a": slow}, agents={"a": {}, "b": {"requires_approval": True}, "c": {}})
    await runner.start()
    handle = await runner.emit(Event("x"))
    report = await runner.stop(1000)
    assert (handle.run_id,) == report.resumable
    assert asyncio.get_running_loop().time() < 10


@pytest.mark.parametrize("sections", [{}, JOURNAL])
async def test_once_is_once_for_those_who_ask_at_the_same_time(make_runner: Any, sections: dict[str, Any]) -> None:
    """Of two that ask for one effect at once, one does it, and both have its value; another attempt has it too."""
    done: list[int] = []

    async def pay() -> int:
        await asyncio.sleep(1)
        done.append(len(done))
        return len(done)

    async def handler(event: Event, state: State, ctx: Any) -> dict[str, Any]:
        paid = await asyncio.gather(ctx.once("pay", pay), ctx.once("pay", pay))
        if ctx.attempt == 1:
            raise ValueError("again")
        return {"paid": paid}

    flow = {"mode": "sequential", "sequential_agents": ["a"], "retry_attempts": 1}
    async with make_runner(flow, {"a": handler}, **sections) as runner:
        result = await runner.run(Event("x"))
    assert (1, [1, 1]) == (len(done), result.state["paid"])


def test_a_pause_is_durable_when_wait_tells_of_it(tmp_path: Path) -> None:
    """Who reads a run back after `wait` has said "paused" finds what it waits for, also in a file; in real time, as files are."""
    config = {
        "orchestration": {"mode": "sequential", "sequential_agents": ["a", "b"]},
        "agents": {"a": {}, "b": {"requires_approval": True}},
        "journal": {"url": f"sqlite:{tmp_path / 'j.db'}"},
    }

    async def main() -> None:
        runner = Runner.from_dict(config, environ={})
        for name in "ab":
            runner.register_agent(name, HANDLERS[name])
        async with runner:
            for _ in range(20):
                handle = await runner.emit(Event("x"))
                assert "paused" == await handle.wait()
                view = await runner.get(handle.run_id)
                assert ("paused", ["0.1"]) == (view.row.state, [approval.position for approval in view.approvals])

    asyncio.run(main())
