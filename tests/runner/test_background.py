"""`background = true` and `ctx.background`: work beside a run, for which nobody waits, and which nobody loses sight of."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentflow import Event, Hook
from agentflow.core.records import StepCompleted, StepStarted
from agentflow.errors import InvalidValueError, RunnerStateError
from tests.runner.conftest import MakeRunner

KEPT = pytest.mark.parametrize("kept", [{}, {"journal": {"url": "memory:"}}], ids=["unrecorded", "recorded"])
FLOW = {"mode": "sequential", "sequential_agents": ["a", "aside", "b"]}
ASIDE = {"aside": {"background": True}}


async def quick(event: Event, state: Any, ctx: Any) -> dict[str, Any]:
    """Set a key of the agent's name."""
    return {ctx.agent: True}


@KEPT
async def test_a_background_step_is_done_at_once(make_runner: MakeRunner, kept: dict[str, Any]) -> None:
    """The run does not wait for it and sees nothing of its patch; its own run has the state as it stood."""
    seen: list[Any] = []

    async def aside(event: Event, state: Any, ctx: Any) -> dict[str, Any]:
        seen.append((event.data, event.target, dict(state), dict(state.meta), ctx.session_id))
        await asyncio.sleep(50)
        return {"aside": True}

    async with make_runner(FLOW, {"a": quick, "aside": aside, "b": quick}, agents=ASIDE, **kept) as runner:
        handle = await runner.emit(Event("x", {"n": 1, "a": False}, {"who": "me"}, session_id="s"))
        result = await handle.result()
        assert ({"n": 1, "a": True, "b": True}, ["a", "aside", "b"]) == (result.state.to_dict()["data"], list(result.outputs))
        assert {} == result.outputs["aside"]
        next_one = await runner.run(Event("x", session_id="s"))  # the session does not wait for it either
        assert ("completed", True) == (next_one.status, asyncio.get_running_loop().time() < 10)
        tree = await handle.tree()
        assert [{"n": 1, "a": True, "b": True}, {"n": 1, "a": True, "aside": True}] == [
            one.state.to_dict()["data"] for one in tree.values()
        ]
    assert ({"n": 1, "a": True}, "aside", {"n": 1, "a": True}, {"who": "me"}, "s") == seen[0]


@KEPT
async def test_a_background_step_that_fails_is_seen_and_fails_nothing(
    make_runner: MakeRunner, kept: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run says so, and the log; retries and fallbacks are its own."""
    calls: list[str] = []

    async def fails(event: Event, state: Any, ctx: Any) -> None:
        calls.append(ctx.agent)
        raise OSError("no")

    agents = {"aside": {"background": True, "retry": {"max_retries": 1, "jitter": False}, "fallback": ["helper"]}}
    handlers = {"a": quick, "aside": fails, "helper": fails, "b": quick}
    async with make_runner(FLOW, handlers, agents=agents, **kept) as runner:
        said: list[Any] = []
        monkeypatch.setattr(runner._engine.teller, "_log", type("Log", (), {"warn": lambda self, *told: said.append(told[:2])})())  # type: ignore[union-attr]
        handle = await runner.emit(Event("x"))
        tree = await handle.tree()
        assert ["completed", "failed"] == [result.status for result in tree.values()]
        (fields,) = [told for event, told in said if event == "further_event_failed"]
        assert ([*tree][1], "aside") == (fields["run_id"], fields["target"])
    assert ["aside", "aside", "helper"] == calls[:3]


@KEPT
async def test_hooks_of_a_background_step_run_where_it_does(make_runner: MakeRunner, kept: dict[str, Any]) -> None:
    """Once, in its own run."""
    seen: list[tuple[str, str]] = []
    async with make_runner(FLOW, {"a": quick, "aside": quick, "b": quick}, agents=ASIDE, **kept) as runner:
        for hook in (Hook.BEFORE_AGENT_RUN, Hook.AFTER_AGENT_RUN):
            runner.register_callback(hook, "sees", lambda args: seen.append((args.hook.name[:5], args.agent)))
        await (await runner.emit(Event("x"))).tree()
    assert sorted([(when, name) for when in ("BEFOR", "AFTER") for name in ("a", "aside", "b")]) == sorted(seen)


async def test_the_journal_tells_of_a_background_step(make_runner: MakeRunner) -> None:
    """The step is started and completed, and names the run that does it."""
    async with make_runner(FLOW, {"a": quick, "aside": quick, "b": quick}, agents=ASIDE, journal={"url": "memory:"}) as runner:
        handle = await runner.emit(Event("x"))
        _, child = await handle.tree()
        facts = [record.fact for record in await runner.events(handle.run_id)]
        assert ["a", "aside", "b"] == [fact.agent for fact in facts if isinstance(fact, StepStarted)]
        assert [(), (child,), ()] == [fact.emitted for fact in facts if isinstance(fact, StepCompleted)]
        assert ("agent", handle.run_id) == ((await runner.get(child)).row.pattern, (await runner.get(child)).row.parent_id)


@KEPT
async def test_a_step_in_the_background_of_each_round_and_branch(make_runner: MakeRunner, kept: dict[str, Any]) -> None:
    """Each has a run of its own, and counts for max_events; what is over the bound fails its step."""
    flows = {"loop": {"mode": "loop", "loop_agent": "aside", "max_iterations": 3}}
    flow = {"mode": "collaborative", "collaborative_agents": ["loop", "aside", "a"], "max_events": 4}
    async with make_runner(flow, {"a": quick, "aside": quick}, agents=ASIDE, flows=flows, **kept) as runner:
        tree = await (await runner.emit(Event("x"))).tree()
        assert [0, 1, 2] == sorted(result.state["iteration"] for result in tree.values() if "iteration" in result.state)
        assert 5 == len(tree)
    async with make_runner({**flow, "max_events": 2}, {"a": quick, "aside": quick}, agents=ASIDE, flows=flows, **kept) as runner:
        handle = await runner.emit(Event("x"))
        tree = await handle.tree()
        assert 3 == len(tree)
        assert {"EventLimitError"} == {failure.type for failure in tree[handle.run_id].errors.values()}


async def test_an_approval_is_asked_once_for_what_goes_on_in_the_background(make_runner: MakeRunner) -> None:
    """Before the step, not by the run that does it."""
    agents = {"aside": {"background": True, "requires_approval": True}}
    async with make_runner(FLOW, {"a": quick, "aside": quick, "b": quick}, agents=agents) as runner:
        handle = await runner.emit(Event("x"))
        assert "paused" == await handle.wait()
        assert () == handle.children
        await handle.approve("aside")
        assert ["completed"] * 2 == [result.status for result in (await handle.tree()).values()]


async def test_observers_see_a_background_step_begin_and_end(make_runner: MakeRunner) -> None:
    """Without a journal, too."""
    seen: list[tuple[str, str]] = []
    async with make_runner(FLOW, {"a": quick, "aside": quick, "b": quick}, agents=ASIDE) as runner:
        runner.observe(lambda record: seen.append((record.type, record.run_id)))
        handle = await runner.emit(Event("x"))
        await handle.tree()
    own = [kind for kind, run_id in seen if run_id == handle.run_id and kind.startswith("Step")]
    assert ["StepStarted", "StepCompleted"] * 3 == own


# --- ctx.background ---


@pytest.mark.parametrize("isolation", ["task", "thread"])
@pytest.mark.parametrize("is_sync", [False, True])
def test_a_coroutine_goes_on_beside_the_run(make_runner: MakeRunner, isolation: str, is_sync: bool) -> None:
    """On the runner's loop, also when the handler ran elsewhere; a runner that stops waits for it."""
    ended: list[bool] = []

    async def main() -> None:
        home = asyncio.get_running_loop()

        async def later() -> None:
            await asyncio.sleep(0.01)
            ended.append(asyncio.get_running_loop() is home)

        def sync(event: Event, state: Any, ctx: Any) -> None:
            ctx.background(later())

        async def awaited(event: Event, state: Any, ctx: Any) -> None:
            ctx.background(later())

        async with make_runner({}, {"a": sync if is_sync else awaited}, agents={"a": {"isolation": isolation}}) as runner:
            assert "completed" == (await runner.run(Event("a"))).status

    asyncio.run(main())  # threads take real time
    assert [True] == ended


async def test_what_goes_on_at_the_stop_is_cancelled_when_its_time_is_over(make_runner: MakeRunner) -> None:
    """It has what is left of the drain, and is reported when it does not end all the same."""
    told: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            told.append("cancelled")

    async def deaf() -> None:
        for _ in range(3):
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                told.append("deaf")

    async def handler(event: Event, state: Any, ctx: Any) -> None:
        ctx.background(slow())
        ctx.background(deaf())

    runner = make_runner({}, {"a": handler}, runner={"drain_timeout_seconds": 5, "cancel_grace_seconds": 2})
    await runner.start()
    result = await runner.run(Event("a"))
    before = asyncio.get_running_loop().time()
    report = await runner.stop()
    assert 7 == pytest.approx(asyncio.get_running_loop().time() - before, abs=0.5)
    assert ["cancelled", "deaf"] == sorted(told)
    assert (f"background of a in {result.run_id}",) == report.abandoned
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
        task.cancel()
    await asyncio.sleep(2001)


async def test_a_failed_coroutine_is_logged_and_counted(make_runner: MakeRunner) -> None:
    """The run has ended by then, and ended well."""

    async def bad() -> None:
        raise OSError("no")

    async def handler(event: Event, state: Any, ctx: Any) -> None:
        ctx.background(bad())

    async with make_runner({}, {"a": handler}) as runner:
        assert "completed" == (await runner.run(Event("a"))).status
        await asyncio.sleep(0)
        assert 1 == runner._engine.teller.told["background_failed"]  # type: ignore[union-attr]


async def test_nothing_new_goes_on_once_the_runner_stops(make_runner: MakeRunner) -> None:
    """A handler that still runs is told so."""
    raised: list[type] = []

    async def never() -> None:
        """Never begun."""

    async def handler(event: Event, state: Any, ctx: Any) -> None:
        await asyncio.sleep(2)
        try:
            ctx.background(never())
        except RunnerStateError as error:
            raised.append(type(error))

    runner = make_runner({}, {"a": handler})
    await runner.start()
    await runner.emit(Event("a"))
    await asyncio.sleep(1)
    await runner.stop()
    assert [RunnerStateError] == raised


async def test_only_a_coroutine_goes_on(make_runner: MakeRunner) -> None:
    """A function that was not called, say, would do nothing."""

    async def handler(event: Event, state: Any, ctx: Any) -> None:
        with pytest.raises(InvalidValueError, match="function"):
            ctx.background(handler)

    async with make_runner({}, {"a": handler}) as runner:
        assert "completed" == (await runner.run(Event("a"))).status
