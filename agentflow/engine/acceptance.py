"""Acceptance: from an emitted event to the run that serves it."""

from __future__ import annotations

from agentflow.core.event import Event, accept, first_scope
from agentflow.core.walk import Walk
from agentflow.engine.durations import step_limit_of
from agentflow.engine.program import Program
from agentflow.engine.run import Run
from agentflow.ports import Clock


def accepted_run(event: Event, program: Program, clock: Clock, *, is_noting: bool) -> Run:
    """Check an event and make its run.

    Its data becomes the first state, its metadata the first `state.meta`; what steers the run is read from it here.

    Raises:
        InvalidEventError, InvalidValueError: the event is not valid.
        RoutingError: its `orchestration_override` names nothing.
    """
    serial = clock.fresh_id()
    accepted = accept(event, serial, clock.time)
    scope = first_scope(accepted)
    limit_s: float | None = None
    if scope.meta is not None:
        metadata = accepted.kept_metadata
        if "orchestration_override" in metadata:
            program = program.overridden(metadata["orchestration_override"])
        if "agent_timeout" in metadata:
            limit_s = step_limit_of(metadata["agent_timeout"])
    walk = Walk(program.plan, accepted, scope, is_noting=is_noting)
    run = Run("run-" + serial, accepted, program, walk)
    run.step_limit_s = limit_s
    return run
