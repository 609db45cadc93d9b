"""Copying: a new run that begins with records of another one, and names it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from agentflow.core.append import Append
from agentflow.core.codec import encode
from agentflow.core.entry import Entry
from agentflow.core.records import Fact, WorkflowCreated
from agentflow.core.replay import event_of
from agentflow.core.run_row import RunRow
from agentflow.engine.journal import event_hash

if TYPE_CHECKING:
    from agentflow.ports import Clock, Store


def created_again(created: WorkflowCreated, origin: str, event_id: str, plan_hash: str, pattern: str = "") -> WorkflowCreated:
    """Return how a copy of a run begins: with its event under another id, and as nobody's child.

    Args:
        created: how the run `origin` began.
        origin: the run that is copied.
        event_id: the event's new id; a store knows each one once.
        plan_hash: the plan that the copy walks.
        pattern: that plan's mode; "" takes the one that `created` has.
    """
    event = {**created.event, "id": event_id}
    told = replace(created, event=event, plan_hash=plan_hash, parent_id=None, root_id=None, forked_from=origin)
    return replace(told, pattern=pattern) if pattern else told


async def record_copy(
    store: Store, clock: Clock, created: WorkflowCreated, told: Sequence[Fact], *, owner: str = "", plan: tuple[str, bytes] | None = None
) -> RunRow:
    """Write a new run and return its row; durable when it returns.

    Args:
        store: where to.
        clock: tells the time, and makes the run's id.
        created: how it begins.
        told: what else has happened to it already.
        owner: who goes on with it; "" leaves that to whoever resumes it.
        plan: its plan, where the store may not have it.

    Raises:
        JournalDamagedError: the event in `created` is none.
        StoreError: it cannot be written.
    """
    run_id, now = f"run-{clock.fresh_id()}", clock.time()
    row = RunRow(
        run_id=run_id,
        event_id=created.event_id,
        event_hash=event_hash(event_of(run_id, created)),
        state="pending",  # until it begins, which is when its session is free
        pattern=created.pattern,
        session_id=created.session_id,
        plan_hash=created.plan_hash,
        owner=owner,
        started_at=now,
    )
    entries: list[Entry] = []
    for seq, fact in enumerate((created, *told)):
        entries.append(encode(run_id, seq, row.epoch, now, fact, entries[-1].hash if entries else b""))
    await store.append(Append(run_id, 0, row.epoch, tuple(entries), row, plan, is_new=True))
    return row
