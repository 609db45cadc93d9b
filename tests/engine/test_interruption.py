"""Interruptions that meet: two deadlines at once, answers that come late, limits inside limits, ends in the same tick."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from agentflow import Event, Hook, Runner, State
from agentflow.testing import run_virtual, virtual_loop

SEQUENCE = {"mode": "sequential", "sequential_agents": ["a"]}


async def _stubborn(release: asyncio.Event) -> None:
    """Wait for the release, whatever comes."""
    while not release.is_set():
        try:
            await release.wait()
        except asyncio.CancelledError:
            continue


def _assert_empty(runner: Runner) -> None:
    engine = runner._engine
    assert engine is not None
    assert not engine.runs
    assert not any(engine.deadlines._queues.values())
    assert (0, 0, {}) == (engine.intake._running, engine.intake.waiting, engine.intake._sessions)


@pytest.mark.parametrize("manner", ["obeys", "ends late", "never ends"])
async def test_step_and_event_due_at_the_same_time(make_runner: Any, manner: str) -> None:
    """When step and event are due at the same instant, the run ends once, with one timeout."""
    release = asyncio.Event()

    async def a(event: Event, state: State) -> None:
        try:
            await asyncio.sleep(99)
        finally:
            if manner == "ends late":
                await asyncio.sleep(2)
            elif manner == "never ends":
                await _stubborn(release)

    runner = make_runner({**SEQUENCE, "timeout_seconds": 1}, {"a": a}, agents={"a": {"timeout_seconds": 1}})
    records: list[Any] = []
    runner.observe(records.append)
    await runner.start()
    result = await runner.run(Event())
    ended = asyncio.get_running_loop().time()
    assert ("timed_out", "timeout") == (result.status, result.reason)
    assert {"obeys": 1, "ends late": 3, "never ends": 16}[manner] == pytest.approx(ended)
    release.set()
    await asyncio.sleep(100)
    assert 1 == sum(record.type in ("WorkflowCompleted", "WorkflowFailed", "WorkflowCancelled") for record in records)
    await runner.stop()
    _assert_empty(runner)


@pytest.mark.parametrize("with_hooks", [False, True])
@pytest.mark.parametrize("late", ["mapping", "state", "error"])
@pytest.mark.parametrize("second", ["answers", "fails"])
async def test_late_attempt_does_not_reach_the_next_one(make_runner: Any, with_hooks: bool, late: str, second: str) -> None:
    """What an abandoned attempt answers while the next one runs reaches neither its state nor its outcome."""
    release = asyncio.Event()

    async def a(event: Event, state: State, ctx: Any) -> Any:
        if ctx.attempt == 1:
            await _stubborn(release)
            if late == "error":
                raise ValueError("late")
            state["late"] = 1
            return state if late == "state" else {"late": 2}
        await asyncio.sleep(0.2)
        release.set()
        await asyncio.sleep(0.2)
        if second == "fails":
            raise KeyError("second")
        return {"second": ctx.attempt}

    retry = {"max_retries": 1, "jitter": False}
    runner = make_runner(SEQUENCE, {"a": a}, agents={"a": {"timeout_seconds": 1, "retry": retry}})
    if with_hooks:
        runner.register_callback(Hook.AFTER_AGENT_RUN, "nothing", lambda args: None)
    async with runner:
        result = await runner.run(Event())
    assert ({"second": 2} if second == "answers" else {}) == dict(result.state)
    assert ("completed" if second == "answers" else "failed") == result.status
    if second == "fails":
        assert ("KeyError", 2) == (result.error.type, result.error.attempts)


@pytest.mark.parametrize(
    "hook", [Hook.BEFORE_EVENT_HANDLING, Hook.BEFORE_AGENT_RUN, Hook.AGENT_ERROR, Hook.AFTER_AGENT_RUN, Hook.AFTER_EVENT_HANDLING]
)
async def test_abandoned_callback_changes_nothing_later(make_runner: Any, hook: Hook) -> None:
    """A callback that was left behind neither changes the run when it ends at last, nor do those after it run then."""
    release = asyncio.Event()
    called: list[str] = []

    async def a(event: Event, state: State) -> None:
        if hook is Hook.AGENT_ERROR:
            raise ValueError("no")

    async def stubborn(args: Any) -> State:
        await _stubborn(release)
        args.state["late"] = 1
        return args.state

    runner = make_runner(SEQUENCE, {"a": a}, agents={"a": {"timeout_seconds": 1}})
    runner.register_callback(hook, "stubborn", stubborn)
    runner.register_callback(hook, "second", lambda args: called.append("second"))
    async with runner:
        result = await runner.run(Event())
        before = result.to_dict()
        assert ("abandoned",) == result.flags
        release.set()
        await asyncio.sleep(1)
        assert before == result.to_dict()
        assert {} == dict(result.state)
        assert [] == called
        succeeds = hook in (Hook.AFTER_AGENT_RUN, Hook.AFTER_EVENT_HANDLING)
        assert ("completed" if succeeds else "failed" if hook is Hook.AGENT_ERROR else "timed_out") == result.status


async def test_abandoned_handler_uses_nothing_more(make_runner: Any) -> None:
    """What an abandoned handler records as used after the end of its run is not in the result, and its context still answers."""
    release = asyncio.Event()
    seen: list[Any] = []

    async def a(event: Event, state: State, ctx: Any) -> None:
        ctx.record_usage(tokens=1)
        await _stubborn(release)
        ctx.record_usage(tokens=100)
        seen.append((ctx.agent, ctx.attempt, ctx.outputs, ctx.config["role"]))

    runner = make_runner(SEQUENCE, {"a": a}, agents={"a": {"timeout_seconds": 1}})
    async with runner:
        result = await runner.run(Event())
        release.set()
        await asyncio.sleep(1)
    assert 1 == result.usage.total_tokens
    assert [("a", 1, {}, "")] == seen


async def test_late_answer_while_the_next_step_runs(make_runner: Any) -> None:
    """An attempt that is left behind and ends during a later step changes nothing of that step, of its event or of its state."""
    release, ended = asyncio.Event(), asyncio.Event()

    async def a(event: Event, state: State, ctx: Any) -> Any:
        if ctx.attempt == 1:
            await _stubborn(release)
            event.data["late"] = state["late"] = 1
            ended.set()
            return {"late": 2}
        return {"a": ctx.attempt}

    async def b(event: Event, state: State) -> dict[str, Any]:
        release.set()
        await ended.wait()
        await asyncio.sleep(1)
        return {"b": dict(event.data), "seen": sorted(state)}

    runner = make_runner(
        {"mode": "sequential", "sequential_agents": ["a", "b"]},
        {"a": a, "b": b},
        agents={"a": {"timeout_seconds": 1, "retry": {"max_retries": 1}}},
    )
    async with runner:
        result = await runner.run(Event(data={"x": 1}))
    assert {"x": 1, "a": 2, "b": {"x": 1}, "seen": ["a", "x"]} == dict(result.state)


async def test_outer_flow_due_while_the_inner_one_is_closing(make_runner: Any) -> None:
    """Limits of nested flows that pass while a handler still ends: the outer flow's stands, and nothing below it starts again."""
    started: list[str] = []

    async def slow(event: Event, state: State) -> None:
        started.append("slow")
        try:
            await asyncio.sleep(99)
        finally:
            await asyncio.sleep(3)

    async def never(event: Event, state: State) -> None:
        started.append("never")

    for outer_s, inner_s in ((1, 2), (2, 1)):
        started.clear()
        flows = {
            "outer": {
                "mode": "collaborative",
                "collaborative_agents": ["inner", "never"],
                "timeout_seconds": outer_s,
                "max_concurrency": 1,
            },
            "inner": {"mode": "sequential", "sequential_agents": ["slow", "never"], "timeout_seconds": inner_s},
        }
        runner = make_runner({"mode": "sequential", "sequential_agents": ["outer", "never"]}, {"slow": slow, "never": never}, flows=flows)
        async with runner:
            result = await runner.run(Event())
        assert ("timed_out", "flow `outer` did not end within") == (result.status, result.error.message[:31])
        assert ["slow"] == started
        _assert_empty(runner)


async def test_nested_flow_limit_ends_the_flow_only(make_runner: Any) -> None:
    """A nested flow that takes too long fails as one branch of its parent; the parent goes on."""

    async def slow(event: Event, state: State) -> None:
        await asyncio.sleep(99)

    async def quick(event: Event, state: State) -> dict[str, int]:
        return {"quick": 1}

    flows = {"inner": {"mode": "sequential", "sequential_agents": ["quick", "slow"], "timeout_seconds": 1}}
    flow = {"mode": "collaborative", "collaborative_agents": ["inner", "quick"]}
    async with make_runner(flow, {"slow": slow, "quick": quick}, flows=flows) as runner:
        result = await runner.run(Event())
    assert ("partial", {"quick": 1}) == (result.status, dict(result.state))
    assert "EventTimeoutError" == result.errors["inner"].type
    assert 1 == asyncio.get_running_loop().time()


@pytest.mark.parametrize("hook", list(Hook)[:2])
async def test_stop_does_not_wait_for_a_hanging_event_callback(make_runner: Any, hook: Hook) -> None:
    """A callback of an event hook that hangs holds `stop` up for the grace at most."""
    release = asyncio.Event()

    async def a(event: Event, state: State) -> None:
        return None

    async def stubborn(args: Any) -> None:
        await _stubborn(release)

    runner = make_runner(SEQUENCE, {"a": a})
    runner.register_callback(hook, "stubborn", stubborn)
    await runner.start()
    handle = await runner.emit(Event())
    await asyncio.sleep(1)
    report = await runner.stop(timeout=1)
    assert asyncio.get_running_loop().time() <= 2 + 2 * 16
    assert (handle.run_id,) == report.cancelled
    assert 1 == len(report.abandoned)
    assert (await handle.result()).flags == ("abandoned",)
    release.set()
    await asyncio.sleep(1)
    _assert_empty(runner)


async def test_stop_does_not_wait_for_callbacks_of_what_it_cancels(make_runner: Any) -> None:
    """The callbacks that run after a run which `stop` cancelled have the grace for their time, not the usual limit."""

    async def a(event: Event, state: State) -> None:
        await asyncio.sleep(999)

    async def hang(args: Any) -> None:
        await asyncio.sleep(999)

    runner = make_runner(SEQUENCE, {"a": a})
    runner.register_callback(Hook.AFTER_EVENT_HANDLING, "hang", hang)
    await runner.start()
    handle = await runner.emit(Event())
    await runner.stop(timeout=1)
    assert ("cancelled", 11) == ((await handle.result()).status, asyncio.get_running_loop().time())
    _assert_empty(runner)


@pytest.mark.parametrize("hook", [None, Hook.BEFORE_EVENT_HANDLING, Hook.AFTER_EVENT_HANDLING, Hook.BEFORE_AGENT_RUN])
async def test_cancel_in_the_tick_of_the_emit(make_runner: Any, hook: Hook | None) -> None:
    """A run cancelled before any of it ran ends at once, with nothing abandoned, and its handler never runs."""
    called: list[str] = []

    async def a(event: Event, state: State) -> None:
        called.append("a")

    runner = make_runner(SEQUENCE, {"a": a})
    if hook is not None:
        runner.register_callback(hook, "note", lambda args: None)
    async with runner:
        handle = await runner.emit(Event())
        handle.cancel("changed my mind")
        result = await handle.result()
    assert ("cancelled", "changed my mind", ()) == (result.status, result.reason, result.flags)
    assert 0 == asyncio.get_running_loop().time()
    assert [] == called
    _assert_empty(runner)


async def test_cancel_in_the_tick_after_a_timeout(make_runner: Any) -> None:
    """A cancel that meets the fresh task of a step that timed out ends the run at once."""

    async def a(event: Event, state: State) -> None:
        await asyncio.sleep(99)

    runner = make_runner(SEQUENCE, {"a": a}, agents={"a": {"timeout_seconds": 1, "retry": {"max_retries": 3}}})
    async with runner:
        handle = await runner.emit(Event())
        engine = runner._engine
        respawn = engine.spawn

        def respawn_and_cancel(*arguments: Any) -> None:
            respawn(*arguments)
            handle.cancel()

        engine.spawn = respawn_and_cancel
        result = await handle.result()
    assert ("cancelled", ()) == (result.status, result.flags)
    assert 1 == asyncio.get_running_loop().time()


async def test_cancel_during_a_retry_wait(make_runner: Any) -> None:
    """A run that waits for its next attempt is cancelled at once, and makes no further one."""
    attempts: list[int] = []

    async def a(event: Event, state: State, ctx: Any) -> None:
        attempts.append(ctx.attempt)
        raise ValueError("no")

    runner = make_runner({**SEQUENCE, "retry": {"max_retries": 5, "initial_delay_seconds": 20}}, {"a": a})
    async with runner:
        handle = await runner.emit(Event())
        await asyncio.sleep(5)
        handle.cancel()
        result = await handle.result()
    assert ("cancelled", [1]) == (result.status, attempts)
    assert 5 == asyncio.get_running_loop().time()


async def test_handler_cancels_its_own_run(make_runner: Any) -> None:
    """A handler that cancels its own run and returns has its answer refused."""
    handles: list[Any] = []

    async def a(event: Event, state: State) -> dict[str, int]:
        await asyncio.sleep(1)
        handles[0].cancel()
        return {"x": 1}

    async with make_runner(SEQUENCE, {"a": a}) as runner:
        handles.append(await runner.emit(Event()))
        result = await handles[0].result()
    assert ("cancelled", {}) == (result.status, dict(result.state))


async def test_completed_parts_stay_when_a_run_is_cut(make_runner: Any) -> None:
    """A run that times out keeps what its finished steps and branches set."""

    async def quick(event: Event, state: State) -> dict[str, int]:
        return {"quick": 1}

    async def branch(event: Event, state: State) -> dict[str, int]:
        return {"branch": 1}

    async def slow(event: Event, state: State) -> None:
        await asyncio.sleep(99)

    flows = {"both": {"mode": "collaborative", "collaborative_agents": ["branch", "slow"]}}
    flow = {"mode": "sequential", "sequential_agents": ["quick", "both"], "timeout_seconds": 2}
    async with make_runner(flow, {"quick": quick, "branch": branch, "slow": slow}, flows=flows) as runner:
        result = await runner.run(Event())
    assert ("timed_out", {"quick": 1, "branch": 1}) == (result.status, dict(result.state))


async def test_limit_reaches_handlers_that_never_wait(make_runner: Any) -> None:
    """A loop whose handler never awaits anything lets other runs go on, and can be cancelled."""
    seen: list[int] = []

    async def busy(event: Event, state: State) -> None:
        seen.append(state["iteration"])

    async def other(event: Event, state: State) -> None:
        seen.append(-1)

    flows = {"quick": {"mode": "sequential", "sequential_agents": ["other"]}}
    flow = {"mode": "loop", "loop_agent": "busy", "max_iterations": 20_000}
    async with make_runner(flow, {"busy": busy, "other": other}, flows=flows) as runner:
        handle = await runner.emit(Event())
        await runner.run(Event(metadata={"orchestration_override": "quick"}))
        handle.cancel()
        result = await handle.result()
    assert "cancelled" == result.status
    assert len(seen) < 10_000


class _LeavingError(Exception):
    """Leaves the program in the middle of a run."""


@pytest.mark.parametrize("with_hooks", [False, True])
def test_loop_that_shuts_down_in_the_middle(make_runner: Any, with_hooks: bool) -> None:
    """A loop that is shut down while runs are open ends at once: the runs are cancelled with their handlers, without noise."""
    calls: list[str] = []
    handles: list[Any] = []
    times: list[float] = []

    async def a(event: Event, state: State) -> None:
        calls.append("a")
        try:
            await asyncio.sleep(50)
        finally:
            times.append(asyncio.get_running_loop().time())

    async def b(event: Event, state: State) -> None:
        calls.append("b")

    async def main() -> None:
        runner = make_runner({"mode": "sequential", "sequential_agents": ["a", "b"]}, {"a": a, "b": b})
        if with_hooks:
            runner.register_callback(Hook.BEFORE_AGENT_RUN, "note", lambda args: None)
        await runner.start()
        handles.extend([await runner.emit(Event()) for _ in range(3)])
        await asyncio.sleep(1)
        raise _LeavingError

    with pytest.raises(_LeavingError):
        run_virtual(main())
    assert ["a", "a", "a"] == calls
    assert [1.0, 1.0, 1.0] == times
    assert all(handle.is_done for handle in handles)


@pytest.mark.parametrize("hook", [None, Hook.BEFORE_EVENT_HANDLING, Hook.BEFORE_AGENT_RUN, Hook.AGENT_ERROR, Hook.AFTER_AGENT_RUN])
def test_loop_that_is_closed_under_open_runs(make_runner: Any, hook: Hook | None) -> None:
    """Coroutines that are thrown away with their loop end silently, in a handler as in a callback."""

    async def a(event: Event, state: State) -> None:
        if hook is None:
            await asyncio.sleep(50)
        if hook is Hook.AGENT_ERROR:
            raise ValueError("no")

    async def slow(args: Any) -> None:
        await asyncio.sleep(50)

    async def main() -> None:
        runner = make_runner(SEQUENCE, {"a": a})
        if hook is not None:
            runner.register_callback(hook, "slow", slow)
            runner.register_callback(hook, "second", slow)
        await runner.start()
        await runner.emit(Event())
        await asyncio.sleep(1)

    loop = virtual_loop()
    told: list[str] = []
    loop.run_until_complete(main())
    loop.set_exception_handler(lambda _, context: told.append(context["message"]))
    loop.close()
    del loop
    gc.collect()
    assert {"Task was destroyed but it is pending!"} >= set(told)


async def test_parallel_steps_are_cut_together(make_runner: Any) -> None:
    """A cancel waits for the slowest branch to end, and only then is the run over."""
    ended: list[str] = []

    def branch(name: str, takes: float) -> Any:
        async def handler(event: Event, state: State) -> None:
            try:
                await asyncio.sleep(99)
            finally:
                await asyncio.sleep(takes)
                ended.append(name)

        return handler

    flow = {"mode": "collaborative", "collaborative_agents": ["a", "b", "c"], "max_concurrency": 2}
    async with make_runner(flow, {"a": branch("a", 3), "b": branch("b", 1), "c": branch("c", 0)}) as runner:
        handle = await runner.emit(Event())
        await asyncio.sleep(1)
        handle.cancel()
        result = await handle.result()
    assert ("cancelled", ["b", "a"], 4) == (result.status, ended, asyncio.get_running_loop().time())
