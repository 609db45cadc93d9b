"""`on_busy`: what an event does whose session has an open run, with a journal in memory and without any."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentflow import Event, Hook, HookArgs, Runner, State
from agentflow.core.records import Record
from agentflow.errors import EventLimitError, QueueFullError, SessionBusyError
from tests.runner.conftest import MakeRunner

JOURNALS = pytest.mark.parametrize("journal", [{}, {"journal": {"url": "memory:"}}], ids=["unrecorded", "recorded"])


def sequence(on_busy: str) -> dict[str, Any]:
    """Return a flow of one agent, `a`."""
    return {"mode": "sequential", "sequential_agents": ["a"], "on_busy": on_busy}


class Seen:
    """A handler that takes `data.s` seconds and notes when each event began and ended."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any, float]] = []

    async def __call__(self, event: Event, state: State) -> None:
        self._note("begins", event)
        try:
            await asyncio.sleep(event.data.get("s", 1))
        except asyncio.CancelledError:
            await asyncio.sleep(event.data.get("grace", 0))
            self._note("cancelled", event)
            raise
        self._note("ends", event)

    def _note(self, word: str, event: Event) -> None:
        self.told.append((word, event.data.get("n"), asyncio.get_running_loop().time()))


def event(n: int, session: str | None = "s", **rest: Any) -> Event:
    """Return an event of a session."""
    return Event(data={"n": n} | rest.pop("data", {}), session_id=session, **rest)


def assert_empty(runner: Runner) -> None:
    """Assert that a runner that was stopped keeps nothing of its sessions."""
    intake = runner._engine.intake  # type: ignore[union-attr] # it was started
    assert (0, 0, {}, 0, 0) == (intake._running, intake.waiting, intake._sessions, intake._promised, intake._kept)


# --- reject ---


@JOURNALS
async def test_reject_refuses_a_second_event_and_records_nothing(make_runner: MakeRunner, journal: Any) -> None:
    """The error says which run is open; no record is made, other sessions are not hit, and the next event is taken again."""
    seen, records = Seen(), list[Record]()
    runner = make_runner(sequence("reject"), {"a": seen}, **journal)
    runner.observe(records.append)
    async with runner:
        first = await runner.emit(event(1))
        known = len(records)
        for attempt in (runner.emit, runner.run):
            with pytest.raises(SessionBusyError, match=f"session 's' is busy: run {first.run_id} is open; emit again") as raised:
                await attempt(event(2))
            assert ("AF0514", True) == (raised.value.code, bool(raised.value.hint))
        assert known == len(records)
        beside = [await runner.emit(event(3, "t")), await runner.emit(event(4, None)), await runner.emit(event(5, None))]
        assert ["completed"] * 4 == [(await handle.result()).status for handle in (first, *beside)]
        assert "completed" == (await runner.run(event(6))).status
    assert 2 not in [n for _, n, _ in seen.told]
    assert_empty(runner)


async def test_reject_refuses_while_a_run_is_paused_or_still_ending(make_runner: MakeRunner) -> None:
    """A session is busy until the end of its run is recorded."""
    async with make_runner(sequence("reject"), {"a": Seen()}, journal={"url": "memory:"}) as runner:
        first = await runner.emit(event(1, data={"s": 9, "grace": 2}))
        await asyncio.sleep(1)
        await first.pause()
        with pytest.raises(SessionBusyError):
            await runner.emit(event(2))
        await first.cancel()
        await asyncio.sleep(1)
        with pytest.raises(SessionBusyError):
            await runner.emit(event(3))
        await first.result()
        assert "completed" == (await runner.run(event(4))).status


@pytest.mark.parametrize("on_busy", ["reject", "interrupt"])
async def test_the_same_event_emitted_again_changes_nothing(make_runner: MakeRunner, on_busy: str) -> None:
    """Whoever emits an event once more gets the run that it had, be that open or ended; nothing is rejected or interrupted."""
    async with make_runner(sequence(on_busy), {"a": Seen()}, journal={"url": "memory:"}) as runner:
        ended = await runner.emit(event(1, id="e1"))
        await ended.result()
        first, again = await asyncio.gather(runner.emit(event(2, id="e2")), runner.emit(event(2, id="e2")))
        assert {first.run_id} == {again.run_id, (await runner.emit(event(2, id="e2"))).run_id}
        assert ended.run_id == (await runner.emit(event(1, id="e1"))).run_id
        assert "completed" == (await first.result()).status
    assert_empty(runner)


# --- interrupt ---


@JOURNALS
async def test_interrupt_cancels_the_open_run_and_begins_after_its_last_record(make_runner: MakeRunner, journal: Any) -> None:
    """The event is accepted at once; what it has interrupted ends as `cancelled`, for the reason `interrupted`, before it begins."""
    seen, records = Seen(), list[Record]()
    runner = make_runner(sequence("interrupt"), {"a": seen}, **journal)
    runner.observe(records.append)
    async with runner:
        first = await runner.emit(event(1, data={"s": 9, "grace": 2}))
        await asyncio.sleep(1)
        second = await runner.emit(event(2))
        assert 1 == asyncio.get_running_loop().time()
        result = await first.result()
        assert ("cancelled", "interrupted") == (result.status, result.reason)
        assert "completed" == (await second.result()).status
    assert [("begins", 1, 0), ("cancelled", 1, 3), ("begins", 2, 3), ("ends", 2, 4)] == seen.told
    told = [(record.type, record.run_id) for record in records]
    assert told.index(("WorkflowCancelled", first.run_id)) < told.index(("StepStarted", second.run_id))
    assert_empty(runner)


@JOURNALS
async def test_the_newest_of_several_events_wins(make_runner: MakeRunner, journal: Any) -> None:
    """An interrupt cancels all that is open of its session, so what still waited for an earlier one never begins."""
    seen = Seen()
    async with make_runner(sequence("interrupt"), {"a": seen}, **journal) as runner:
        handles = []
        for n in range(5):
            handles.append(await runner.emit(event(n, data={"s": 9 if n < 4 else 1, "grace": 2})))
            await asyncio.sleep(0.1)
        results = [await handle.result() for handle in handles]
    assert [("cancelled", "interrupted")] * 4 + [("completed", "completed")] == [(result.status, result.reason) for result in results]
    assert {0, 4} == {n for _, n, _ in seen.told}
    assert_empty(runner)


async def test_interrupt_cancels_a_paused_run(make_runner: MakeRunner) -> None:
    """A run that somebody has paused, or that waits for a person, holds nothing up."""
    seen, agents = Seen(), {"q": {"requires_approval": True}}
    flow = {"mode": "sequential", "sequential_agents": ["a", "q"], "on_busy": "interrupt"}
    async with make_runner(flow, {"a": seen, "q": Seen()}, agents=agents, journal={"url": "memory:"}) as runner:
        paused = await runner.emit(event(1))
        await paused.pause("lunch")
        await asyncio.sleep(2)
        waiting = await runner.emit(event(2))
        assert "paused" == await waiting.wait()
        last = await runner.emit(event(3))
        assert "paused" == await last.wait()
        for handle in (paused, waiting):
            assert ("cancelled", "interrupted") == ((await handle.result()).status, (await handle.result()).reason)
    assert [("begins", 1), ("ends", 1), ("begins", 2), ("ends", 2), ("begins", 3), ("ends", 3)] == [told[:2] for told in seen.told]


async def test_an_event_for_which_there_is_no_room_interrupts_nothing(make_runner: MakeRunner) -> None:
    """QueueFullError leaves the session as it was; what the interrupt itself would set free counts as room."""
    bounds = {"max_running": 1, "queue_size": 1}
    async with make_runner(sequence("interrupt"), {"a": Seen()}, runner=bounds) as runner:
        first = await runner.emit(event(1, data={"s": 5}))
        await runner.emit(event(2, "t"))
        with pytest.raises(QueueFullError):
            await runner.emit(event(3))
        assert "completed" == (await first.result()).status
    async with make_runner(sequence("interrupt"), {"a": Seen()}, runner=bounds) as runner:
        handles = [await runner.emit(event(n, data={"s": 5, "grace": 1})) for n in range(3)]
        assert ["cancelled", "cancelled", "completed"] == [(await handle.result()).status for handle in handles]
    assert_empty(runner)


# --- parallel ---


@JOURNALS
async def test_parallel_runs_of_a_session_beside_each_other(make_runner: MakeRunner, journal: Any) -> None:
    """None waits, also not for one that is paused; the handlers still know their session."""
    seen: list[Any] = []

    async def a(event: Event, state: State, ctx: Any) -> None:
        seen.append((event.session_id, ctx.session_id))
        await asyncio.sleep(1)

    flow = sequence("parallel") | {"sequential_agents": ["a", "b"]}
    async with make_runner(flow, {"a": a, "b": a}, **journal) as runner:
        if journal:
            paused = await runner.emit(event(0))
            await paused.pause()
        handles = [await runner.emit(event(n)) for n in range(3)]
        assert ["completed"] * 3 == [(await handle.result()).status for handle in handles]
        assert 2 == asyncio.get_running_loop().time()
        if journal:
            assert ("paused", {}) == (await paused.wait(), await runner.blocked())
    assert {("s", "s")} == set(seen)
    assert_empty(runner)


# --- whatever it is ---


@pytest.mark.parametrize("on_busy", ["queue", "reject", "interrupt", "parallel"])
async def test_thousand_sessions_progress_at_once(make_runner: MakeRunner, on_busy: str) -> None:
    """No session waits for another one, and within one session no two runs overlap, unless that is asked for."""
    open_now: dict[Any, int] = {}
    most = dict.fromkeys(("session", "all"), 0)

    async def a(event: Event, state: State) -> None:
        open_now[event.session_id] = open_now.get(event.session_id, 0) + 1
        most["session"] = max(most["session"], open_now[event.session_id])
        most["all"] = max(most["all"], sum(map(bool, open_now.values())) if event.data["n"] > 900 else 0)
        try:
            await asyncio.sleep(1)
        finally:
            open_now[event.session_id] -= 1

    rejected = 0
    async with make_runner(sequence(on_busy), {"a": a}, runner={"queue_size": 2000}) as runner:
        for _ in range(2):
            for n in range(1000):
                try:
                    await runner.emit(event(n, f"s{n}"))
                except SessionBusyError:
                    rejected += 1
            await asyncio.sleep(0)
        await runner.stop()
        took_s = asyncio.get_running_loop().time()
    assert (1000, 2 if on_busy == "parallel" else 1) == (most["all"], most["session"])
    assert ({"queue": 2}.get(on_busy, 1), {"reject": 1000}.get(on_busy, 0)) == (took_s, rejected)
    assert_empty(runner)


# --- what callbacks emit for the session of their own run ---


@JOURNALS
@pytest.mark.parametrize("on_busy", ["queue", "reject", "interrupt", "parallel"])
@pytest.mark.parametrize("hook", [Hook.BEFORE_EVENT_HANDLING, Hook.AFTER_AGENT_RUN, Hook.AFTER_EVENT_HANDLING])
async def test_a_child_does_not_wait_for_its_parent(make_runner: MakeRunner, journal: Any, on_busy: str, hook: Hook) -> None:
    """A callback may wait for the result of what it emits for its own session; neither is rejected or interrupted for it."""
    seen = Seen()
    runner = make_runner(sequence(on_busy), {"a": seen}, **journal)
    children: list[str] = []

    @runner.on(hook)
    async def beget(args: HookArgs) -> None:
        if args.event.data["n"] < 3:  # also a child of the child
            handle = await args.runner.emit(event(args.event.data["n"] + 1))
            children.append((await handle.result()).status)

    async with runner:
        assert "completed" == (await runner.run(event(1))).status
        assert 3 == asyncio.get_running_loop().time()
    assert ["completed"] * 2 == children
    assert_empty(runner)


async def test_a_callback_may_run_an_event_as_well(make_runner: MakeRunner) -> None:
    """`args.runner.run` is `emit` and waiting, and as bounded: a callback that answers each event with another one comes to an end."""
    seen, refused = Seen(), list[str]()
    runner = make_runner(sequence("queue"), {"a": seen})

    @runner.on(Hook.AFTER_AGENT_RUN)
    async def beget(args: HookArgs) -> None:
        try:
            assert "completed" == (await args.runner.run(event(args.event.data["n"] + 1))).status
        except EventLimitError as error:
            refused.append(error.message)

    async with runner:
        assert "completed" == (await runner.run(event(0))).status
    assert (101, ["one event has brought forth 100 others"]) == (len(seen.told) // 2, refused)
    assert_empty(runner)


async def test_a_child_is_part_of_the_turn_of_its_parent(make_runner: MakeRunner) -> None:
    """It goes before what waits for the session, and that waits until both have ended, whichever is the last to do so."""
    for child_s in (0.5, 5):
        seen = Seen()
        runner = make_runner(sequence("queue"), {"a": seen})

        @runner.on(Hook.BEFORE_AGENT_RUN)
        async def beget(args: HookArgs, child_s: float = child_s) -> None:
            if args.event.data["n"] == 1:
                await args.runner.emit(event(11, data={"s": child_s}))
                await args.runner.emit(event(12, data={"s": child_s}))

        async with runner:
            began = asyncio.get_running_loop().time()
            handles = [await runner.emit(event(n)) for n in (1, 2, 3)]
            for handle in handles:
                assert "completed" == (await handle.result()).status
        first = max(1, child_s)
        assert {2: first, 3: first + 1} == {n: when - began for word, n, when in seen.told if word == "begins" and n in (2, 3)}
        assert {11, 12} == {n for word, n, when in seen.told if word == "begins" and when == began and n != 1}
        assert_empty(runner)


async def test_a_child_of_another_session_waits_for_that_one(make_runner: MakeRunner) -> None:
    """Only what its own ancestors have is open to it."""
    seen = Seen()
    runner = make_runner(sequence("queue"), {"a": seen})

    @runner.on(Hook.AFTER_AGENT_RUN)
    async def beget(args: HookArgs) -> None:
        if args.event.data["n"] == 1:
            await args.runner.emit(event(2, "t"))

    async with runner:
        await runner.emit(event(9, "t", data={"s": 7}))
        await runner.run(event(1))
    assert ("begins", 2, 7) in seen.told


async def test_an_interrupt_hits_the_children_of_what_it_interrupts(make_runner: MakeRunner) -> None:
    """They are open runs of the session too."""
    runner = make_runner(sequence("interrupt"), {"a": Seen()})
    children: list[Any] = []

    @runner.on(Hook.BEFORE_AGENT_RUN)
    async def beget(args: HookArgs) -> None:
        if args.event.data["n"] == 1:
            children.append(await args.runner.emit(event(2, data={"s": 9})))

    async with runner:
        first = await runner.emit(event(1, data={"s": 9}))
        await asyncio.sleep(1)
        assert "completed" == (await runner.run(event(3))).status
        assert ["cancelled"] * 2 == [(await handle.result()).status for handle in (first, *children)]
    assert_empty(runner)
