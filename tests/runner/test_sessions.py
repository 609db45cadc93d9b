"""Sessions, queues and lifetimes: what runs beside what, what waits, what is refused, and what a stop leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentflow import ConfigError, Event, Hook, Runner, State
from agentflow.errors import QueueFullError, RunnerStateError

SEQUENCE = {"mode": "sequential", "sequential_agents": ["a"]}
Make = Callable[..., Runner]


class Gate:
    """A handler that notes who comes, and waits until the gate is opened."""

    def __init__(self) -> None:
        self.came: list[Any] = []
        self.opened = asyncio.Event()

    async def __call__(self, event: Event, state: State) -> None:
        self.came.append(event.data.get("n"))
        await self.opened.wait()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _assert_empty(runner: Runner) -> None:
    engine = runner._engine
    assert engine is not None
    intake = engine.intake
    assert (set(), 0, 0, {}, 0) == (engine.runs, intake._running, intake.waiting, intake._sessions, intake._promised)
    assert not intake._blocked
    assert 0 == len(engine.deadlines)


async def test_one_session_runs_one_at_a_time_in_order(make_runner: Make) -> None:
    """Events of one session run one after another, in the order in which they were accepted, and each starts afresh."""
    seen: list[Any] = []

    async def a(event: Event, state: State) -> dict[str, int]:
        seen.append(("begin", event.data["n"]))
        assert "kept" not in state
        await asyncio.sleep(5 - event.data["n"])
        seen.append(("end", event.data["n"]))
        return {"kept": 1}

    async with make_runner(SEQUENCE, {"a": a}) as runner:
        handles = [await runner.emit(Event(data={"n": n}, session_id="s")) for n in range(4)]
        await asyncio.gather(*(handle.result() for handle in handles))
    assert [(word, n) for n in range(4) for word in ("begin", "end")] == seen
    _assert_empty(runner)


async def test_sessions_progress_side_by_side(make_runner: Make) -> None:
    """Sessions do not wait for each other, nor do events without one; the metadata may name the session too."""

    async def a(event: Event, state: State) -> None:
        await asyncio.sleep(1)

    async with make_runner(SEQUENCE, {"a": a}) as runner:
        events = [Event(session_id="s1"), Event(session_id="s2"), Event(), Event(), Event(metadata={"session_id": "s1"})]
        handles = [await runner.emit(event) for event in events]
        times = []
        for handle in handles:
            await handle.result()
            times.append(_now())
    assert [1, 1, 1, 1, 2] == times


async def test_thousand_sessions_at_once(make_runner: Make) -> None:
    """A thousand sessions of three events each run at once, each in order."""
    seen: dict[Any, list[int]] = {}

    async def a(event: Event, state: State) -> None:
        await asyncio.sleep(0.01)
        seen.setdefault(event.session_id, []).append(event.data["n"])

    async with make_runner(SEQUENCE, {"a": a}, runner={"queue_size": 2000}) as runner:
        handles = [await runner.emit(Event(data={"n": n}, session_id=f"s{s}")) for n in range(3) for s in range(1000)]
        for handle in handles:
            assert "completed" == (await handle.result()).status
    assert 0.03 == pytest.approx(_now())
    assert [[0, 1, 2]] * 1000 == list(seen.values())
    _assert_empty(runner)


async def test_failed_run_lets_the_next_of_its_session_go(make_runner: Make) -> None:
    """A session goes on after a run that failed, timed out or was cancelled."""

    async def a(event: Event, state: State) -> None:
        if event.data["do"] == "fail":
            raise ValueError("no")
        if event.data["do"] != "fine":
            await asyncio.sleep(99)

    async with make_runner({**SEQUENCE, "timeout_seconds": 1}, {"a": a}) as runner:
        handles = [await runner.emit(Event(data={"do": do}, session_id="s")) for do in ("fail", "time", "cancel", "fine")]
        await asyncio.sleep(1.5)
        handles[2].cancel()
        statuses = [(await handle.result()).status for handle in handles]
    assert ["failed", "timed_out", "cancelled", "completed"] == statuses


async def test_case_33_full_queue(make_runner: Make) -> None:
    """With one event running and one waiting, a third waits a second for a place and is refused, with the figures and the cure."""
    gate = Gate()
    async with make_runner(SEQUENCE, {"a": gate}, runner={"queue_size": 1}) as runner:
        await runner.emit(Event(session_id="s"))
        await runner.emit(Event(session_id="s"))
        before = _now()
        with pytest.raises(QueueFullError) as caught:
            await runner.emit(Event(session_id="s"))
        assert 1 == _now() - before
        assert "queue full: 1 waiting, 1 running; emit slower, or raise runner.queue_size" == str(caught.value)
        assert "AF0502" == caught.value.code
        await runner.emit(Event(session_id="another"))  # the queue is for those that wait
        gate.opened.set()
    assert 3 == len(gate.came)
    _assert_empty(runner)


async def test_place_that_comes_free_in_time_is_taken(make_runner: Make) -> None:
    """An emit that waits for a place gets it as soon as there is one."""
    gate = Gate()
    async with make_runner(SEQUENCE, {"a": gate}, runner={"queue_size": 1}) as runner:
        for _ in range(2):
            await runner.emit(Event(session_id="s"))
        third = asyncio.create_task(runner.emit(Event(session_id="s")))
        await asyncio.sleep(0.5)
        assert not third.done()
        gate.opened.set()
        assert "completed" == (await (await third).result()).status
    assert 0.5 == _now()


async def test_queue_never_holds_more_than_its_size(make_runner: Make) -> None:
    """However many wait for a place, the queue keeps its bound, and each place goes to one of them in order."""
    peak = 0

    async def a(event: Event, state: State) -> None:
        nonlocal peak
        peak = max(peak, runner._engine.intake.waiting)  # type: ignore[union-attr]
        seen.append(event.data["n"])
        await asyncio.sleep(0.01)

    seen: list[int] = []
    runner = make_runner(SEQUENCE, {"a": a}, runner={"queue_size": 2, "max_running": 1, "queue_wait_seconds": 60})
    async with runner:
        await asyncio.gather(*(runner.run(Event(data={"n": n})) for n in range(50)))
    assert (2, list(range(50))) == (peak, seen)
    _assert_empty(runner)


async def test_place_that_was_given_is_not_taken_by_another(make_runner: Make) -> None:
    """A place that comes free belongs to who waited longest, even if somebody else emits before it goes on."""
    gate = Gate()
    runner = make_runner(SEQUENCE, {"a": gate}, runner={"queue_size": 1, "max_running": 1, "queue_wait_seconds": 60})
    async with runner:
        handles = [await runner.emit(Event(data={"n": n})) for n in range(2)]
        waiting = asyncio.create_task(runner.emit(Event(data={"n": 2})))
        await asyncio.sleep(1)
        handles[1].cancel()
        asyncio.get_running_loop().call_later(1, gate.opened.set)
        await runner.emit(Event(data={"n": 3}))
        assert 2 == _now()
        await waiting
    assert [0, 2, 3] == gate.came
    _assert_empty(runner)


async def test_place_of_an_emit_that_was_given_up_goes_to_the_next(make_runner: Make) -> None:
    """A caller that is cancelled while it waits for a place leaves it to the next one."""
    gate = Gate()
    runner = make_runner(SEQUENCE, {"a": gate}, runner={"queue_size": 1, "max_running": 1, "queue_wait_seconds": 60})
    async with runner:
        for n in range(2):
            await runner.emit(Event(data={"n": n}))
        waiting = [asyncio.create_task(runner.emit(Event(data={"n": n}))) for n in (2, 3, 4)]
        await asyncio.sleep(1)
        waiting[0].cancel()
        gate.opened.set()
        await asyncio.sleep(0)
        waiting[1].cancel()
        done = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert [0, 1, 4] == [n for n in gate.came if n not in (2, 3)]
    _assert_empty(runner)


async def test_max_running_bounds_all_sessions_together(make_runner: Make) -> None:
    """Never more than max_running runs go on; those beyond wait, in order."""
    running = peak = 0

    async def a(event: Event, state: State) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(1)
        running -= 1

    async with make_runner(SEQUENCE, {"a": a}, runner={"max_running": 3}) as runner:
        handles = [await runner.emit(Event(session_id=f"s{n}")) for n in range(9)]
        await asyncio.gather(*(handle.result() for handle in handles))
    assert (3, 3) == (peak, _now())


@pytest.mark.parametrize("waits_for", ["session", "place"])
async def test_cancelled_while_it_waits(make_runner: Make, waits_for: str) -> None:
    """A run that is cancelled before its turn ends at once, never runs, and leaves its place; a second cancel changes nothing."""
    gate = Gate()
    session = "s" if waits_for == "session" else None
    async with make_runner(SEQUENCE, {"a": gate}, runner={"max_running": 1, "queue_size": 2}) as runner:
        handles = [await runner.emit(Event(data={"n": n}, session_id=session)) for n in range(3)]
        handles[1].cancel("first")
        handles[1].cancel("second")
        result = await handles[1].result()
        assert ("cancelled", "first", None) == (result.status, result.reason, result.timing.duration_s)
        await runner.emit(Event(data={"n": 3}, session_id=session))
        gate.opened.set()
    assert [0, 2, 3] == gate.came
    _assert_empty(runner)


async def test_run_of_another_session_takes_a_withdrawn_place(make_runner: Make) -> None:
    """When the run that holds a session is withdrawn, the next one of that session takes its turn."""
    gate = Gate()
    async with make_runner(SEQUENCE, {"a": gate}, runner={"max_running": 1}) as runner:
        await runner.emit(Event(data={"n": 0}))
        held = await runner.emit(Event(data={"n": 1}, session_id="s"))
        await runner.emit(Event(data={"n": 2}, session_id="s"))
        held.cancel()
        gate.opened.set()
    assert [0, 2] == gate.came
    _assert_empty(runner)


async def test_long_queue_of_runs_that_end_at_once(make_runner: Make) -> None:
    """A session whose queue is full of events that fail before any step gets through it."""
    gate = Gate()
    async with make_runner({"mode": "route"}, {"a": gate}) as runner:
        handles = [await runner.emit(Event("a" if n == 0 else "nobody", session_id="s")) for n in range(1000)]
        gate.opened.set()
        statuses = [(await handle.result()).status for handle in handles]
    assert ["completed"] + ["failed"] * 999 == statuses
    _assert_empty(runner)


async def test_case_32_emitted_event_reaches_the_handler(make_runner: Make) -> None:
    """The handle knows run and event, the handler sees the same event, and a result can be had any number of times."""
    seen: list[Any] = []

    async def a(event: Event, state: State, ctx: Any) -> None:
        seen.append((event.id, ctx.run_id))

    async with make_runner(SEQUENCE, {"a": a}) as runner:
        handle = await runner.emit(Event(id="my-event"))
        assert not handle.is_done
        first, second = await asyncio.gather(handle.result(), handle.result())
        assert first is second is await handle.result()
        assert handle.is_done
    assert [("my-event", handle.run_id)] == seen
    assert first.to_dict() | {"run_id": handle.run_id} == first.to_dict()


async def test_cancelling_who_waits_does_not_cancel_the_run(make_runner: Make) -> None:
    """Cancelling a task that awaits a result, or that called `run`, leaves the run and other waiters alone."""
    gate = Gate()
    async with make_runner(SEQUENCE, {"a": gate}) as runner:
        handle = await runner.emit(Event())
        waiters = [asyncio.create_task(handle.result()) for _ in range(2)]
        whole = asyncio.create_task(runner.run(Event()))
        await asyncio.sleep(1)
        waiters[0].cancel()
        whole.cancel()
        await asyncio.sleep(1)
        gate.opened.set()
        assert "completed" == (await waiters[1]).status
    assert 2 == len(gate.came)


# --- start and stop ---


async def test_case_31_start_and_stop(make_runner: Make) -> None:
    """A runner starts once and stops once; stopping again is fine, emitting before or after is an error with a cure."""
    gate = Gate()
    runner = make_runner(SEQUENCE, {"a": gate})
    assert (await runner.stop()).is_clean
    with pytest.raises(RunnerStateError, match="the runner is not started; async with runner"):
        await runner.emit(Event())
    with pytest.raises(RunnerStateError, match="linked when the runner starts"):
        _ = runner.plan
    await runner.start()
    with pytest.raises(RunnerStateError, match="started before"):
        await runner.start()
    first, second = await asyncio.gather(runner.stop(), runner.stop())
    assert first is second is await runner.stop()
    with pytest.raises(RunnerStateError, match="the runner is stopped"):
        await runner.emit(Event())


async def test_stop_drains(make_runner: Make) -> None:
    """`stop` waits for what runs and for what is queued, and reports that nothing was left."""

    async def a(event: Event, state: State) -> None:
        await asyncio.sleep(2)

    runner = make_runner(SEQUENCE, {"a": a})
    await runner.start()
    handles = [await runner.emit(Event(session_id="s")) for _ in range(3)]
    report = await runner.stop()
    assert report.is_clean
    assert 6 == _now()
    assert ["completed"] * 3 == [(await handle.result()).status for handle in handles]


async def test_stop_reports_what_it_cancelled(make_runner: Make) -> None:
    """When the time is up `stop` cancels what runs and what is queued, and names it."""
    gate = Gate()
    runner = make_runner(SEQUENCE, {"a": gate})
    await runner.start()
    handles = [await runner.emit(Event(data={"n": n}, session_id="s")) for n in range(3)]
    report = await runner.stop(timeout=4)
    assert tuple(sorted(handle.run_id for handle in handles)) == report.cancelled
    assert () == report.abandoned
    assert 4 == _now()
    assert {("cancelled", "stopped")} == {((await handle.result()).status, (await handle.result()).reason) for handle in handles}
    assert [0] == gate.came
    _assert_empty(runner)


async def test_stop_takes_its_time_from_the_configuration(make_runner: Make) -> None:
    """Without a timeout `stop` waits `drain_timeout_seconds`; leaving `async with` does the same."""
    gate = Gate()
    async with make_runner(SEQUENCE, {"a": gate}, runner={"drain_timeout_seconds": 7}) as runner:
        handle = await runner.emit(Event())
    assert (7, "cancelled") == (_now(), (await handle.result()).status)


async def test_stop_refuses_who_waits_for_a_place(make_runner: Make) -> None:
    """An emit that waits for a place when the runner stops is refused; nothing begins after the stop."""
    gate = Gate()
    runner = make_runner(SEQUENCE, {"a": gate}, runner={"max_running": 1, "queue_size": 1, "queue_wait_seconds": 60})
    await runner.start()
    for n in range(2):
        await runner.emit(Event(data={"n": n}))
    waiting = [asyncio.create_task(runner.emit(Event(data={"n": n}))) for n in (2, 3)]
    await asyncio.sleep(1)
    report = await runner.stop(timeout=1)
    refused = await asyncio.gather(*waiting, return_exceptions=True)
    assert ["RunnerStateError"] * 2 == [type(error).__name__ for error in refused]
    assert (2, [0]) == (len(report.cancelled), gate.came)
    _assert_empty(runner)


async def test_stop_that_is_given_up_goes_on(make_runner: Make) -> None:
    """Cancelling who waits for `stop` does not undo it: the next call gets the report."""
    gate = Gate()
    runner = make_runner(SEQUENCE, {"a": gate})
    await runner.start()
    await runner.emit(Event())
    stopping = asyncio.create_task(runner.stop(timeout=5))
    await asyncio.sleep(1)
    stopping.cancel()
    report = await runner.stop()
    assert (5, 1) == (_now(), len(report.cancelled))


async def test_case_35_records_of_one_run(make_runner: Make) -> None:
    """An observer gets the records of a run in order; one that raises is logged and harms nobody."""
    records: list[Any] = []

    async def a(event: Event, state: State, ctx: Any) -> dict[str, int]:
        if ctx.attempt == 1:
            raise ValueError("no")
        return {"x": 1}

    runner = make_runner({**SEQUENCE, "retry_attempts": 1}, {"a": a})
    runner.observe(lambda record: 1 / 0)
    runner.observe(records.append)
    async with runner:
        result = await runner.run(Event(session_id="s"))
    assert ["WorkflowCreated", "StepStarted", "StepRetried", "StepStarted", "StepCompleted", "WorkflowCompleted"] == [
        record.type for record in records
    ]
    assert {result.run_id} == {record.run_id for record in records}
    assert ["s", "0.0", ("x",), "completed"] == [
        records[0].fact.session_id,
        records[1].fact.position,
        records[4].fact.keys,
        records[5].fact.status,
    ]
    assert all(record.to_dict()["run_id"] == result.run_id for record in records)


async def test_two_runners_are_independent(make_runner: Make) -> None:
    """Two runners in one process share nothing: agents, hooks, sessions and lifetimes are their own."""
    gate = Gate()

    async def other(event: Event, state: State) -> dict[str, str]:
        return {"by": "second"}

    seen: list[str] = []
    first, second = make_runner(SEQUENCE, {"a": gate}), make_runner({"mode": "collaborative"}, {"a": other})
    first.register_callback(Hook.ALL, "note", lambda args: seen.append(args.hook.name))
    async with first, second:
        held = await first.emit(Event(session_id="s"))
        assert {"by": "second"} == dict((await second.run(Event(session_id="s"))).state)
        await second.stop()
        assert not held.is_done
        assert ["BEFORE_EVENT_HANDLING", "BEFORE_AGENT_RUN"] == seen
        gate.opened.set()
        assert "completed" == (await held.result()).status


def test_case_01_configurations_are_checked(make_runner: Make) -> None:
    """Flows that could not run are refused when the runner is made, naming the key."""
    wrong = {
        "sequential_agents": {"mode": "sequential"},
        "loop_agent": {"mode": "loop"},
        "collaborative_agents": {"mode": "mixed"},
        "timeout_seconds": {**SEQUENCE, "timeout_seconds": 0},
        "max_iterations": {"mode": "loop", "loop_agent": "a", "max_iterations": 0},
        "sequental_agents": {"mode": "route", "sequental_agents": ["a"]},
    }
    for key, flow in wrong.items():
        with pytest.raises(ConfigError, match=key):
            Runner.from_dict({"orchestration": flow, "agents": {"a": {}}}, environ={})
    for flow in (SEQUENCE, {}, {"mode": "collaborate"}, {"mode": "loop", "loop_agent": "a"}):
        Runner.from_dict({"orchestration": flow, "agents": {"a": {}}}, environ={})


async def test_blocked_emit_begins_when_a_place_is_free(make_runner: Any) -> None:
    """An emit that waits in a full queue begins as soon as a run ends whose place nobody who waits can take."""
    gates = {name: asyncio.Event() for name in "ab"}

    async def hold(event: Event, state: State) -> None:
        gate = gates.get(event.data["name"])
        if gate is not None:
            await gate.wait()

    async with make_runner({}, {"hold": hold}, runner={"max_running": 2, "queue_size": 1, "queue_wait_seconds": 60}) as runner:

        async def emit(name: str, session: str | None) -> Any:
            return await runner.emit(Event("hold", {"name": name}, session_id=session))

        first = await emit("a", "s")
        await emit("next", "s")
        await emit("b", None)
        blocked = asyncio.create_task(emit("c", None))
        await asyncio.sleep(0)
        assert not blocked.done()
        gates["b"].set()
        handle = await asyncio.wait_for(blocked, 1)
        assert "completed" == (await handle.result()).status
        assert not first.is_done
        gates["a"].set()
