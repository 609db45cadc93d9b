"""Recovery: from a run's journal to a run that goes on in this process, where its last owner left it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from agentflow.core.append import Append
from agentflow.core.codec import decode, encode
from agentflow.core.event import Event
from agentflow.core.failure import failure_of
from agentflow.core.frame import Frame
from agentflow.core.plan import Call, agents_of
from agentflow.core.records import PlanMoved, WorkflowCreated, WorkflowPaused, WorkflowRecovering, WorkflowResumed
from agentflow.core.replay import event_of, misfits, replay
from agentflow.core.run_row import CORRUPT, RunRow
from agentflow.core.snapshot import freeze_standing
from agentflow.core.standing import Standing
from agentflow.core.state import Scope
from agentflow.core.walk import Walk
from agentflow.engine.durations import step_limit_of
from agentflow.engine.ending import DEGRADED
from agentflow.engine.journal import Journal, Journals
from agentflow.engine.program import Program, recorded_plan
from agentflow.engine.repeating import begin_again
from agentflow.engine.run import Run
from agentflow.engine.suspects import DEATHS
from agentflow.errors import (
    AgentflowError,
    JournalDamagedError,
    MissingAgentError,
    PlanMismatchError,
    PoisonedStepError,
    RunnerStateError,
    RunNotFoundError,
    SchemaExtraError,
    StoreDamagedError,
    StoreError,
)

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine


class Recovery:
    """Brings back runs that another process, or an earlier start of this one, has left unfinished."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._programs: dict[str, Program] = {}
        self._rows: dict[Run, RunRow] = {}  # of runs that were taken over, and not read yet
        self._reads: dict[Run, asyncio.Task[None]] = {}
        self._first: deque[Run] = deque()
        self._turns: deque[Run] = deque()  # whose turn has come, and which have to be read first
        self._reading: asyncio.Task[None] | None = None

    @property
    def _journals(self) -> Journals:
        journals = self._engine.journals
        assert journals is not None  # noqa: S101 - what is not recorded is not recovered
        return journals

    async def read(self, row: RunRow) -> Run:
        """Return a run as it stood after its last record.

        Raises:
            JournalDamagedError, JournalVersionError, StoreError: its journal cannot be read.
        """
        run = self._unread(row)
        await self._fill(run, row)
        return run

    def _unread(self, row: RunRow) -> Run:
        """Return a run of which nothing is known but its row: ten thousand of them are owned at once, and read one by one."""
        event = Event(id=row.event_id, session_id=row.session_id, timestamp=row.started_at)
        program = self._engine.program
        run = Run(row.run_id, event, program, Walk(program.plan, event, Scope({})))
        run.is_recovered = True
        return run

    async def _fill(self, run: Run, row: RunRow) -> None:
        journals, run_id = self._journals, row.run_id
        store = journals.store
        first = await store.entries(run_id, 0, 1)
        created = decode(run_id, first[0]).fact if first else None
        if not isinstance(created, WorkflowCreated):
            raise JournalDamagedError(run_id, 0, "does not say how the run began")
        run.event = event_of(run_id, created)
        run.program = await self.program_of(run_id, row.plan_hash)
        kept = await store.snapshot(run_id)
        entries = await store.entries(run_id, 0 if kept is None else kept[0] + 1)
        standing = replay(run_id, run.program.plan, run.event, entries, None if kept is None else kept[1])
        run.walk = standing.walk
        run.journal = Journal(journals, standing, row)
        run.is_hooked = not standing.is_begun
        run.cancelled = standing.cancelled
        run.is_cut = bool(standing.cancelled)
        run.flags = standing.flags
        if not run.walk.is_plain and run.walk.outcome.is_degraded and DEGRADED not in run.flags:
            run.flags = (*run.flags, DEGRADED)  # a join's deadline had done that
        run.recall_usage(standing.usage)
        run.extra = standing.extra
        if "agent_timeout" in run.event.kept_metadata:
            run.step_limit_s = step_limit_of(run.event.kept_metadata["agent_timeout"])
        await self._engine.families.recall(run, row)

    async def program_of(self, run_id: str, plan_hash: str) -> Program:
        """Return the program of a plan that is recorded for a run, whatever the configuration says now.

        Raises:
            JournalDamagedError, RuleError, EntrypointError, StoreError: as `recorded_plan`.
        """
        present, journals = self._engine.program, self._journals
        if journals.plan_of(present)[0] == plan_hash:
            return present
        known = self._programs.get(plan_hash)
        if known is None:
            plan = await recorded_plan(journals.store, run_id, plan_hash, journals.read_plan)
            known = self._programs[plan_hash] = Program(plan, present.agent_configs, present.overridden)
        return known

    async def known(self, run_id: str) -> Run:
        """Return a run that was accepted before: the one that goes on here, or what the journal says of it.

        Raises:
            RunNotFoundError: there is none.
            JournalDamagedError, JournalVersionError, StoreError: its journal cannot be read.
        """
        for run in self._engine.runs:
            if run.run_id == run_id:
                return run
        return await self._recalled(run_id)

    def take_over(self, rows: Sequence[RunRow]) -> list[Run]:
        """Own the runs that this engine has taken: each is read, and goes on, when its turn comes."""
        runs: list[Run] = []
        known = {run.run_id: run for run in self._engine.runs}
        for row in rows:
            run = known[row.run_id] = self._unread(row)
            self._rows[run] = row
            if row.parent_id is not None:
                self._engine.families.reunite(run, known.get(row.parent_id))
            self._engine.adopt(run)
            runs.append(run)
        return runs

    def let_go(self, row: RunRow) -> None:
        """Let the session of a run go on that has ended although nobody went on with it here."""
        if row.session_id is not None:
            for following in self._engine.intake.drop_place(row.session_id, row.run_id):
                self._engine.beginning.take_turn(following)

    async def until_read(self, run: Run) -> None:
        """Wait until a run that was taken over has been read; one that waits for its turn is read now.

        Raises:
            JournalDamagedError, JournalVersionError, StoreError: its journal cannot be read.
        """
        if run in self._rows or run in self._reads:
            await asyncio.shield(self._read_in(run))
        if run.parked is not None:
            raise run.parked

    def _read_in(self, run: Run) -> asyncio.Task[None]:
        """Return the task that reads a run, which is begun now if it was not before."""
        task = self._reads.get(run)
        if task is None:
            task = self._reads[run] = self._engine.loop.create_task(self._read_one(run, self._rows.pop(run)))
            task.add_done_callback(lambda done: self._reads.pop(run, None))
        return task

    async def _read_one(self, run: Run, row: RunRow) -> None:
        try:
            self._require_taken(row)
            await self._fill(run, row)
        except AgentflowError as error:
            if run.parked is not None:
                return  # the engine has stopped meanwhile
            self._engine.teller.say("run_left_alone", {"run_id": row.run_id, "error": str(error)})
            if isinstance(error, StoreDamagedError) or not isinstance(error, StoreError | SchemaExtraError):  # else the run is not at fault
                run.flags = (CORRUPT,)
                await self._quarantine(row, error)
            self._engine.ending.park(run, error)
            return
        if run.parked is not None:
            return  # the engine has stopped meanwhile
        if run.is_begun_unread:
            self._begin(run)
        if run.is_asked_to_end:
            self._engine.ending.cancel(run, run.is_asked_to_end)

    async def _read_all(self) -> None:
        while self._first or self._turns:
            run = self._first.popleft() if self._first else self._turns.popleft()
            if run in self._rows and run.parked is None:
                await self._read_in(run)
            await self._engine.suspects.until_tried()

    async def _recalled(self, run_id: str) -> Run:
        """Return a run as its journal has it, without going on with it."""
        row = await self._journals.store.row(run_id)
        if row is None:
            raise RunNotFoundError(run_id, where=self._journals.store.url)
        run = await self.read(row)
        if row.is_open:
            run.parked = RunnerStateError(f"run {run_id} is {row.state} and goes on elsewhere, or not", hint=f"agentflow resume {run_id}")
        else:
            run.result = self._engine.ending.result_of(run)
        return run

    def _require_taken(self, row: RunRow) -> None:
        """Refuse a run that the store did not give to this engine, because its row is damaged."""
        if row.owner != self._journals.owner:
            raise StoreDamagedError(f"the row of run {row.run_id} cannot be read or written", run_id=row.run_id)

    async def _quarantine(self, row: RunRow, error: AgentflowError) -> None:
        """Flag a run whose journal cannot be read; nothing of it is changed or deleted."""
        if CORRUPT in row.flags:
            return  # it was flagged before, or its row is damaged
        flagged = replace(row, flags=(*row.flags, CORRUPT), reason=CORRUPT, state="paused")
        with suppress(AgentflowError):  # it is damaged: what cannot be flagged is named in the log alone
            entries = await self._journals.store.entries(row.run_id)
            await self._journals.store.append(Append(row.run_id, len(entries), row.epoch, row=flagged))

    async def move(self, row: RunRow, *, is_accepted: bool) -> RunRow:
        """Let a run that this engine has taken go on under the present plan.

        Raises:
            PlanMismatchError: steps that were done do not fit it, and nobody accepts that they count as never done.
            JournalDamagedError, JournalVersionError, StoreError: its journal cannot be read or written.
        """
        journals, program = self._journals, self._engine.program
        self._require_taken(row)
        plan_hash, plan = journals.plan_of(program)
        if plan_hash == row.plan_hash:
            return row
        entries = await journals.store.entries(row.run_id)
        created = decode(row.run_id, entries[0]).fact if entries else None
        if not isinstance(created, WorkflowCreated):
            raise JournalDamagedError(row.run_id, 0, "does not say how the run began")
        event = event_of(row.run_id, created)
        differences = misfits(row.run_id, program.plan, event, entries)
        if differences and not is_accepted:
            raise PlanMismatchError(row.run_id, [f"{position}: {why}" for position, why in differences])
        moved = PlanMoved(plan_hash, tuple(position for position, _ in differences))
        last = entries[-1]
        entry = encode(row.run_id, last.seq + 1, row.epoch, self._engine.clock.time(), moved, last.hash)
        standing = replay(row.run_id, program.plan, event, [*entries, entry])
        row = replace(row, plan_hash=plan_hash, pattern=program.flow.mode)
        snapshot = None if standing.ended is not None else (entry.seq, freeze_standing(standing))
        await journals.store.append(Append(row.run_id, entry.seq, row.epoch, (entry,), row, (plan_hash, plan), snapshot))
        return row

    def begin(self, run: Run) -> None:
        """Go on with a run whose turn has come, once it is read."""
        if run not in self._rows and run not in self._reads:
            self._begin(run)
            return
        run.is_begun_unread = True
        # What was taken over twice before may be what killed its owners: it is looked at first, while nothing else is in flight.
        (self._first if run in self._rows and self._rows[run].epoch > DEATHS else self._turns).append(run)
        if self._reading is None or self._reading.done():
            self._reading = self._engine.loop.create_task(self._read_all())

    def _begin(self, run: Run) -> None:
        engine, journal = self._engine, run.journal
        assert journal is not None  # noqa: S101 - what has no journal is not recovered
        standing = journal.standing
        now = engine.clock.time()
        in_flight = tuple(position for position, step in standing.steps.items() if step.is_in_flight and (step.due_at or 0.0) <= now)
        if not run.walk.is_done:  # of a run that was cancelled while it was paused, say, nothing is left but its end
            missing = [name for name in agents_of(run.program.plan) if name not in engine.agents]
            if missing:
                self._lay_aside(run, missing)
                return
            if standing.paused is not None and not standing.paused.startswith(MissingAgentError.reason):
                self._recall(run, journal, in_flight)
                return
            if standing.paused is not None:
                engine.teller.tell(run, WorkflowResumed("resume"))
        journal.change(state="running", waiting=(), reason="")
        if standing.steps or standing.usage.calls:
            engine.teller.tell(run, WorkflowRecovering(journal.row.epoch, journal.shared.owner, in_flight))
        most = run.program.flow.max_process_deaths  # of steps that are begun ahead of event hooks, too
        poisoned = [place for place, step in standing.steps.items() if step.deaths >= _most_deaths(standing.ready.get(place), most)]
        if poisoned:
            self._bury(run, standing, poisoned[0])
        elif run.walk.is_done:
            engine.ending.finish(run)
        elif run.is_hooked:
            engine.suspects.begin_hooks(run)
        else:
            engine.beginning.time_root(run)
            begin_again(engine, run, list(standing.ready.values()))

    def _recall(self, run: Run, journal: Journal, in_flight: tuple[str, ...]) -> None:
        """Take up a run that is paused."""
        if in_flight:  # a process died before the pause had come to rest
            self._engine.teller.tell(run, WorkflowRecovering(journal.row.epoch, journal.shared.owner, in_flight))
            journal.commit()
        self._engine.control.recall(run)

    def _lay_aside(self, run: Run, missing: list[str]) -> None:
        """Leave a run alone whose plan names agents that have no handler here."""
        journal = run.journal
        assert journal is not None  # noqa: S101 - see begin
        error = MissingAgentError(run.run_id, missing)
        if journal.standing.paused is None:
            self._engine.teller.tell(run, WorkflowPaused(f"{error.reason}: {missing[0]}"))
        journal.change(state="paused", reason=f"{error.reason}: {missing[0]}")
        journal.commit()
        self._engine.ending.park(run, error)

    def _bury(self, run: Run, standing: Standing, position: str) -> None:
        """End a run of which a step has taken too many processes with it: a dead letter, unless an error handler sees to it."""
        step = standing.steps[position]
        if not run.program.keeps_dead_letters:
            run.flags = tuple(dict.fromkeys((*run.flags, "dead_lettered")))  # who waits for it must not try it again
        error = PoisonedStepError(f"{step.deaths} processes died while agent `{step.agent}` ran at {position}")
        self._engine.ending.cut(
            run, None, failure_of(error, attempts=step.attempts).at(agent=step.agent, position=position, stage=step.agent)
        )


def _most_deaths(frame: Frame | None, otherwise: int) -> int:
    """Return how many deaths the flow around a call allows."""
    while frame is not None:
        if type(frame.node) is not Call and frame.node.flow is not None:
            return frame.node.flow.max_process_deaths
        frame = frame.parent
    return otherwise
