"""Python functions as agents: which are taken, where they run, what they may return and raise."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from enum import IntEnum
from types import MappingProxyType
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from agentflow import AgentResult, Event, Runner, State
from agentflow.errors import RegistrationError, RunnerStateError
from agentflow.testing import run_virtual

SEQUENCE = {"mode": "sequential", "sequential_agents": ["a"]}
Make = Callable[..., Runner]


async def _run(make_runner: Make, handler: Any, event: Event | None = None, **flow: Any) -> Any:
    async with make_runner({**SEQUENCE, **flow}, {"a": handler}) as runner:
        return await runner.run(event or Event())


# --- what they raise ---


class UnprintableError(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class EndlessTextError(Exception):
    """An exception whose text never ends."""

    def __str__(self) -> str:
        return str(self)


ERRORS: list[Callable[[], BaseException]] = [
    lambda: SystemExit(3),
    KeyboardInterrupt,
    GeneratorExit,
    RecursionError,
    MemoryError,
    lambda: StopIteration(7),
    lambda: StopAsyncIteration(7),
    asyncio.CancelledError,
    TimeoutError,
    UnprintableError,
    EndlessTextError,
    lambda: ValueError("lone \ud800 surrogate"),
    lambda: ExceptionGroup("several", [ValueError("one"), KeyError("two")]),
    lambda: BaseExceptionGroup("several", [KeyboardInterrupt()]),
    lambda: type("Coded", (Exception,), {"code": "c-7"})("coded"),
    lambda: type("BadlyCoded", (Exception,), {"code": property(lambda self: 1 / 0)})("coded"),
]


@pytest.mark.parametrize("is_sync", [False, True])
@pytest.mark.parametrize("make_error", ERRORS, ids=range(len(ERRORS)))
def test_whatever_a_handler_raises_fails_its_step_only(make_runner: Make, make_error: Callable[[], BaseException], is_sync: bool) -> None:
    """A handler that raises anything at all fails its own step; the result can be shown and written as JSON, and others go on."""
    error = make_error()

    def sync_bad(event: Event, state: State) -> None:
        raise error

    async def bad(event: Event, state: State) -> None:
        raise error

    async def good(event: Event, state: State) -> None:
        await asyncio.sleep(1)

    async def main() -> tuple[Any, Any]:
        runner = make_runner({"mode": "route"}, {"bad": sync_bad if is_sync else bad, "good": good})
        async with runner:
            return await asyncio.gather(runner.run(Event("bad")), runner.run(Event("good")))

    failed, fine = run_virtual(main(), patience_s=0.05)
    assert "completed" == fine.status
    assert "timed_out" != failed.status
    assert ("failed", "error", "bad", "0#1.0") == (failed.status, failed.reason, failed.error.agent, failed.error.position)
    text = json.dumps(failed.to_dict(), ensure_ascii=False, allow_nan=False)
    assert text.encode()
    assert str(failed.error).encode()
    if not isinstance(error, StopIteration):
        assert type(error).__name__ == failed.error.type
        assert failed.error.exception is error


async def test_endless_recursion_fails_the_step_only(make_runner: Make) -> None:
    """A handler that really runs out of stack fails its step, and the engine goes on."""

    async def a(event: Event, state: State) -> int:
        def deeper() -> int:
            return deeper() + 1

        return deeper()

    assert "RecursionError" == (await _run(make_runner, a)).error.type
    assert "completed" == (await _run(make_runner, _optional)).status


async def test_handler_that_awaits_its_own_task(make_runner: Make) -> None:
    """Awaiting the own task is the error that asyncio makes of it."""

    async def a(event: Event, state: State) -> None:
        await asyncio.current_task()  # type: ignore[misc]

    result = await _run(make_runner, a)
    assert ("failed", "RuntimeError") == (result.status, result.error.type)


# --- where they run ---


def test_sync_handlers_run_off_the_loop(make_runner: Make) -> None:
    """Sync handlers run in threads, many at once, while the loop goes on; context variables reach them."""
    threads: set[int] = set()
    together = threading.Barrier(8, timeout=5)

    def a(event: Event, state: State, ctx: Any) -> dict[str, int]:
        threads.add(threading.get_ident())
        together.wait()
        return {"attempt": ctx.attempt}

    async def main() -> list[Any]:
        async with make_runner(SEQUENCE, {"a": a}) as runner:
            return await asyncio.gather(*(runner.run(Event()) for _ in range(8)))

    results = run_virtual(main(), patience_s=0.5)
    assert [{"attempt": 1}] * 8 == [dict(result.state) for result in results]
    assert 8 == len(threads)
    assert threading.get_ident() not in threads


def test_stuck_threads_do_not_starve_the_others(make_runner: Make) -> None:
    """Threads that are given up are told at stop, and do not keep later sync handlers from running."""
    gate = threading.Event()

    def stuck(event: Event, state: State) -> None:
        gate.wait(5)

    async def main() -> Any:
        runner = make_runner(
            {"mode": "route"}, {"stuck": stuck, "fine": lambda event, state: {"fine": 1}}, agents={"stuck": {"timeout_seconds": 1}}
        )
        await runner.start()
        late = await asyncio.gather(*(runner.run(Event("stuck")) for _ in range(80)))
        assert {"timed_out"} == {result.status for result in late}
        assert {"fine": 1} == dict((await runner.run(Event("fine"))).state)
        report = await runner.stop()
        gate.set()
        return report

    report = run_virtual(main(), patience_s=0.01)
    assert {"stuck"} == set(report.abandoned)
    assert not report.is_clean


def test_sync_handler_that_hands_its_coroutine_over_too_late(make_runner: Make) -> None:
    """A coroutine that a given-up sync handler returns is closed, not left "never awaited"."""
    gate = threading.Event()
    done = threading.Event()

    async def work() -> None: ...

    def a(event: Event, state: State) -> Any:
        gate.wait(5)
        return work()

    async def main() -> None:
        runner = make_runner({**SEQUENCE, "timeout_seconds": 1}, {"a": a})
        async with runner:
            assert "timed_out" == (await runner.run(Event())).status
            (future,) = runner._adapters.threads.stuck
            future.add_done_callback(lambda _: done.set())
            gate.set()
            assert done.wait(5)

    run_virtual(main())


class Greeter:
    """Handlers as methods and callable objects."""

    async def __call__(self, event: Event, state: State) -> dict[str, str]:
        return {"by": "object"}

    async def method(self, event: Event, state: State, ctx: Any) -> dict[str, str]:
        return {"by": ctx.agent}

    def sync_method(self, event: Event, state: State) -> dict[str, str]:
        return {"by": "sync method"}

    @staticmethod
    async def static(event: Event, state: State) -> dict[str, str]:
        return {"by": "static"}

    @classmethod
    async def of_class(cls, event: Event, state: State) -> dict[str, str]:
        return {"by": "class"}


async def _three(prefix: str, event: Event, state: State) -> dict[str, str]:
    return {"by": prefix}


async def _optional(event: Event, state: State, ctx: Any = None) -> dict[str, str]:
    return {"by": "no ctx" if ctx is None else "ctx"}


async def _star(*arguments: Any) -> dict[str, int]:
    return {"by": len(arguments)}


HANDLERS: list[tuple[Any, Any]] = [
    (Greeter(), "object"),
    (Greeter().method, "a"),
    (Greeter().sync_method, "sync method"),
    (Greeter.static, "static"),
    (Greeter.of_class, "class"),
    (functools.partial(_three, "partial"), "partial"),
    (functools.partial(functools.partial(_three), "twice"), "twice"),
    (lambda event, state: _three("lambda", event, state), "lambda"),
    (lambda event, state: {"by": "sync lambda"}, "sync lambda"),
    (_optional, "ctx"),
    (_star, 2),
    (AsyncMock(return_value={"by": "async mock"}), "async mock"),
    (Mock(return_value={"by": "mock"}), "mock"),
]


@pytest.mark.parametrize(("handler", "expected"), HANDLERS, ids=range(len(HANDLERS)))
def test_callables_of_each_kind(make_runner: Make, handler: Any, expected: Any) -> None:
    """Functions, methods, partials, callable objects and mocks are handlers alike, with a third parameter if they take one."""
    result = run_virtual(_run(make_runner, handler), patience_s=0.5)
    assert {"by": expected} == dict(result.state), result.error


# --- what is refused ---


async def _one(event: Event) -> None: ...
async def _four(event: Event, state: State, ctx: Any, more: Any) -> None: ...
async def _keyword(event: Event, state: State, *, needed: Any) -> None: ...
async def _async_generator(event: Event, state: State) -> Any:
    yield 1


def _generator(event: Event, state: State) -> Any:
    yield 1


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (None, "is None, not a function"),
        (7, "is 7, not a function"),
        (Greeter, "not a function"),
        (_one, "does not take (event, state)"),
        (_four, "does not take (event, state)"),
        (_keyword, "does not take (event, state)"),
        (lambda: None, "does not take (event, state)"),
        (_generator, "is a generator"),
        (_async_generator, "is a generator"),
    ],
)
def test_case_09_handlers_that_could_not_work_are_refused(make_runner: Make, handler: Any, told: str) -> None:
    """What cannot be called as a handler is refused at registration, naming the agent and the right form."""
    runner = make_runner({"mode": "route"}, {"x": _optional})
    with pytest.raises(RegistrationError) as caught:
        runner.register_agent("analyzer", handler)
    assert told in str(caught.value)
    assert "analyzer" in str(caught.value)
    assert "right: async def analyzer(event, state)" in str(caught.value)


def test_refusal_shows_both_lines(make_runner: Make) -> None:
    """Wrong parameters are shown above the right ones."""
    with pytest.raises(RegistrationError) as caught:
        make_runner(SEQUENCE, {"a": _one})
    lines = str(caught.value).splitlines()
    assert "  wrong: def _one(event: 'Event')" in lines[1]
    assert "  right: async def a(event, state): ..." in lines[2]


@pytest.mark.parametrize("name", ["", None, 7, "flow"])
def test_bad_names_are_refused(make_runner: Make, name: Any) -> None:
    """An agent's name is a non-empty string that is no flow's."""
    runner = make_runner(SEQUENCE, {"a": _optional}, flows={"flow": SEQUENCE})
    with pytest.raises(RegistrationError):
        runner.register_agent(name, _optional)


async def test_case_09_registering_twice(make_runner: Make) -> None:
    """A second handler for an agent is refused, unless `replace` says so; after the start nothing is registered."""
    runner = make_runner(SEQUENCE, {"a": _optional})
    with pytest.raises(RegistrationError, match="has a handler already"):
        runner.register_agent("a", _star)
    with pytest.raises(RegistrationError, match=r'@runner.agent\("name"\)'):
        runner.agent(_star)  # type: ignore[arg-type]
    runner.register_agent("a", _star, replace=True)
    async with runner:
        assert {"by": 2} == dict((await runner.run(Event())).state)
        with pytest.raises(RunnerStateError, match="after start"):
            runner.register_agent("b", _star)


# --- what they return ---


class Level(IntEnum):
    """A number with a name."""

    HIGH = 3


def _returned_clone(event: Event, state: State) -> State:
    twin = state.clone()
    twin["x"] = 1
    state["lost"] = 1
    return twin


def _changed_and_returned(event: Event, state: State) -> State:
    state["x"] = 1
    return state


def _left(event: Event, state: State) -> None:
    state["x"] = 1
    del state["old"]


RETURNS: list[tuple[Any, dict[str, Any]]] = [
    (lambda event, state: None, {"old": 0}),
    (_left, {"x": 1}),
    (_changed_and_returned, {"old": 0, "x": 1}),
    (_returned_clone, {"old": 0, "x": 1}),
    (lambda event, state: State({"x": 1}), {"x": 1}),
    (lambda event, state: State(), {}),
    (lambda event, state: {"x": 1}, {"old": 0, "x": 1}),
    (lambda event, state: {}, {"old": 0}),
    (lambda event, state: {"old": None}, {"old": None}),
    (lambda event, state: MappingProxyType({"x": 1}), {"old": 0, "x": 1}),
    (lambda event, state: OrderedDict(x=[1]), {"old": 0, "x": [1]}),
    (lambda event, state: {"x": Level.HIGH}, {"old": 0, "x": 3}),
    (lambda event, state: AgentResult(), {"old": 0}),
    (lambda event, state: AgentResult({"x": 1}), {"old": 0, "x": 1}),
    (lambda event, state: AgentResult(State({"x": 1})), {"x": 1}),
]


@pytest.mark.parametrize(("handler", "expected"), RETURNS, ids=range(len(RETURNS)))
async def test_answers_of_each_kind(make_runner: Make, handler: Any, expected: dict[str, Any]) -> None:
    """A State is the new state, a mapping is set on it, None leaves it as the handler did."""

    async def a(event: Event, state: State) -> Any:
        return handler(event, state)

    result = await _run(make_runner, a, Event(data={"old": 0}))
    assert ("completed", expected) == (result.status, dict(result.state))


async def test_agent_result_with_each_field(make_runner: Make) -> None:
    """An AgentResult carries state, usage and metadata beside the route."""

    async def a(event: Event, state: State) -> AgentResult:
        return AgentResult({"x": 1}, usage={"tokens": 3, "cost_usd": 0.25}, metadata={"m": "1"})

    result = await _run(make_runner, a)
    assert ({"x": 1}, "1", 3, 0.25) == (dict(result.state), result.state.meta["m"], result.usage.total_tokens, result.usage.cost_usd)


@pytest.mark.parametrize(
    ("make_answer", "code"),
    [
        (lambda: 7, "AF0303"),
        (lambda: "text", "AF0303"),
        (lambda: ["list"], "AF0303"),
        (lambda: AgentResult("text"), "AF0303"),  # type: ignore[arg-type]
        (lambda: AgentResult(route=7), "AF0303"),  # type: ignore[arg-type]
        (lambda: AgentResult(usage={"tockens": 7}), "AF0303"),
        (lambda: AgentResult(usage={"tokens": -1}), "AF0301"),
        (lambda: AgentResult(metadata={"m": 1}), "AF0301"),  # type: ignore[dict-item]
        (lambda: {"x": {1, 2}}, "AF0301"),
        (lambda: {"x": 2**70}, "AF0301"),
    ],
)
async def test_wrong_answers_fail_the_step(make_runner: Make, make_answer: Callable[[], Any], code: str) -> None:
    """An answer of the wrong kind fails the step with its code, is not tried again, and leaves the state alone."""
    calls: list[int] = []

    async def a(event: Event, state: State) -> Any:
        calls.append(1)
        state["touched"] = 1
        return make_answer()

    result = await _run(make_runner, a, retry_attempts=3)
    assert ("failed", code, [1], {}) == (result.status, result.error.code, calls, dict(result.state))


async def test_change_in_place_is_recorded(make_runner: Make) -> None:
    """A list or a dict of the state that is changed in place is part of what the step did."""

    async def a(event: Event, state: State) -> None:
        state["list"].append(2)
        state["deep"]["x"]["y"].append(1)
        state["read"]["only"]

    result = await _run(make_runner, a, Event(data={"list": [1], "deep": {"x": {"y": []}}, "read": {"only": []}}))
    assert {"list": [1, 2], "deep": {"x": {"y": [1]}}} == result.outputs["a"]


async def test_equal_values_are_no_change(make_runner: Make) -> None:
    """What is set to the value it had is no part of the step's patch."""

    async def a(event: Event, state: State) -> dict[str, Any]:
        return {"x": 1, "y": [1], "z": 1.0}

    result = await _run(make_runner, a, Event(data={"x": 1, "y": [1], "z": 1}))
    assert {"z": 1.0} == result.outputs["a"]


async def test_state_kept_by_a_handler_reaches_nobody(make_runner: Make) -> None:
    """What a handler keeps of event and state and changes after it returned is nobody's."""
    kept: list[Any] = []

    async def a(event: Event, state: State) -> dict[str, Any]:
        mine = [1]
        kept.extend([event.data["list"], state["list"], mine, state])
        return {"mine": mine}

    async def b(event: Event, state: State) -> None:
        for each in kept[:3]:
            each.append("late")
        kept[3]["late"] = 1
        assert ([1], [1], [1]) == (event.data["list"], state["list"], state["mine"])

    async with make_runner({"mode": "sequential", "sequential_agents": ["a", "b"]}, {"a": a, "b": b}) as runner:
        result = await runner.run(Event(data={"list": [1]}))
    assert ("completed", {"list": [1], "mine": [1]}) == (result.status, dict(result.state)), result.error


def test_slow_sync_handler_does_not_hold_the_loop(make_runner: Make) -> None:
    """While a sync handler sleeps, async ones run to their end."""
    order: list[str] = []

    def slow(event: Event, state: State) -> None:
        time.sleep(0.03)
        order.append("slow")

    async def quick(event: Event, state: State) -> None:
        order.append("quick")

    async def main() -> None:
        runner = make_runner({"mode": "collaborative", "collaborative_agents": ["slow", "quick"]}, {"slow": slow, "quick": quick})
        async with runner:
            await runner.run(Event())

    run_virtual(main(), patience_s=0.5)
    assert ["quick", "slow"] == order
