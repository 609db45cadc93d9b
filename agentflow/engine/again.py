"""Again: a run's event once more, in a new run that names the old one."""

from __future__ import annotations

import hashlib
from itertools import count
from typing import TYPE_CHECKING

from agentflow.core.records import WorkflowCreated
from agentflow.core.run_row import RunRow
from agentflow.engine.copying import created_again, record_copy
from agentflow.engine.history import DEAD
from agentflow.errors import IllegalTransitionError, JournalDamagedError

if TYPE_CHECKING:
    from agentflow.engine.desk import Order
    from agentflow.engine.history import History
    from agentflow.ports import Clock, Store

_LONGEST_ID = 112  # of an event, so that there is room for what is put behind it


async def run_again(store: Store, history: History, clock: Clock, order: Order) -> str:
    """Record a new run of the same event, under the plan of the old one, and return its id. Whoever resumes begins it.

    Raises:
        IllegalTransitionError: the run is open; of replay: it is no dead letter, or was replayed before.
        JournalDamagedError, JournalVersionError, StoreError: the run cannot be read, or the new one written.
    """
    old = await history.find(order.run_id)
    if old.is_open:
        raise IllegalTransitionError(old.run_id, old.state, order.verb, "it has not ended")
    if order.verb == "replay" and DEAD not in old.flags:
        raise IllegalTransitionError(old.run_id, old.state, "replay", f"it is no dead letter; `agentflow runs retry {old.run_id}`")
    created = (await history.events(old.run_id))[0].fact
    if not isinstance(created, WorkflowCreated):
        raise JournalDamagedError(old.run_id, 0, "does not say how the run began")
    event_id = await _free_id(store, old, order)
    row = await record_copy(store, clock, created_again(created, old.run_id, event_id, old.plan_hash, old.pattern), ())
    return row.run_id


async def _free_id(store: Store, old: RunRow, order: Order) -> str:
    """Return an id for the event, made of the one it had and a number."""
    known = old.event_id if len(old.event_id) <= _LONGEST_ID else hashlib.blake2b(old.event_id.encode(), digest_size=16).hexdigest()
    for number in count(1):
        event_id = f"{known}.{order.verb}-{number}"
        row = await store.row_of_event(event_id)
        if row is None:
            return event_id
        if order.verb == "replay" and not order.is_again:
            raise IllegalTransitionError(old.run_id, old.state, "replay", f"it was replayed as {row.run_id}; --again does it once more")
    raise AssertionError("never reached")  # pragma: no cover
