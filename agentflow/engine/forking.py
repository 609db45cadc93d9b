"""Forking: a new run that has done what another one had done, and goes on from there by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agentflow.core import records as facts
from agentflow.core.append import Append
from agentflow.core.codec import encode
from agentflow.core.entry import Entry
from agentflow.core.replay import event_of, misfits
from agentflow.core.run_row import RunRow
from agentflow.core.state import Patch, State
from agentflow.engine.history import Recorded
from agentflow.engine.journal import event_hash
from agentflow.engine.program import Program
from agentflow.engine.run import Run
from agentflow.errors import JournalDamagedError, PlanMismatchError

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine

# What is the old run's own: how it paused, was taken over, and ended.
_NOT_COPIED = (
    facts.WorkflowCreated,
    facts.WorkflowPaused,
    facts.WorkflowResumed,
    facts.WorkflowRecovering,
    facts.WorkflowCompleted,
    facts.WorkflowFailed,
    facts.WorkflowCancelled,
    facts.PlanMoved,
)


async def fork(engine: Engine, recorded: Recorded, program: Program | None, changes: State | None) -> Run:
    """Record a new run that begins with another one's records, and go on with it.

    Args:
        engine: what goes on with it.
        recorded: the other run's records.
        program: what it walks; None takes the plan that was recorded.
        changes: keys of the state to set before it goes on.

    Raises:
        PlanMismatchError: what was done does not fit the program's plan.
        JournalDamagedError, StoreError: a journal cannot be read or written.
    """
    journals = engine.journals
    created = recorded.records[0].fact
    if journals is None or not isinstance(created, facts.WorkflowCreated):
        raise JournalDamagedError(recorded.row.run_id, 0, "does not say how the run began")
    old, run_id = recorded.row, f"run-{engine.clock.fresh_id()}"
    plan_hash, plan = (old.plan_hash, None) if program is None else journals.plan_of(program)
    event_id = f"event-{engine.clock.fresh_id()}"
    first = replace(created, event={**created.event, "id": event_id}, plan_hash=plan_hash, forked_from=old.run_id)
    event = event_of(run_id, first)
    told: list[facts.Fact] = [first, *(record.fact for record in recorded.records if not isinstance(record.fact, _NOT_COPIED))]
    if changes is not None:
        told.append(facts.EventPatched("fork", Patch(dict(changes.to_dict()["data"]), is_removing=False)))
    entries = _chained(run_id, told, engine.clock.time())
    if program is not None:
        differences = misfits(run_id, program.plan, event, entries)
        if differences:
            raise PlanMismatchError(old.run_id, [f"{position}: {why}" for position, why in differences])
    row = RunRow(
        run_id=run_id,
        event_id=event_id,
        event_hash=event_hash(event),
        state="running",
        pattern=old.pattern if program is None else program.flow.mode,
        session_id=old.session_id,
        plan_hash=plan_hash,
        owner=journals.owner,
        started_at=engine.clock.time(),
    )
    append = Append(run_id, 0, row.epoch, entries, row, None if plan is None else (plan_hash, plan), is_new=True)
    await journals.store.append(append)
    (run,) = engine.recovery.take_over([row])
    return run


def _chained(run_id: str, told: list[facts.Fact], at: float) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    previous = b""
    for seq, fact in enumerate(told):
        entry = encode(run_id, seq, 1, at, fact, previous)
        entries.append(entry)
        previous = entry.hash
    return tuple(entries)
