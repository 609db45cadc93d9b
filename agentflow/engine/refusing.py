"""Refusing: what came from outside and cannot be an event is recorded all the same, as a run that has failed at once: a dead letter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentflow.core.append import Append
from agentflow.core.codec import encode
from agentflow.core.event import Event, accept
from agentflow.core.failure import failure_of
from agentflow.core.records import WorkflowCreated, WorkflowFailed
from agentflow.core.run_row import RunRow
from agentflow.core.tally import DEAD
from agentflow.engine.journal import event_hash
from agentflow.errors import DuplicateEventError

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine
    from agentflow.engine.journal import Journals

REFUSED = "refused"  # the reason of such a run


async def record_refusal(engine: Engine, journals: Journals, event: Event, error: Exception) -> str:
    """Record a run of `event` that has failed with `error` before its first step; durable when it returns. Return the run's id.

    The same event refused again has the run that it had.

    Raises:
        InvalidEventError, InvalidValueError: `event` is none.
        StoreError: it cannot be written.
    """
    serial, now = engine.clock.fresh_id(), engine.clock.time()
    run_id, told, program = f"run-{serial}", accept(event, serial, engine.clock.time), engine.program
    plan = journals.plan_of(program)
    created = WorkflowCreated(told.kept_dict(), program.flow.mode, plan[0], handlers=journals.handlers)
    failed = WorkflowFailed("failed", REFUSED, None, failure_of(error), (DEAD,))
    row = RunRow(
        run_id=run_id,
        event_id=created.event_id,
        event_hash=event_hash(told),
        state="failed",
        status="failed",
        reason=REFUSED,
        flags=(DEAD,),
        pattern=created.pattern,
        session_id=created.session_id,
        plan_hash=plan[0],
        owner=journals.owner,
        started_at=now,
        ended_at=now,
    )
    first = encode(run_id, 0, row.epoch, now, created, b"")
    last = encode(run_id, 1, row.epoch, now, failed, first.hash)
    try:
        await journals.store.append(Append(run_id, 0, row.epoch, (first, last), row, plan, is_new=True))
    except DuplicateEventError as known:
        if not known.is_same:
            raise
        return known.run_id
    return run_id
