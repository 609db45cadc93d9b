"""Root: the run that stands for a workflow as a whole. Its journal holds the workflow's milestones; no task belongs to it."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agentflow.core.codec import decode
from agentflow.core.event import Event, accept, first_scope
from agentflow.core.plan import Call, Flow, Seq
from agentflow.core.records import (
    BudgetExhausted,
    EffectRecorded,
    StepCompleted,
    StepStarted,
    WorkflowCompleted,
    WorkflowCreated,
    WorkflowRecovering,
    WorkflowResumed,
)
from agentflow.core.replay import replay
from agentflow.core.run_row import RunRow
from agentflow.core.standing import Standing
from agentflow.core.state import Patch
from agentflow.core.values import Json
from agentflow.core.walk import Walk
from agentflow.engine.journal import Journal, Journals
from agentflow.engine.program import Program
from agentflow.engine.run import Run
from agentflow.errors import DuplicateEventError, FencedError, IllegalTransitionError

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine

LEASE_S = 60.0  # to read what is recorded
PATTERN = "workflow"
DECISION = "decision"  # of a loop: no step, and on no budget
PLACE = "0.0"
ROOT_PLAN = Seq((Call("workflow"),), Flow("workflow", PATTERN, max_process_deaths=100))


class Root:
    """A workflow's own run: begun once, taken over by each process that goes on with it, ended when its function has returned."""

    def __init__(self, engine: Engine, root_id: str) -> None:
        assert engine.journals is not None  # noqa: S101 - a workflow's engine has some
        self._engine = engine
        self._journals: Journals = engine.journals
        self._root_id = root_id
        self._program: Program = engine.program
        self._journal: Journal
        self._known: dict[str, Json] = {}
        self._last: Future[None] | None = None
        self.is_new = False  # nothing was recorded of this workflow before
        self.run: Run

    async def open(self, *, is_resume: bool) -> None:
        """Begin the run, or take it over.

        Raises:
            IllegalTransitionError: it is recorded and was not to be resumed, or somebody else goes on with it.
            JournalDamagedError, JournalVersionError, StoreError: its journal cannot be read or written.
        """
        store = self._journals.store
        event = accept(Event("workflow", id=self._event_id), self._root_id, self._engine.clock.time)
        row = await store.row_of_event(self._event_id)
        walk = Walk(self._program.plan, event, first_scope(event), is_noting=True)
        self.run = Run(self._root_id, event, self._program, walk)
        if row is None:
            await self._begin(event, walk)
        elif is_resume:
            await self._take(row, event)
        else:
            hint = "pass resume=True to go on with it, or give the new workflow another root_id"
            raise IllegalTransitionError(self._root_id, row.state, "begin", hint)

    @property
    def _event_id(self) -> str:
        return f"workflow:{self._root_id}"

    async def _begin(self, event: Event, walk: Walk) -> None:
        self.is_new = True
        self._journal = journal = self._journals.new(event, self._program, Standing(self._root_id, walk))
        journal.change(state="running")
        journal.note(WorkflowCreated(event.view().to_dict(), PATTERN, plan_hash=journal.row.plan_hash))
        walk.start()
        journal.note(StepStarted(PLACE, "workflow"))
        try:
            await journal.durable(journal.commit())
        except DuplicateEventError:
            raise IllegalTransitionError(self._root_id, "running", "begin", "another workflow began it at this moment") from None

    async def _take(self, row: RunRow, event: Event) -> None:
        store, root_id = self._journals.store, self._root_id
        if row.is_open:
            rows = await store.take(self._journals.owner, lease_s=LEASE_S, run_ids=[root_id])
            if not rows:
                raise IllegalTransitionError(root_id, row.state, "resume", "another owner goes on with it")
            row = rows[0]
        entries = await store.entries(root_id)
        standing = replay(root_id, self._program.plan, event, entries)
        facts = (decode(root_id, entry).fact for entry in entries)
        self._known = {fact.key: fact.value for fact in facts if isinstance(fact, EffectRecorded)}
        self._journal = journal = Journal(self._journals, standing, row)
        if row.is_open:
            if standing.paused is not None:
                journal.note(WorkflowResumed("resume"))
            journal.note(WorkflowRecovering(row.epoch, self._journals.owner, (PLACE,)))
            journal.change(state="running", reason="", waiting=())
            await journal.durable(journal.commit())

    def note(self, key: str, value: Mapping[str, Any]) -> None:
        """Record a milestone, unless it is recorded already. A run that has ended takes none."""
        told = dict(value)
        if self._known.get(key) == told or self._journal.standing.ended is not None:
            return
        self._known[key] = told
        self._journal.note(EffectRecorded(PLACE, key, told))
        self._last = self._journal.commit()
        self._last.add_done_callback(_look)

    def note_fact(self, fact: BudgetExhausted) -> None:
        """Record what befell the workflow as a whole; it is committed with the milestone that tells of it."""
        if self._journal.standing.ended is None:
            self._journal.note(fact)

    def recorded(self, key: str) -> dict[str, Json] | None:
        """Return the milestone that is recorded under a key."""
        known = self._known.get(key)
        return known if isinstance(known, dict) else None

    def end(self, status: str) -> None:
        """End the run: its function has returned."""
        journal = self._journal
        if journal.standing.ended is not None:
            return
        now = self._engine.clock.time()
        duration_s = max(now - journal.standing.created_at, 0.0)
        journal.note(StepCompleted(PLACE, "workflow", max(journal.standing.step(PLACE).attempts, 1), duration_s, Patch({})))
        journal.note(WorkflowCompleted(status, status, duration_s))
        journal.change(state="completed", status=status, reason=status, ended_at=now)
        self._last = journal.commit()
        self._last.add_done_callback(_look)

    async def check(self) -> None:
        """See that nobody else has taken the workflow over.

        Raises:
            FencedError: somebody has.
        """
        row = await self._journals.store.row(self._root_id)
        if row is None or row.epoch != self._journal.row.epoch:
            raise FencedError(self._root_id, "the workflow was resumed elsewhere")

    async def written(self) -> None:
        """Wait until all milestones are durable.

        Raises:
            StoreError: they cannot be written, or another owner has taken the workflow over.
        """
        if self._last is not None:
            last, self._last = self._last, None
            await self._journal.durable(last)


def _look(done: Future[None]) -> None:
    """Take note of how a commit ended; who waits for it is told by `written`."""
    if not done.cancelled():
        done.exception()
