"""Desk: where orders on runs come in from outside, for a run that goes on in this process and for one that nobody runs.

A run that goes on is asked through its engine. One that nobody runs is taken, what was asked is recorded, and it is let go
again: whoever resumes it finds it there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from agentflow.core import orders
from agentflow.core import records as facts
from agentflow.core.append import Append
from agentflow.core.codec import encode
from agentflow.core.entry import Entry
from agentflow.core.plan import name_of
from agentflow.core.run_row import RunRow
from agentflow.core.run_view import row_after
from agentflow.core.standing import Standing
from agentflow.core.values import Json
from agentflow.engine.again import run_again
from agentflow.engine.control import refusal
from agentflow.errors import AgentflowError, FencedError, IllegalTransitionError, RunnerStateError

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine
    from agentflow.engine.history import History
    from agentflow.engine.run import Run
    from agentflow.ports import Clock, Store

LEASE_S = 30.0
_TRIES = 3  # somebody may take the run, or write it, between two looks
AGAIN = ("retry", "replay")
VERBS = ("pause", "resume", "cancel", "approve", "reject", *AGAIN)


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of a run.

    Attributes:
        verb: pause, resume, cancel, approve, reject, retry (its event, in a new run), or replay (the same of a dead letter).
        run_id: the run's id, or a beginning that no other id has.
        place: of approve and reject: the step's position or its agent; "" where only one step waits.
        by: who asks.
        told: why, or what else they say.
        digest: of approve: what they saw.
        is_again: of replay: also when it was replayed before.
    """

    verb: str
    run_id: str
    place: str = ""
    by: str = ""
    told: str = ""
    digest: str | None = None
    is_again: bool = False

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Order:
        """Return the order that `to_dict` has written.

        Raises:
            RunnerStateError: it is none.
        """
        known = {field.name: told[field.name] for field in fields(cls) if field.name in told}
        texts = {name: value for name, value in known.items() if name not in ("digest", "is_again")}
        is_fit = known.get("verb") in VERBS and "run_id" in known and all(isinstance(value, str) for value in texts.values())
        if not is_fit or not isinstance(known.get("digest"), str | None):
            raise RunnerStateError("that is no order", hint=f"known: {', '.join(VERBS)}")
        return cls(**known | {"is_again": known.get("is_again") is True})

    def to_dict(self) -> dict[str, Json]:
        """Return the order as JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an order came to.

    Attributes:
        run_id: the run's whole id; of retry and replay the new run's.
        is_recorded: whether anything was; False when it had been answered before.
        state: how the run stands now.
        position: of approve and reject: which step.
        is_live: whether the run goes on in the process that took the order.
    """

    run_id: str
    is_recorded: bool
    state: str
    position: str = ""
    is_live: bool = False

    def to_dict(self) -> dict[str, Json]:
        """Return the receipt as JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class Desk:
    """Carries out orders on the runs of one store.

    Args:
        store: open for writing.
        history: reads its runs.
        clock: tells the time.
        engine: what runs some of them in this process, if anything does.
    """

    def __init__(self, store: Store, history: History, clock: Clock, engine: Engine | None = None) -> None:
        self._store = store
        self._history = history
        self._clock = clock
        self._engine = engine
        self._turn = asyncio.Lock()  # orders on runs that nobody runs: one after another

    async def answer(self, told: Mapping[str, Any]) -> dict[str, Json]:
        """Carry out an order that came from another process, and return the receipt or `{"error": {code, message, hint}}`."""
        try:
            return (await self.carry_out(Order.from_dict(told))).to_dict()
        except AgentflowError as error:
            state = error.state if isinstance(error, IllegalTransitionError) else None
            return {"error": {"code": error.code, "message": error.message, "hint": error.hint, "state": state}}

    async def carry_out(self, order: Order) -> Receipt:
        """Carry out an order; durable when it returns.

        Raises:
            RunNotFoundError: there is no such run, or more than one.
            IllegalTransitionError: the run's state does not allow it; nothing was recorded.
            FencedError: an engine of this process is about to let go of the run; nothing was recorded.
            JournalDamagedError, JournalVersionError, StoreError: the run cannot be read or written.
        """
        row = await self._history.find(order.run_id)
        order = replace(order, run_id=row.run_id)
        if order.verb in AGAIN:
            async with self._turn:
                run_id = await run_again(self._store, self._history, self._clock, order)
            if self._engine is not None and row.session_id is not None:
                self._engine.intake.keep_place(row.session_id, run_id)
            return Receipt(run_id, True, "pending")
        run = self._live(row.run_id)
        if run is not None and self._engine is not None:
            return await self._ask(self._engine, run, order)
        async with self._turn:
            return await self._record(order)

    # --- runs that go on here ---

    def _live(self, run_id: str) -> Run | None:
        runs = () if self._engine is None else self._engine.runs
        return next((run for run in runs if run.run_id == run_id and run.parked is None), None)

    async def _ask(self, engine: Engine, run: Run, order: Order) -> Receipt:
        await engine.recovery.until_read(run)
        journal = run.journal
        if journal is None:
            raise RunnerStateError(f"nothing of run {run.run_id} is recorded")
        standing = journal.standing
        order = replace(order, place=_place(standing, order))
        control, is_recorded = engine.control, True
        match order.verb:
            case "pause":
                await control.pause(run, order.told)
            case "resume":
                await control.resume(run, order.by)
            case "cancel":
                is_recorded = bool(orders.cancel(standing, order.told))
                if is_recorded and (written := engine.ending.cancel(run, order.told)) is not None:
                    await journal.durable(written)
            case "approve":
                is_recorded = await control.approve(run, order.place, order.by, order.told, order.digest)
            case _:
                is_recorded = await control.reject(run, order.place, order.by, order.told)
        return Receipt(run.run_id, is_recorded, run.state, order.place, is_live=True)

    # --- runs that nobody runs ---

    async def _record(self, order: Order) -> Receipt:
        owner = self._clock.fresh_id()
        try:
            for left in reversed(range(_TRIES)):
                try:
                    return await self._recorded(order, owner)
                except FencedError:
                    if not left:
                        raise
        finally:
            await self._store.release(owner)
        raise AssertionError("never reached")  # pragma: no cover

    async def _recorded(self, order: Order, owner: str) -> Receipt:
        recorded = await self._history.recorded(order.run_id)
        standing, row = await self._history.standing(recorded), recorded.row
        order = replace(order, place=_place(standing, order))
        told = _facts(standing, order, self._clock.time())
        if not told:
            return Receipt(order.run_id, False, orders.state_of(standing), order.place)
        taken = await self._store.take(owner, lease_s=LEASE_S, run_ids=[order.run_id])
        row = taken[0] if taken else row
        if row.owner != owner and not self._has_laid_aside(row):
            raise FencedError(order.run_id, "the process that has it has stopped it, and is about to end; ask again")
        first = standing.seq + 1
        entries = tuple(self._entry(standing, row, fact) for fact in told)
        row = row_after(row, standing, entries[-1].at)
        await self._store.append(Append(order.run_id, first, row.epoch, entries, row))
        if self._engine is not None and not row.is_open:
            self._engine.recovery.let_go(row)
        return Receipt(order.run_id, True, row.state, order.place)

    def _has_laid_aside(self, row: RunRow) -> bool:
        """Say whether the engine has a run, does not go on with it, and stays: nobody else writes it then."""
        engine = self._engine
        if engine is None or engine.journals is None or engine.intake.is_closed or row.owner != engine.journals.owner:
            return False
        return all(run.run_id != row.run_id for run in engine.runs)

    def _entry(self, standing: Standing, row: RunRow, fact: facts.Fact) -> Entry:
        entry = encode(standing.run_id, standing.seq + 1, row.epoch, self._clock.time(), fact, standing.hash)
        standing.take(entry, fact)
        return entry


def _place(standing: Standing, order: Order) -> str:
    """Return the position that an answer is for, where it can be told; it is as given otherwise."""
    if order.verb not in ("approve", "reject"):
        return ""
    waiting = orders.open_approvals(standing)
    if not order.place and len(waiting) > 1:
        hint = f"{len(waiting)} steps wait; name one: {', '.join(waiting)}"
        raise IllegalTransitionError(order.run_id, orders.state_of(standing), order.verb, hint)
    found = [position for position in waiting if not order.place or standing.steps[position].agent == order.place]
    return found[0] if len(found) == 1 and order.place not in waiting else order.place


def _facts(standing: Standing, order: Order, now: float) -> tuple[facts.Fact, ...]:
    """Return what is recorded of an order on a run that nobody runs."""
    match order.verb:
        case "pause":
            return orders.pause(standing, order.told)
        case "resume":
            return orders.resume(standing, order.by)
        case "cancel":
            return orders.cancel(standing, order.told, is_alone=True)
        case "approve":
            told = orders.approve(standing, order.place, order.by, order.told, digest=order.digest, at=now)
        case _:
            told = orders.reject(standing, order.place, order.by, order.told)
    if told and standing.waiting:  # it was paused for lack of anything to do
        told += (facts.WorkflowResumed(order.by),)
    return (*told, *_failed(standing, order)) if told and order.verb == "reject" else told


def _failed(standing: Standing, order: Order) -> tuple[facts.Fact, ...]:
    """Return the failure of a step that was rejected, and what the walk chooses thereupon."""
    frame = standing.ready.pop(order.place)
    failure = refusal(order.place, order.by, order.told)
    standing.walk.complete(frame, failure)
    notes = tuple(standing.walk.notes)
    standing.walk.notes.clear()
    return (facts.StepFailed(order.place, name_of(frame.node), 0, 0.0, failure), *notes)
