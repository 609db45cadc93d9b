"""Faults around the handlers: user code in odd places, logs that cannot be written, calls that come back to the runner."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentflow import Event, Hook, Runner, State

SEQUENCE = {"mode": "sequential", "sequential_agents": ["a"]}
Make = Callable[..., Runner]


async def _nothing(event: Event, state: State) -> None: ...


@pytest.mark.parametrize("error", ["ValueError", "RecursionError", "StopIteration"])
async def test_merge_function_that_raises(tmp_path: Path, error: str) -> None:
    """A merge function that raises fails its own run; the runner goes on."""
    (tmp_path / "policies.py").write_text(f"import asyncio\n\ndef broken(before, values):\n    raise {error}\n")
    (tmp_path / "agentflow.toml").write_text(
        '[orchestration]\nmode = "collaborative"\nmerge = { k = "policies:broken" }\n[agents.a]\n[agents.b]\n'
    )
    runner = Runner.from_config(tmp_path / "agentflow.toml", environ={})

    async def write(event: Event, state: State) -> dict[str, int] | None:
        return {"k": 1} if event.data else None

    for name in "ab":
        runner.register_agent(name, write)
    async with runner:
        assert "failed" == (await runner.run(Event(data={"x": 1}))).status
        assert "completed" == (await runner.run(Event())).status
        assert not runner._engine.runs  # type: ignore[union-attr]


@pytest.mark.parametrize("error", [ValueError, SystemExit, asyncio.CancelledError, KeyboardInterrupt])
async def test_observer_may_raise_anything(make_runner: Make, error: type[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    """An observer that raises is logged, record by record, and the runs go on."""

    def observer(record: Any) -> None:
        raise error(f"about {record.type}")

    runner = make_runner(SEQUENCE, {"a": _nothing})
    runner.observe(observer)
    async with runner:
        assert "completed" == (await runner.run(Event())).status
    assert "about StepCompleted" in capsys.readouterr().err


class BrokenStream:
    """A standard error that nobody reads any more."""

    def write(self, text: str) -> int:
        raise BrokenPipeError("nobody reads")

    def flush(self) -> None:
        raise BrokenPipeError("nobody reads")

    def isatty(self) -> bool:
        return False


async def test_log_that_cannot_be_written(make_runner: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that raises takes no run with it: not at a hook's failure, not at a late result, not at an abandoned step."""
    release = asyncio.Event()

    async def a(event: Event, state: State) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    runner = make_runner(SEQUENCE, {"a": a}, agents={"a": {"timeout_seconds": 1}})
    runner.register_callback(Hook.AFTER_EVENT_HANDLING, "broken", lambda args: 1 / 0)
    runner.observe(lambda record: 1 / 0)
    monkeypatch.setattr(sys, "stderr", BrokenStream())
    async with runner:
        result = await runner.run(Event())
        release.set()
        await asyncio.sleep(1)
    assert ("timed_out", ("abandoned",)) == (result.status, result.flags)


async def test_handler_that_stops_its_runner(make_runner: Make) -> None:
    """A handler that awaits `stop` of its own runner is cancelled with the rest when the time is up, and nothing hangs."""

    async def a(event: Event, state: State) -> None:
        await runner.stop(timeout=2)

    runner = make_runner(SEQUENCE, {"a": a})
    await runner.start()
    handle = await runner.emit(Event())
    result = await handle.result()
    assert ("cancelled", "stopped", 2) == (result.status, result.reason, asyncio.get_running_loop().time())
    assert (handle.run_id,) == (await runner.stop()).cancelled


async def test_handler_that_runs_further_events(make_runner: Make) -> None:
    """A handler may emit and await events of its own."""

    async def a(event: Event, state: State) -> dict[str, Any]:
        if event.data["depth"] == 0:
            return {"deepest": True}
        inner = await runner.run(Event(data={"depth": event.data["depth"] - 1}))
        return dict(inner.state) | {"depth": event.data["depth"]}

    runner = make_runner(SEQUENCE, {"a": a})
    async with runner:
        assert {"depth": 50, "deepest": True} == dict((await runner.run(Event(data={"depth": 50}))).state)


async def test_cancel_without_words(make_runner: Make) -> None:
    """A cancel with an empty reason is a cancel all the same."""

    async def a(event: Event, state: State) -> None:
        await asyncio.sleep(99)

    async with make_runner(SEQUENCE, {"a": a}) as runner:
        handle = await runner.emit(Event())
        await asyncio.sleep(1)
        handle.cancel("")
        result = await handle.result()
    assert ("cancelled", "cancelled") == (result.status, result.reason)


async def test_case_48_condition_that_has_no_answer(make_runner: Make) -> None:
    """A loop whose condition cannot be answered fails after the round, with the condition's error."""

    async def a(event: Event, state: State) -> dict[str, str]:
        return {"score": "high"}

    async with make_runner({"mode": "loop", "loop_agent": "a", "until": "state.score > 1"}, {"a": a}) as runner:
        result = await runner.run(Event())
    assert ("failed", "error", "AF0210", {"score": "high"}) == (result.status, result.reason, result.error.code, dict(result.state))


async def test_strict_merge_fails_the_run(make_runner: Make) -> None:
    """Under `strict` different values for one key fail the run, naming key and agents."""

    async def write(event: Event, state: State, ctx: Any) -> dict[str, str]:
        return {"k": ctx.agent}

    async with make_runner({"mode": "collaborative", "merge": "strict"}, {"a": write, "b": write}) as runner:
        result = await runner.run(Event())
    assert ("failed", "AF0304") == (result.status, result.error.code)
    assert "key `k` was written by a, b" in result.error.message


async def test_context_variables_of_a_line_of_steps(make_runner: Make) -> None:
    """What a handler sets in a context variable is seen by the next in its line, and by no other run."""
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable", default="")

    async def a(event: Event, state: State) -> None:
        variable.set(event.data["x"])

    async def b(event: Event, state: State) -> dict[str, str]:
        return {"seen": variable.get()}

    async with make_runner({"mode": "sequential", "sequential_agents": ["a", "b"]}, {"a": a, "b": b}) as runner:
        results = await asyncio.gather(*(runner.run(Event(data={"x": x})) for x in "pq"))
    assert ["p", "q"] == [result.state["seen"] for result in results]
    assert "" == variable.get()
