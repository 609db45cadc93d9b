"""The trace that an event names goes on to what its callbacks emit, with and without anything that traces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from agentflow import Event, Hook, HookArgs, RunResult, State
from agentflow.errors import InvalidEventError, InvalidValueError
from tests.runner.conftest import MakeRunner

ABOVE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-11111111111111111111111111111111-2222222222222222-00"


async def quick(event: Event, state: State) -> None:
    """Do nothing."""


async def emitted(make_runner: MakeRunner, metadata: Mapping[str, str] | None, child: Any, hook: Hook = Hook.AFTER_AGENT_RUN) -> Event:
    """Run an event for which a callback emits `child`, and return what the child's agent was given."""
    runner = make_runner({}, {"a": quick, "b": quick})
    seen: list[Event] = []

    @runner.on(hook)
    async def emit(args: HookArgs) -> None:
        if args.event.target == "a":
            seen.append(args.event)
            handle = await args.runner.emit(child)
            result = await handle.result()
            assert isinstance(result, RunResult)
            seen.append(result._walk.event)

    async with runner:
        await runner.run(Event("a", metadata=metadata))
    return seen[-1]


@pytest.mark.parametrize("hook", [Hook.BEFORE_EVENT_HANDLING, Hook.BEFORE_AGENT_RUN, Hook.AFTER_AGENT_RUN, Hook.AFTER_EVENT_HANDLING])
async def test_what_a_callback_emits_carries_the_trace_of_its_event(make_runner: MakeRunner, hook: Hook) -> None:
    """`traceparent` and `tracestate` alone: what else stands in the metadata is the parent's own."""
    metadata = {"traceparent": ABOVE, "tracestate": "vendor=1", "other": "x"}
    child = await emitted(make_runner, metadata, Event("b", {"n": 1}, {"own": "y"}, session_id="s", id="child"), hook)
    assert {"own": "y", "traceparent": ABOVE, "tracestate": "vendor=1"} == child.metadata
    assert ("child", "s", {"n": 1}, "b") == (child.id, child.session_id, child.data, child.target)


async def test_an_event_with_a_trace_of_its_own_keeps_it(make_runner: MakeRunner) -> None:
    """Whoever emits knows better."""
    child = await emitted(make_runner, {"traceparent": ABOVE, "tracestate": "vendor=1"}, Event("b", metadata={"traceparent": OTHER}))
    assert {"traceparent": OTHER} == child.metadata


async def test_an_event_without_a_trace_begets_events_without_one(make_runner: MakeRunner) -> None:
    """Nothing is invented."""
    assert {} == (await emitted(make_runner, None, Event("b"))).metadata


async def test_what_was_changed_in_the_child_before_it_was_emitted_is_kept(make_runner: MakeRunner) -> None:
    """Its data and metadata may still be written to until then."""
    event = Event("b", {"n": 1})
    event.data["n"] = 2
    event.metadata["own"] = "y"
    child = await emitted(make_runner, {"traceparent": ABOVE}, event)
    assert ({"n": 2}, {"own": "y", "traceparent": ABOVE}) == (child.data, child.metadata)


@pytest.mark.parametrize("wrong", [None, {"target": "b"}, Event("b", metadata=3), Event("b", metadata={"n": 3})])  # type: ignore[arg-type, dict-item]
async def test_what_is_no_event_is_refused_as_it_is_elsewhere(make_runner: MakeRunner, wrong: Any) -> None:
    """The trace makes no difference."""
    runner = make_runner({}, {"a": quick})
    raised: list[BaseException] = []

    @runner.on(Hook.BEFORE_EVENT_HANDLING)
    async def emit(args: HookArgs) -> None:
        try:
            await args.runner.emit(wrong)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
            raised.append(error)

    async with runner:
        await runner.run(Event("a", metadata={"traceparent": ABOVE}))
        with pytest.raises((InvalidEventError, InvalidValueError)) as elsewhere:
            await runner.emit(wrong)
    assert [(type(elsewhere.value), str(elsewhere.value))] == [(type(error), str(error)) for error in raised]


async def test_an_event_emitted_again_under_another_trace_is_the_same_event(make_runner: MakeRunner) -> None:
    """Its id and what it says decide: a client that tries again does so in a new span."""
    async with make_runner({}, {"a": quick}, journal={"url": "memory:"}) as runner:
        first = await runner.emit(Event("a", {"n": 1}, {"traceparent": ABOVE}, id="once"))
        again = await runner.emit(Event("a", {"n": 1}, {"traceparent": OTHER, "tracestate": "v=1"}, id="once"))
        assert first.run_id == again.run_id
