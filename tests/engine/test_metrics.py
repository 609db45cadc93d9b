"""What a runner counts: from when on, what of, and what it costs those who do not ask."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from time import time
from typing import Any

import pytest

from agentflow import Event, Runner, State
from agentflow.errors import RunnerStateError
from tests.engine.conftest import MakeRunner

MEMORY = {"journal": {"url": "memory:"}}


async def quick(event: Event, state: State) -> Mapping[str, Any]:
    """Answer at once."""
    return {"done": True}


async def failing(event: Event, state: State) -> None:
    """Fail."""
    raise ValueError("no")


def figures(runner: Runner) -> Any:
    """Return the metrics, as any JSON."""
    return json.loads(json.dumps(runner.metrics()))


async def test_without_a_journal_counting_begins_when_somebody_first_asks(make_runner: MakeRunner) -> None:
    """What came before is not counted, and `since` says so."""
    async with make_runner({}, {"a": quick}) as runner:
        await runner.run(Event("a"))
        first = figures(runner)
        assert (0, {}) == (first["events"]["accepted"], first["agents"])
        await runner.run(Event("a"))
        second = figures(runner)
    assert (1, 1, 1) == (second["events"]["accepted"], second["events"]["completed"], second["agents"]["a"]["calls"])
    assert first["since"] == second["since"] <= second["until"]


async def test_nobody_observes_a_runner_of_which_nobody_has_asked(make_runner: MakeRunner) -> None:
    """A look inside: while there are neither observers nor counting, no record is made, and a step takes the short way."""
    async with make_runner({}, {"a": quick}) as runner:
        engine = runner._engine
        assert engine is not None
        assert ([], None) == (engine.teller.observers, engine.teller.count)
        runner.metrics()
        runner.metrics()
        assert 1 == len(engine.teller.observers)


@pytest.mark.parametrize(
    ("sections", "counted"),
    [
        ({"telemetry": {"metrics": True}}, 1),
        ({"telemetry": {"capture_content": True}}, 0),
        (MEMORY, 1),
        (MEMORY | {"telemetry": {"metrics": True}}, 1),
        (MEMORY | {"telemetry": {"metrics": False}}, 0),
    ],
)
async def test_counting_begins_with_the_runner_where_runs_are_recorded_or_the_configuration_says_so(
    make_runner: MakeRunner, sections: Mapping[str, Any], counted: int
) -> None:
    """`metrics = true` asks for it, `false` lets even a recorded run go uncounted until somebody asks."""
    async with make_runner({}, {"a": quick}, **sections) as runner:
        await runner.run(Event("a"))
        assert counted == figures(runner)["events"]["completed"]
        await runner.run(Event("a"))
        assert counted + 1 == figures(runner)["events"]["completed"]


@pytest.mark.parametrize("sections", [{"telemetry": {"metrics": True}}, MEMORY])
async def test_events_are_counted_by_outcome_and_mode_and_calls_by_agent(make_runner: MakeRunner, sections: Mapping[str, Any]) -> None:
    """The same with a journal and without one: retries, failures, success rate and latency."""
    attempts = 0

    async def flaky(event: Event, state: State) -> None:
        nonlocal attempts
        attempts += 1
        await asyncio.sleep(2.0)
        if attempts == 1:
            raise ConnectionError("busy")

    retry = {"retry": {"max_retries": 1, "initial_delay_seconds": 4.0, "jitter": False}}
    flow = {"mode": "sequential", "sequential_agents": ["a", "b", "c"]}
    handlers = {"a": quick, "b": flaky, "c": failing}
    async with make_runner(flow, handlers, agents={"b": retry}, **sections) as runner:
        await runner.run(Event("x", {}))
        await runner.run(Event("x", metadata={"orchestration_override": "route", "route": "a"}))
        told = figures(runner)
    assert [2, 1, 1, 0] == [told["events"][name] for name in ("accepted", "completed", "failed", "cancelled")]
    assert 1 == told["patterns"]["sequential"]["failed"] == told["patterns"]["route"]["completed"]
    a, b, c = (told["agents"][name] for name in "abc")
    assert [(2, 2, 0, 0, 1.0), (2, 1, 0, 1, 1.0), (1, 0, 1, 0, 0.0)] == [
        (one["calls"], one["completed"], one["failed"], one["retries"], one["success_rate"]) for one in (a, b, c)
    ]
    assert (8.0, 8.0) == (b["latency_seconds"]["p99"], b["latency_seconds"]["max"])  # two attempts of 2 s, 4 s apart
    assert (2, 8.0) == (told["latency_seconds"]["count"], told["latency_seconds"]["max"])


async def test_what_is_open_now_is_told(make_runner: MakeRunner) -> None:
    """Runs that run, wait for their turn, or wait for a person."""
    release = asyncio.Event()

    async def wait(event: Event, state: State) -> None:
        await release.wait()

    handlers, agents = {"a": wait, "b": quick}, {"b": {"requires_approval": True}}
    async with make_runner({}, handlers, agents=agents) as runner:
        handles = [await runner.emit(Event("a", session_id="s")) for _ in range(3)]
        asked = await runner.emit(Event("b"))
        await asked.wait()
        told = figures(runner)
        assert {"open": 4, "running": 1, "paused": 1, "queued": 2} == told["runs"]
        assert 2 == told["queue_depth"]
        release.set()
        await asyncio.gather(*(handle.result() for handle in handles))
        await asked.approve("b")
        await asked.result()
        assert {"open": 0, "running": 0, "paused": 0, "queued": 0} == figures(runner)["runs"]


async def test_handlers_that_were_left_behind_and_their_late_results_are_counted(make_runner: MakeRunner) -> None:
    """They are listed while they still run; what only the log is told of is counted by name."""
    release = asyncio.Event()

    async def stubborn(event: Event, state: State) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async with make_runner({}, {"a": stubborn}, agents={"a": {"timeout_seconds": 1}}, telemetry={"metrics": True}) as runner:
        result = await runner.run(Event("a"))
        told = figures(runner)
        assert [f"a in {result.run_id}"] == told["abandoned_handlers"]
        assert 1 == told["agents"]["a"]["abandoned"]
        assert {"step_abandoned": 1} == told["warnings"]
        release.set()
        await asyncio.sleep(1)
        told = figures(runner)
    assert ([], {"late_result": 1, "step_abandoned": 1}) == (told["abandoned_handlers"], told["warnings"])


async def test_open_breakers_gates_and_pools_are_told(make_runner: MakeRunner) -> None:
    """A breaker that is open or lets probes through is named."""
    agents = {"a": {"circuit_breaker": {"failure_threshold": 1}}, "b": {"circuit_breaker": {}}}
    async with make_runner({}, {"a": failing, "b": quick}, agents=agents, workers={"b": {"count": 2}}) as runner:
        await runner.run(Event("a"))
        await runner.run(Event("b"))
        told = figures(runner)
    assert ["a"] == told["open_breakers"]
    assert ["open", "closed"] == [told["gates"][name]["breaker"]["state"] for name in "ab"]
    assert [("b", 1)] == [(pool["specialty"], pool["completed_tasks"]) for pool in told["workers"]]


async def test_parts_may_add_their_figures(make_runner: MakeRunner) -> None:
    """Each source of an engine's metrics adds its entries to every snapshot."""
    async with make_runner({}, {"a": quick}) as runner:
        assert runner._metrics is not None
        runner._metrics.sources.append(lambda: {"extra": 3})
        assert 3 == figures(runner)["extra"]


def test_a_run_that_was_taken_over_counts_from_its_acceptance(make_runner: MakeRunner, tmp_path: Path) -> None:
    """The process that ends it has seen only the last of it."""
    journal = {"url": f"sqlite:{tmp_path / 'journal.db'}", "durability": "relaxed"}
    first, later = (make_runner({}, {"a": quick}, agents={"a": {"requires_approval": True}}, journal=journal) for _ in range(2))

    async def go_on() -> Any:
        async with first:
            await (await first.emit(Event("a"))).wait()
        async with later:
            clock = later._adapters.clock
            (handle,) = await later.resume()
            clock.time = lambda: time() + 3600.0  # an hour later
            await handle.approve("a")
            await handle.result()
            return figures(later)

    told = asyncio.run(go_on())  # the virtual clock would jump over the deadline while a thread writes
    assert (1, 0) == (told["events"]["completed"], told["events"]["accepted"])
    assert told["latency_seconds"]["max"] == pytest.approx(3600.0, abs=30.0)
    assert 1 == told["patterns"]["route"]["completed"]


async def test_the_figures_can_be_had_after_the_runner_has_stopped_and_not_before_it_has_started(make_runner: MakeRunner) -> None:
    """The last look is often the one that counts."""
    runner = make_runner({}, {"a": quick}, telemetry={"metrics": True})
    with pytest.raises(RunnerStateError, match="has started"):
        runner.metrics()
    async with runner:
        await runner.run(Event("a"))
    assert 1 == figures(runner)["events"]["completed"]


async def test_the_budgets_of_open_runs_are_told_with_what_is_left(make_runner: MakeRunner) -> None:
    """A run without a budget is not listed."""
    release = asyncio.Event()

    async def wait(event: Event, state: State) -> None:
        await release.wait()

    async with make_runner({"budget": {"calls": 5}}, {"a": wait}) as runner:
        handle = await runner.emit(Event("a"))
        await asyncio.sleep(1)
        (told,) = figures(runner)["budgets"]
        release.set()
        await handle.result()
        assert [] == figures(runner)["budgets"]
    assert (handle.run_id, "", 4) == (told["run_id"], told["scope"], told["remaining"]["calls"])
