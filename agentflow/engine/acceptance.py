"""Acceptance: from an emitted event to the run that serves it."""

from __future__ import annotations

from agentflow.core.event import Event, accept
from agentflow.core.state import Scope
from agentflow.core.walk import Walk
from agentflow.engine.durations import step_limit_of
from agentflow.engine.program import Program
from agentflow.engine.run import Run
from agentflow.ports import Clock

_STEERING = frozenset({"route", "orchestration_override"})  # read from the event, not copied into the state


def accepted_run(event: Event, program: Program, clock: Clock, *, is_noting: bool) -> Run:
    """Check an event and make its run.

    Its data becomes the first state, its metadata the first `state.meta`; what steers the run is read from it here.

    Raises:
        InvalidEventError, InvalidValueError: the event is not valid.
        RoutingError: its `orchestration_override` names nothing.
    """
    serial = clock.fresh_id()
    accepted = accept(event, serial, clock.time)
    metadata = accepted.kept_metadata
    meta: dict[str, object] | None = None
    limit_s: float | None = None
    if metadata:
        meta = {key: text for key, text in metadata.items() if key not in _STEERING}
        if "orchestration_override" in metadata:
            program = program.overridden(metadata["orchestration_override"])
        if "agent_timeout" in metadata:
            limit_s = step_limit_of(metadata["agent_timeout"])
    scope = Scope(dict(accepted.kept_data), meta)
    run = Run("run-" + serial, accepted, program, Walk(program.plan, accepted, scope, is_noting=is_noting))
    run.step_limit_s = limit_s
    return run
