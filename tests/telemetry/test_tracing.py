"""Spans of runs and steps: what is below what, what they say, and what they never say unless they are asked to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from agentflow import Event, Hook, HookArgs, Runner, State
from agentflow.executors.local import LocalExecutor
from tests.telemetry.conftest import MakeRunner, Spans

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ABOVE = f"00-{TRACE}-{PARENT}-01"
SECRETS = {"question": "the-question", "agentflow": "canary"}


async def quick(event: Event, state: State) -> Mapping[str, Any]:
    """Answer at once."""
    return {"answer": "the-answer"}


async def failing(event: Event, state: State) -> None:
    """Fail, quoting what it was given."""
    raise ValueError(f"cannot answer {event.data}")


def told(span: ReadableSpan) -> dict[str, Any]:
    """Return a span's attributes."""
    return dict(span.attributes or {})


def trace_of(span: ReadableSpan) -> str:
    """Return the id of a span's trace."""
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


async def test_a_run_has_a_span_and_each_step_has_one_below_it(make_runner: MakeRunner, spans: Spans) -> None:
    """With the run's and the step's ids, so that traces, records and log lines can be told to be of the same thing."""
    flow = {"mode": "sequential", "sequential_agents": ["a", "b"]}
    async with make_runner(flow, {"a": quick, "b": quick}) as runner:
        result = await runner.run(Event("x", session_id="s"))
    run = spans.one("run sequential")
    assert ["step a", "step b"] == spans.below(run)
    assert (result.run_id, "s", "completed", "sequential") == tuple(
        told(run)[f"agentflow.{name}"] for name in ("run_id", "session_id", "status", "pattern")
    )
    step = told(spans.one("step b"))
    assert (result.run_id, "0.1", "b", 1) == tuple(step[f"agentflow.{name}"] for name in ("run_id", "position", "agent", "attempts"))
    assert StatusCode.UNSET == run.status.status_code


async def test_the_trace_that_an_event_names_is_the_run_s(make_runner: MakeRunner, spans: Spans) -> None:
    """W3C `traceparent` in the metadata is the run's parent, and its `tracestate` goes on."""
    async with make_runner({}, {"a": quick}) as runner:
        await runner.run(Event("a", metadata={"traceparent": ABOVE, "tracestate": "vendor=1"}))
    run = spans.one("run route")
    assert run.parent is not None
    assert (TRACE, PARENT) == (trace_of(run), f"{run.parent.span_id:016x}")
    assert run.context is not None
    assert "1" == run.context.trace_state.get("vendor")
    assert TRACE == trace_of(spans.one("step a"))


@pytest.mark.parametrize("wrong", ["", "nonsense", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01", "00-" + "x" * 3000])
async def test_a_traceparent_that_is_none_begins_a_trace_of_its_own(make_runner: MakeRunner, spans: Spans, wrong: str) -> None:
    """As W3C asks: what is malformed is as good as absent, and no event is refused for it."""
    async with make_runner({}, {"a": quick}) as runner:
        assert "completed" == (await runner.run(Event("a", metadata={"traceparent": wrong}))).status
    assert None is spans.one("run route").parent


async def test_without_one_the_span_in_which_the_event_is_emitted_is_the_parent(make_runner: MakeRunner, spans: Spans) -> None:
    """Also when the run has to wait for its turn, and another task begins it."""
    release = asyncio.Event()

    async def wait(event: Event, state: State) -> None:
        await release.wait()

    tracer = trace.get_tracer("test")
    async with make_runner({}, {"a": wait}) as runner:
        with tracer.start_as_current_span("first request"):
            first = await runner.emit(Event("a", session_id="s"))
        with tracer.start_as_current_span("second request"):
            second = await runner.emit(Event("a", session_id="s"))
        release.set()
        await first.result()
        await second.result()
    for handle, request in ((first, "first request"), (second, "second request")):
        assert ["run route"] == spans.below(spans.one(request))
        (run,) = [span for span in spans.all if told(span).get("agentflow.run_id") == handle.run_id and span.name == "run route"]
        assert trace_of(run) == trace_of(spans.one(request))


@pytest.mark.parametrize("mode", ["collaborative", "sequential"])
async def test_what_a_handler_traces_is_below_its_step(make_runner: MakeRunner, spans: Spans, mode: str) -> None:
    """For each of several branches its own; a sync handler in its thread, too."""
    tracer = trace.get_tracer("test")

    async def slow(event: Event, state: State) -> None:
        await asyncio.sleep(1)
        with tracer.start_as_current_span("inner a"):
            await asyncio.sleep(1)

    def threaded(event: Event, state: State) -> None:
        with tracer.start_as_current_span("inner b"):
            pass

    flow = {"mode": mode, f"{mode}_agents": ["a", "b"]}
    async with make_runner(flow, {"a": slow, "b": threaded}) as runner:
        assert "completed" == (await runner.run(Event("x"))).status
        assert not trace.get_current_span().get_span_context().is_valid  # nothing is left behind in the caller's own task
    assert ["inner a"] == spans.below(spans.one("step a"))
    assert ["inner b"] == spans.below(spans.one("step b"))


async def test_a_nested_flow_is_in_the_same_trace(make_runner: MakeRunner, spans: Spans) -> None:
    """A flow as an agent begins no trace of its own."""
    flow, inner = {"mode": "sequential", "sequential_agents": ["a", "inner"]}, {"mode": "sequential", "sequential_agents": ["b"]}
    async with make_runner(flow, {"a": quick, "b": quick}, flows={"inner": inner}) as runner:
        await runner.run(Event("x"))
    assert 1 == len({trace_of(span) for span in spans.all})
    assert "0.1.0" == told(spans.one("step b"))["agentflow.position"]


async def test_the_attempts_of_a_step_are_one_span_with_an_event_for_each_retry(make_runner: MakeRunner, spans: Spans) -> None:
    """The waits between them are part of it."""
    attempts = 0

    async def flaky(event: Event, state: State) -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise ConnectionError("busy")

    retry = {"retry": {"max_retries": 2, "initial_delay_seconds": 1.0, "jitter": False}}
    async with make_runner({}, {"a": flaky}, agents={"a": retry}) as runner:
        await runner.run(Event("a"))
    step = spans.one("step a")
    events = [(event.name, dict(event.attributes or {})) for event in step.events]
    assert ["retry", "retry"] == [name for name, _ in events]
    assert {"attempt": 2, "wait_seconds": 2.0, "error.type": "ConnectionError"}.items() <= events[1][1].items()
    assert (3, StatusCode.UNSET) == (told(step)["agentflow.attempts"], step.status.status_code)


async def test_a_failure_is_told_by_type_and_code_in_step_and_run(make_runner: MakeRunner, spans: Spans) -> None:
    """Both spans have the status ERROR."""
    async with make_runner({}, {"a": failing}) as runner:
        await runner.run(Event("a"))
    for span in (spans.one("step a"), spans.one("run route")):
        assert (StatusCode.ERROR, "ValueError") == (span.status.status_code, told(span)["error.type"])
    assert "failed" == told(spans.one("run route"))["agentflow.status"]


async def test_a_step_that_is_refused_before_its_first_attempt_has_a_span(make_runner: MakeRunner, spans: Spans) -> None:
    """A veto, an open circuit: nobody was called, and the trace says why."""
    runner = make_runner({}, {"a": quick})

    @runner.on(Hook.BEFORE_AGENT_RUN)
    def veto(args: HookArgs) -> None:
        raise PermissionError("not today")

    async with runner:
        await runner.run(Event("a"))
    step = spans.one("step a")
    assert ["step a"] == spans.below(spans.one("run route"))
    assert (StatusCode.ERROR, "PermissionError") == (step.status.status_code, told(step)["error.type"])


async def with_content(make_runner: MakeRunner, **telemetry: Any) -> None:
    """Run an agent that answers, and one that quotes its input in an exception."""
    flow = {"mode": "sequential", "sequential_agents": ["a", "b"]}
    async with make_runner(flow, {"a": quick, "b": failing}, **telemetry) as runner:
        await runner.run(Event("x", SECRETS))


async def test_by_default_nothing_that_events_agents_or_errors_say_is_in_a_span(make_runner: MakeRunner, spans: Spans) -> None:
    """Names, figures and codes alone: what users write and agents answer is nobody else's business."""
    await with_content(make_runner)
    assert 3 == len(spans.all)
    assert [] == [word for word in ("the-question", "the-answer", "canary", "cannot answer") if word in spans.text]


async def test_with_capture_content_inputs_outputs_and_messages_are_in_the_spans(make_runner: MakeRunner, spans: Spans) -> None:
    """Each cut to 16,384 characters."""
    await with_content(make_runner, telemetry={"capture_content": True})
    assert '{"question":"the-question","agentflow":"canary"}' == told(spans.one("run sequential"))["agentflow.input"]
    assert '"answer":"the-answer"' in told(spans.one("step b"))["agentflow.input"]
    assert '{"answer":"the-answer"}' == told(spans.one("step a"))["agentflow.output"]
    assert "cannot answer" in (spans.one("step b").status.description or "")
    async with make_runner({}, {"a": quick}, telemetry={"capture_content": True}) as runner:
        await runner.run(Event("a", {"long": "x" * 100_000}))
    assert 16_384 == len(told(spans.one("run route"))["agentflow.input"])


async def test_an_event_that_a_callback_emits_is_in_the_trace_of_its_step(make_runner: MakeRunner, spans: Spans) -> None:
    """Its run is below the step; one that the callback of an event emits is below the run; a trace of its own stays its own."""
    runner = make_runner({"mode": "route"}, {"a": quick, "b": quick, "c": quick, "d": quick})

    @runner.on(Hook.AFTER_AGENT_RUN)
    async def after_step(args: HookArgs) -> None:
        if args.agent == "a":
            await args.runner.emit(Event("b"))
            await args.runner.emit(Event("d", metadata={"traceparent": ABOVE}))

    @runner.on(Hook.AFTER_EVENT_HANDLING)
    async def after_event(args: HookArgs) -> None:
        if args.event.target == "a":
            await args.runner.emit(Event("c"))

    async with runner:
        await runner.run(Event("a"))
    runs = {told(span)["agentflow.target"]: span for span in spans.all if span.name == "run route"}
    assert ["run route", "step a"] == spans.below(runs["a"])
    assert ["run route"] == spans.below(spans.one("step a"))
    assert trace_of(runs["a"]) == trace_of(runs["b"]) == trace_of(runs["c"]) != trace_of(runs["d"]) == TRACE


async def test_a_run_that_is_cut_leaves_no_span_open(make_runner: MakeRunner, spans: Spans) -> None:
    """Its open steps end with it, also those of handlers that are left behind."""

    release = asyncio.Event()

    async def stubborn(event: Event, state: State) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    flow = {"mode": "collaborative", "collaborative_agents": ["a", "b"], "timeout_seconds": 2}
    async with make_runner(flow, {"a": stubborn, "b": quick}) as runner:
        assert "timed_out" == (await runner.run(Event("x"))).status
        assert ["step a", "step b"] == spans.below(spans.one("run collaborative"))
        release.set()
    step, run = spans.one("step a"), spans.one("run collaborative")
    assert "timeout" == told(step)["agentflow.cut"]
    assert ["abandoned"] == [event.name for event in step.events]
    assert (StatusCode.ERROR, "timed_out") == (run.status.status_code, told(run)["agentflow.status"])


async def test_whoever_answers_for_a_step_has_no_part_in_its_trace(make_runner: MakeRunner, spans: Spans) -> None:
    """A step that somebody rejects ends in that one's task, which goes on as it was."""
    async with make_runner({}, {"a": quick}, agents={"a": {"requires_approval": True}}) as runner:
        handle = await runner.emit(Event("a"))
        await handle.wait()
        assert await handle.reject("a")
        assert not trace.get_current_span().get_span_context().is_valid
        assert "failed" == (await handle.result()).status
    assert "ApprovalRejectedError" == told(spans.one("step a"))["error.type"]
    assert ["step a"] == spans.below(spans.one("run route"))


async def test_a_run_that_is_cancelled_is_no_error(make_runner: MakeRunner, spans: Spans) -> None:
    """Somebody asked for it; the span says so."""

    async def wait(event: Event, state: State) -> None:
        await asyncio.sleep(1000)

    async with make_runner({}, {"a": wait}) as runner:
        handle = await runner.emit(Event("a"))
        await asyncio.sleep(1)
        handle.cancel("changed my mind")
        await handle.result()
    run = spans.one("run route")
    assert (StatusCode.UNSET, "cancelled", "changed my mind") == (
        run.status.status_code,
        told(run)["agentflow.status"],
        told(run)["agentflow.reason"],
    )


def test_a_run_that_another_process_goes_on_with_stays_in_the_trace_of_its_event(
    make_runner: MakeRunner, spans: Spans, tmp_path: Path
) -> None:
    """The first process ends its span when it stops, the second begins one of its own, under the same parent."""

    def runner() -> Runner:
        journal = {"url": f"sqlite:{tmp_path / 'journal.db'}", "durability": "relaxed"}
        return make_runner({}, {"a": quick}, agents={"a": {"requires_approval": True}}, journal=journal)

    async def go_on() -> None:
        async with runner() as first:
            await (await first.emit(Event("a", metadata={"traceparent": ABOVE}))).wait()
        async with runner() as second:
            (handle,) = await second.resume()
            await handle.approve("a")
            assert "completed" == (await handle.result()).status

    asyncio.run(go_on())  # on real time: the virtual clock would jump over the deadline while a thread writes
    left, again, step = spans.one("run route"), spans.one("run"), spans.one("step a")
    assert ("left", "completed", True) == (
        told(left)["agentflow.status"],
        told(again)["agentflow.status"],
        told(again)["agentflow.taken_over"],
    )
    assert [["step a"], []] == [spans.below(again), spans.below(left)]
    assert {TRACE} == {trace_of(span) for span in (left, again, step)}
    assert ["ApprovalRequested", "WorkflowPaused"] == [event.name for event in left.events]


async def test_without_an_sdk_nothing_stands_between_the_engine_and_the_executor(make_runner: MakeRunner) -> None:
    """The API alone, which other libraries import, makes no spans: they would cost and say nothing."""
    async with make_runner({}, {"a": quick}) as runner:
        assert runner._engine is not None
        assert (LocalExecutor, None, []) == (type(runner._engine.executor), runner._engine.tracing, runner._engine.teller.observers)
