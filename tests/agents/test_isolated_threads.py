"""`isolation = "thread"`: handlers that never run on the runner's loop, async ones included."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agentflow import Event, Runner, State
from agentflow.agents import own_loop, threads

MakeRunner = Callable[..., Runner]

SEQUENCE = {"mode": "sequential", "sequential_agents": ["a"]}
THREAD = {"a": {"isolation": "thread"}}


def _runner(make_runner: MakeRunner, handler: Any, **sections: Any) -> Runner:
    return make_runner(SEQUENCE, {"a": handler}, agents=THREAD, **sections)


def _decorated(handler: Any) -> Any:
    def call(event: Event, state: State) -> Any:
        return handler(event, state)

    return call


@pytest.mark.parametrize("wrap", [lambda handler: handler, _decorated], ids=["async", "sync that returns a coroutine"])
def test_an_async_handler_that_blocks_holds_up_nobody(make_runner: MakeRunner, wrap: Any) -> None:
    """While a handler blocks its own thread, the loop of the runner goes on, and so do other runs of the same agent."""
    gates = [threading.Event(), threading.Event()]
    seen: set[int] = set()

    async def a(event: Event, state: State) -> Any:
        await asyncio.sleep(0)
        seen.add(threading.get_ident())
        number = event.data["number"]
        gates[number].set()
        assert gates[1 - number].wait(10)  # both are blocked at once
        return {"done": number}

    async def main() -> list[Any]:
        async with _runner(make_runner, wrap(a)) as runner:
            return await asyncio.gather(*(runner.run(Event("", {"number": number})) for number in (0, 1)))

    results = asyncio.run(main())
    assert [0, 1] == [result.state["done"] for result in results]
    assert 2 == len(seen - {threading.get_ident()})


@pytest.mark.parametrize("is_async", [True, False])
def test_a_handler_in_a_thread_sees_the_context_of_its_run(make_runner: MakeRunner, is_async: bool) -> None:
    """Context variables of the caller can be read in the thread."""
    variable = contextvars.ContextVar("variable", default="unset")

    async def a(event: Event, state: State) -> Any:
        return {"seen": variable.get()}

    def sync(event: Event, state: State) -> Any:
        return {"seen": variable.get()}

    async def main() -> Any:
        variable.set("set")
        async with _runner(make_runner, a if is_async else sync) as runner:
            return await runner.run(Event())

    assert "set" == asyncio.run(main()).state["seen"]


def test_a_sync_handler_may_run_a_loop_of_its_own(make_runner: MakeRunner) -> None:
    """A sync handler that calls asyncio.run does so in its thread, where no loop runs."""

    def a(event: Event, state: State) -> Any:
        return {"answer": asyncio.run(asyncio.sleep(0, 42))}

    async def main() -> Any:
        async with _runner(make_runner, a) as runner:
            return await runner.run(Event())

    assert 42 == asyncio.run(main()).state["answer"]


async def _cancelled(runner: Runner, begun: threading.Event) -> tuple[Any, Any]:
    async with runner:
        handle = await runner.emit(Event())
        await asyncio.to_thread(begun.wait, 10)
        handle.cancel()
        result = await handle.result()
        return result, await runner.stop()


def test_a_cancellation_reaches_an_async_handler_in_its_thread(make_runner: MakeRunner) -> None:
    """It raises CancelledError at the handler's next await; the step goes on when it has tidied up, and nothing is left behind."""
    begun, tidied = threading.Event(), threading.Event()

    async def a(event: Event, state: State) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            tidied.set()

    result, report = asyncio.run(_cancelled(_runner(make_runner, a), begun))
    assert ("cancelled", ()) == (result.status, result.flags)
    assert () == report.abandoned
    assert tidied.is_set()


@pytest.mark.parametrize("is_async", [True, False])
def test_a_handler_that_does_not_end_is_left_to_its_thread(make_runner: MakeRunner, is_async: bool) -> None:
    """A thread cannot be stopped: an async handler is left behind at its second cancellation, a sync one at the first."""
    begun, release = threading.Event(), threading.Event()

    async def a(event: Event, state: State) -> None:
        begun.set()
        while not release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    def sync(event: Event, state: State) -> None:
        begun.set()
        release.wait(10)

    grace = {"cancel_grace_seconds": 0.05 if is_async else 60}
    result, report = asyncio.run(_cancelled(_runner(make_runner, a if is_async else sync, runner=grace), begun))
    release.set()
    assert ("cancelled", ("abandoned",)) == (result.status, result.flags)
    assert ("a",) == report.abandoned


def test_a_handler_that_is_cancelled_before_a_thread_is_free_never_begins(make_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancellation that comes while the call waits for a thread holds when one is free."""
    monkeypatch.setattr(threads, "THREADS", 1)
    begun, release = threading.Event(), threading.Event()
    seen: list[str] = []

    async def a(event: Event, state: State) -> None:
        seen.append(event.data["who"])
        begun.set()
        release.wait(10)

    async def main() -> tuple[Any, Any]:
        async with _runner(make_runner, a) as runner:
            first = await runner.emit(Event("", {"who": "first"}))
            await asyncio.to_thread(begun.wait, 10)
            second = await runner.emit(Event("", {"who": "second"}))
            await asyncio.sleep(0.01)
            second.cancel()
            await asyncio.sleep(0.01)
            release.set()
            return await first.result(), await second.result()

    first, second = asyncio.run(main())
    assert ("completed", "cancelled") == (first.status, second.status)
    assert ["first"] == seen


def test_tasks_that_a_handler_leaves_end_with_its_loop(make_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that are left are cancelled with the handler's loop, and one that swallows that keeps nobody waiting for long."""
    monkeypatch.setattr(own_loop, "LEFT_OVER_S", 0.02)
    seen: list[str] = []
    kept: list[Any] = []

    async def swallow() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue

    async def obey() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("obeyed")

    async def a(event: Event, state: State) -> None:
        kept.extend((asyncio.create_task(obey()), asyncio.create_task(swallow())))
        await asyncio.sleep(0)

    async def main() -> Any:
        async with _runner(make_runner, a) as runner:
            return await runner.run(Event())

    assert "completed" == asyncio.run(main()).status
    assert ["obeyed"] == seen
    kept[1]._log_destroy_pending = False  # as it will be, with its loop closed


def test_a_call_whose_turn_never_came_begins_in_other_threads(make_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """When threads are set aside because of a stuck handler, the calls that waited for one of them are made all the same."""
    monkeypatch.setattr(threads, "THREADS", 1)
    begun, release = threading.Event(), threading.Event()

    def a(event: Event, state: State) -> Any:
        if event.data["stuck"]:
            begun.set()
            release.wait(10)
        return {"done": True}

    async def main() -> Any:
        async with _runner(make_runner, a) as runner:
            stuck = await runner.emit(Event("", {"stuck": True}))
            await asyncio.to_thread(begun.wait, 10)
            waiting = await runner.emit(Event("", {"stuck": False}))
            await asyncio.sleep(0.01)
            stuck.cancel()
            return await asyncio.wait_for(waiting.result(), 10)

    result = asyncio.run(main())
    release.set()
    assert "completed" == result.status
    assert result.state["done"]
