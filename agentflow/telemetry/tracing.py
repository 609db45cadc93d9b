"""Tracing: a span for each run and, below it, one for each step, made through the OpenTelemetry API.

A run's span is a child of what its event names as `traceparent`, else of the span in which the event was emitted. A step's
span begins with its first attempt and is current while its handler runs, so that what the handler traces, or sends on, is
below it. Spans are kept here and never on a task's stack: a handler that is left behind holds none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode, Tracer, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from agentflow.core import records as facts
from agentflow.core.codec import dumps
from agentflow.core.failure import Failure
from agentflow.core.places import is_below
from agentflow.core.plan import Position

if TYPE_CHECKING:
    from agentflow.engine.context import Context as StepContext
    from agentflow.ports import Attempt, Clock, Executor

SCOPE = "agentflow"  # what OpenTelemetry calls the spans' instrumentation scope
LONGEST = 16_384  # characters of what is captured of one value
_W3C = TraceContextTextMapPropagator()
_ENDINGS = (facts.WorkflowCompleted, facts.WorkflowFailed, facts.WorkflowCancelled)
_NEWS = (
    *(facts.WorkflowPaused, facts.WorkflowResumed, facts.WorkflowRecovering),
    *(facts.ApprovalRequested, facts.ApprovalGranted, facts.ApprovalRejected, facts.BudgetWarned, facts.BudgetExhausted),
)


@dataclass(slots=True)
class _RunSpan:
    """The span of an open run, and those of its open steps by position."""

    span: Span
    context: Context
    steps: dict[Position, Span] = field(default_factory=dict)


class Tracing:
    """Makes the spans of one runner's runs: it observes their records, and stands before the executor.

    Args:
        tracer: makes the spans.
        executor: carries the calls out.
        clock: tells the time where no record does.
        has_content: whether spans may hold what events, agents and errors say.
        close: is awaited at the end, to send what is left.
    """

    def __init__(
        self, tracer: Tracer, executor: Executor, clock: Clock, *, has_content: bool, close: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._tracer = tracer
        self._executor = executor
        self._clock = clock
        self._has_content = has_content
        self._close = close
        self._runs: dict[str, _RunSpan] = {}

    async def close(self) -> None:
        """End the spans of runs that are left to be resumed, and send what is left."""
        now = self._clock.time()
        for run in self._runs.values():
            _end_steps(run, now, "left")
            run.span.set_attribute("agentflow.status", "left")
            run.span.end(_ns(now))
        self._runs.clear()
        if self._close is not None:
            await self._close()

    # --- as an executor ---

    def begin(self, request: Attempt) -> Awaitable[object]:
        """Begin one attempt, with its step's span as the current one of the calling task."""
        step = cast("StepContext", request.context)
        run = self._runs.get(step.run_id)
        if run is None:  # taken over from another process
            above = _W3C.extract(request.event.kept_metadata, Context())
            run = self._open(step.run_id, "", self._clock.time(), above, {"agentflow.taken_over": True})
        span = run.steps.get(step.position)
        if span is None:
            span = run.steps[step.position] = self._begin_step(run, step)
            if self._has_content and span.is_recording():
                told = {"event": request.event.to_dict()["data"], "state": request.state.to_dict()["data"]}
                span.set_attribute("agentflow.input", _text(told))
        contexts.attach(set_span_in_context(span))  # never detached: the task is the run's own, and its next step sets another
        return self._executor.begin(request)

    def _begin_step(self, run: _RunSpan, step: StepContext) -> Span:
        told = {"agentflow.run_id": step.run_id, "agentflow.position": step.position, "agentflow.agent": step.agent}
        return self._tracer.start_span(f"step {step.agent}", run.context, attributes=told, start_time=_ns(self._clock.time()))

    # --- for what callbacks emit ---

    def headers_of(self, run_id: str, position: Position) -> Mapping[str, str]:
        """Return the W3C `traceparent`, and `tracestate` where there is one, of a step, or of its run where it has no span."""
        run = self._runs.get(run_id)
        if run is None:
            return {}
        headers: dict[str, str] = {}
        _W3C.inject(headers, set_span_in_context(run.steps.get(position, run.span)))
        return headers

    # --- as an observer ---

    def observe(self, record: facts.Record) -> None:
        """Begin and end spans as records tell."""
        fact = record.fact
        if isinstance(fact, facts.WorkflowCreated):
            self._created(record, fact)
            return
        run = self._runs.get(record.run_id)
        if run is None:
            return
        if isinstance(fact, _ENDINGS):
            del self._runs[record.run_id]
            self._ended(run, record, fact)
        elif isinstance(fact, facts.FlowCut):
            _end_steps(run, record.at, fact.failure.code or "cut", fact.position)
        elif isinstance(fact, _NEWS):
            run.span.add_event(record.type, timestamp=_ns(record.at))
        else:
            self._step(run, record)

    def _created(self, record: facts.Record, fact: facts.WorkflowCreated) -> None:
        metadata = fact.event.get("metadata")
        above = _W3C.extract(cast("Mapping[str, str]", metadata or {}), Context())
        if not get_current_span(above).get_span_context().is_valid:
            above = contexts.get_current()
        told: dict[str, str | bool] = {"agentflow.event_id": fact.event_id, "agentflow.target": fact.target}
        if fact.session_id is not None:
            told["agentflow.session_id"] = fact.session_id
        if self._has_content:
            told["agentflow.input"] = _text(fact.event.get("data"))
        self._open(record.run_id, fact.pattern, record.at, above, told)

    def _open(self, run_id: str, pattern: str, at: float, above: Context, told: Mapping[str, str | bool]) -> _RunSpan:
        attributes = {"agentflow.run_id": run_id, **({"agentflow.pattern": pattern} if pattern else {}), **told}
        span = self._tracer.start_span(f"run {pattern}".rstrip(), above, attributes=attributes, start_time=_ns(at))
        run = self._runs[run_id] = _RunSpan(span, set_span_in_context(span, above))
        return run

    def _ended(self, run: _RunSpan, record: facts.Record, fact: facts.Ending) -> None:
        _end_steps(run, record.at, "cut")
        span = run.span
        status = "cancelled" if isinstance(fact, facts.WorkflowCancelled) else fact.status
        span.set_attributes({"agentflow.status": status, "agentflow.reason": fact.reason})
        if fact.flags:
            span.set_attribute("agentflow.flags", fact.flags)
        if isinstance(fact, facts.WorkflowFailed):
            self._fail(span, fact.failure or Failure(fact.reason))
        span.end(_ns(record.at))

    def _step(self, run: _RunSpan, record: facts.Record) -> None:
        fact, at = record.fact, _ns(record.at)
        span = run.steps.get(getattr(fact, "position", ""))
        if span is None:
            if isinstance(fact, facts.StepFailed):  # it never came to an attempt: it was refused before
                self._refused(run, fact, record.at)
            return
        match fact:
            case facts.StepRetried():
                span.add_event("retry", {"attempt": fact.attempt, "wait_seconds": fact.wait_s, **self._error(fact.failure)}, at)
            case facts.FallbackTaken():
                span.add_event("fallback", {"to": fact.to, "attempt": fact.attempt, **self._error(fact.failure)}, at)
            case facts.StepDegraded():
                span.add_event("degraded", self._error(fact.failure), at)
            case facts.StepAbandoned():
                span.add_event("abandoned", timestamp=at)
            case facts.StepCompleted() | facts.StepFailed():
                del run.steps[fact.position]
                self._step_ended(run, span, fact, at)
            case _:
                pass

    def _refused(self, run: _RunSpan, fact: facts.StepFailed, at: float) -> None:
        told = {"agentflow.position": fact.position, "agentflow.agent": fact.agent}
        span = self._tracer.start_span(f"step {fact.agent}", run.context, attributes=told, start_time=_ns(at - fact.duration_s))
        self._step_ended(run, span, fact, _ns(at))

    def _step_ended(self, run: _RunSpan, span: Span, fact: facts.StepCompleted | facts.StepFailed, at: int) -> None:
        span.set_attribute("agentflow.attempts", fact.attempts)
        for name, figure in (fact.usage or {}).items():
            if isinstance(figure, int | float):
                span.set_attribute(f"agentflow.usage.{name}", figure)
        if isinstance(fact, facts.StepFailed):
            self._fail(span, fact.failure)
        else:
            if fact.route is not None:
                span.set_attribute("agentflow.route", fact.route)
            if self._has_content:
                span.set_attribute("agentflow.output", _text(fact.patch.values()))
        span.end(at)
        if get_current_span() is span:  # in the run's own task: what callbacks do between two steps belongs to the run
            contexts.attach(run.context)

    def _fail(self, span: Span, failure: Failure) -> None:
        span.set_attributes(self._error(failure))
        span.set_status(Status(StatusCode.ERROR, failure.message[:LONGEST] if self._has_content else None))

    def _error(self, failure: Failure) -> dict[str, str]:
        told = {"error.type": failure.type, "agentflow.error.code": failure.code}
        if self._has_content:
            told["error.message"] = failure.message[:LONGEST]
        return {name: text for name, text in told.items() if text}


def _end_steps(run: _RunSpan, at: float, why: str, above: Position = "") -> None:
    for position in [position for position in run.steps if is_below(position, above)]:
        span = run.steps.pop(position)
        span.set_attribute("agentflow.cut", why)
        span.end(_ns(at))


def _text(value: object) -> str:
    return dumps(value)[:LONGEST]


def _ns(at: float) -> int:
    return int(at * 1e9)
