"""Host: the engine and the journal under one workflow. Each step is a run of its own below the workflow's run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agentflow import app
from agentflow.config.journal import IN_MEMORY, JournalChoice
from agentflow.core.codec import decode, first_fault
from agentflow.core.entry import Entry
from agentflow.core.event import Event, accept, first_scope
from agentflow.core.ledger import Budget, Figures
from agentflow.core.merge import Combine
from agentflow.core.plan import Call, Flow, Node, Policy, Retry, Seq
from agentflow.core.plan_codec import decode_plan
from agentflow.core.records import Fact, Record
from agentflow.core.run_row import RunFilter, RunRow
from agentflow.core.standing import Standing
from agentflow.core.walk import Walk
from agentflow.engine.acceptance import written
from agentflow.engine.budgets import RUN
from agentflow.engine.engine import Engine
from agentflow.engine.hooks import Hooks
from agentflow.engine.intake import Bounds
from agentflow.engine.journal import Journals, event_hash
from agentflow.engine.parts import Parts
from agentflow.engine.program import Program
from agentflow.engine.run import Run, RunHandle
from agentflow.errors import (
    DuplicateEventError,
    IllegalTransitionError,
    JournalDamagedError,
    StaleIdentityError,
    WorkflowError,
)
from agentflow.executors.local import LocalExecutor
from agentflow.logs import StructuredLog
from agentflow.ports import Store
from agentflow.system import SystemClock
from agentflow.workflow.allowance import Allowance
from agentflow.workflow.root import DECISION, PATTERN, ROOT_PLAN, Root
from agentflow.workflow.steps import Call as StepCall
from agentflow.workflow.steps import Job, StepAgents

LEASE_S = 86_400.0  # while steps run; an idle workflow has none. A store that processes share will want a heartbeat here.
GRACE_S = 10.0
BOUNDS = Bounds(queue_size=100_000, max_running=100_000)  # the workflow's own bound is the executor's


@dataclass(frozen=True)
class Settings:
    """What a workflow's host is made of.

    Attributes:
        root_id: the workflow's run.
        store: an open store, the url or path of a journal, or None for memory.
        is_resume: go on with what is recorded under `root_id`.
        timeout_s: bounds each attempt of a step, in seconds.
        max_retries: how often a failed attempt is made again.
        budget: what its steps may use; None for as much as they like.
        hooks: the callbacks.
    """

    root_id: str
    store: Store | str | Path | None
    is_resume: bool
    timeout_s: float
    max_retries: int
    budget: Budget | None
    hooks: Hooks = field(default_factory=Hooks)


@dataclass(frozen=True, slots=True)
class Told:
    """What a job came to: its run and that run's records."""

    run_id: str
    facts: Sequence[Fact]


class Host:
    """Runs jobs on an engine of its own. Opened once, on the loop on which it is used."""

    def __init__(self, settings: Settings, allowance: Allowance) -> None:
        self._settings = settings
        self._allowance = allowance
        self._clock = SystemClock()
        self._store, self._is_own_store = _store_of(settings.store)
        self._calls: dict[str, StepCall] = {}
        self._told: dict[str, list[Fact]] = {}
        self._known: set[str] = set()
        self._programs: dict[tuple[str, int | None], Program] = {}
        self._taking = asyncio.Lock()
        self._busy = 0
        self._engine: Engine
        self._owner = self._clock.fresh_id()
        self._root_run: Run
        self.root: Root

    async def open(self) -> None:
        """Open the journal and take the workflow's run, or begin it.

        Raises:
            IllegalTransitionError: it is recorded and was not to be resumed, or somebody else goes on with it.
            StoreError: the journal cannot be used.
            JournalDamagedError, JournalVersionError: what is recorded cannot be read.
        """
        if self._is_own_store:
            await self._store.open()
        try:
            self._engine = self._made_engine()
            await self._store.renew(self._owner, LEASE_S)
            self.root = Root(self._engine, self._settings.root_id)
            await self.root.open(is_resume=self._settings.is_resume)
            self._root_run = self.root.run
            if self._settings.budget is not None and not self.root.is_new:
                await self._restore()
            await self._store.release(self._owner)
        except BaseException:
            await self._let_go()
            raise

    async def _restore(self) -> None:
        """Count what the steps have used that are recorded, also those that nobody will ask for again."""
        now = self._clock.time()
        for row in await self._store.rows(RunFilter(root_id=self._settings.root_id, pattern=PATTERN)):
            standing = (await self._engine.recovery.read(row)).journal.standing  # type: ignore[union-attr] # what was read has one
            if standing.spending is None:  # it began before there was a budget
                used, took = standing.usage, max((row.ended_at or row.started_at) - row.started_at, 0.0)
                self._allowance.restore(row.run_id, Figures(used.total_tokens, used.cost_usd, took, used.calls), is_engines=False)
                continue
            for position, step in standing.steps.items():
                if step.is_in_flight and (step.due_at or 0.0) <= now:
                    standing.spending.lose(position, step.agent)
            self._allowance.restore(row.run_id, standing.spending.spent.get(RUN, Figures()), is_engines=True)

    def _made_engine(self) -> Engine:
        journals = Journals(self._store, self._clock, asyncio.get_running_loop(), self._owner, _read_plan)
        return Engine(
            Parts(
                program=Program(ROOT_PLAN, {}),
                agents=StepAgents(self._calls),
                executor=LocalExecutor(),
                clock=self._clock,
                log=StructuredLog(),
                hooks=self._settings.hooks,
                emitter=_NoEmitter(),
                observers=[self._hear],
                bounds=BOUNDS,
                grace_s=GRACE_S,
                journals=journals,
            )
        )

    async def close(self, status: str | None) -> None:
        """Let go of the journal; what runs is left to be resumed. The workflow's run ends with `status` when one is given."""
        await self._store.renew(self._owner, LEASE_S)
        await self._engine.ending.drain(0.0)
        try:
            if status is not None:
                self.root.end(status)
            await self.root.written()
        finally:
            await self._let_go()

    async def _let_go(self) -> None:
        await self._store.release(self._owner)
        if self._is_own_store:
            await self._store.close()

    async def begin_work(self) -> None:
        """Note that something runs: until `end_work` nobody else may take the workflow over.

        Raises:
            FencedError: somebody has, while it was idle.
        """
        self._busy += 1
        if self._busy == 1 and not self._is_own_store:  # nobody else in this process has a store of its own
            try:
                await self._store.renew(self._owner, LEASE_S)
                await self.root.check()
            except BaseException:
                await self.end_work()
                raise

    async def end_work(self) -> None:
        """Note that it has ended: an idle workflow can be resumed elsewhere, which then fences this one off."""
        self._busy -= 1
        if not self._busy and not self._is_own_store:
            await self._store.release(self._owner)

    # --- jobs ---

    async def recorded(self, job: Job, *, is_final: bool = False) -> Told | None:
        """Return what a job came to before, None when it has no answer yet. With `is_final` a failure is an answer too.

        Raises:
            StaleIdentityError: other work is recorded under its name.
            JournalDamagedError, JournalVersionError: what is recorded cannot be read.
        """
        row, _ = await self._find(job, is_final=is_final)
        return None if row is None or row.is_open else await self._read(row.run_id)

    async def perform(self, job: Job, *, is_final: bool = False) -> Told:
        """Do a job, or go on with it, unless it has its answer: then return that.

        Raises:
            StaleIdentityError: other work is recorded under its name.
            BudgetExceededError: the budget does not suffice for it.
            IllegalTransitionError: somebody else does it at this moment.
            StoreError: it cannot be recorded.
        """
        while True:
            row, generation = await self._find(job, is_final=is_final)
            if row is not None and not row.is_open:
                return await self._read(row.run_id)
            run_id = job.run_id(self._settings.root_id, generation) if row is None else row.run_id
            self._known.add(job.key)
            try:
                return await self._do(job, run_id, row, generation)
            except DuplicateEventError as error:
                if not error.is_same:
                    raise _stale(job) from error

    async def _do(self, job: Job, run_id: str, row: RunRow | None, generation: int) -> Told:
        if run_id in self._calls:
            raise IllegalTransitionError(run_id, "running", "run", "a step's id stands for one piece of work: give each its own")
        self._calls[run_id] = job.call
        told: list[Fact] = []
        if row is None:
            self._told[run_id] = told
        try:
            run = await self._taken(job, row) if row is not None else await self._begun(job, run_id, generation)
            try:
                await run.ended()
            except asyncio.CancelledError:
                RunHandle(run, self._engine).cancel("cancelled")
                raise
        finally:
            del self._calls[run_id]
            self._told.pop(run_id, None)
        return Told(run_id, told) if row is None else await self._read(run_id)

    async def _find(self, job: Job, *, is_final: bool) -> tuple[RunRow | None, int]:
        """Return the run that has a job's answer, or may get it; else None and the number of the run to begin."""
        if self.root.is_new and job.key not in self._known:
            return None, 1
        generation, last = 1, None
        while True:
            event = job.event(self._settings.root_id, generation)
            row = await self._store.row_of_event(event.id or "")
            if row is None:
                return (last if is_final else None), generation
            if row.event_hash != event_hash(event):
                raise _stale(job)
            if row.is_open or row.state == "completed" or "dead_lettered" in row.flags:
                return row, generation
            generation, last = generation + 1, row

    async def _begun(self, job: Job, run_id: str, generation: int) -> Run:
        engine, root_id = self._engine, self._settings.root_id
        assert engine.journals is not None  # noqa: S101 - see _made_engine
        self._check(job)  # nothing else comes between this and the engine, which sets aside what it takes
        program = self._program(job)
        event = accept(job.event(root_id, generation), run_id, self._clock.time)
        walk = Walk(program.plan, event, first_scope(event), is_noting=True)
        run = Run(run_id, event, program, walk)
        run.is_hooked = engine.hooks.has_event_hooks
        run.root = self._root_run
        run.journal = engine.journals.new(event, program, Standing(run_id, walk))
        run.journal.change(parent_id=root_id, root_id=root_id)
        self._open_account(run)
        while not engine.admit(run):
            await engine.room(run)
        await written(engine, run)
        return run

    async def _taken(self, job: Job, row: RunRow) -> Run:
        """Go on with a job that was begun by somebody who is dead, or has let go of it."""
        async with self._taking:  # what the budget allows it has set aside when the next one is looked at
            self._check(job)
            rows = await self._store.take(self._owner, lease_s=LEASE_S, run_ids=[row.run_id])
            if not rows:
                raise IllegalTransitionError(row.run_id, row.state, "resume", "another owner goes on with it")
            run = await self._engine.recovery.read(rows[0])
            run.root = self._root_run
            run.program.keeps_dead_letters = False  # as `_program` says; it was made anew from what is recorded
            self._open_account(run)
            self._engine.adopt(run)
        return run

    def _check(self, job: Job) -> None:
        if job.reserve_tokens is not None:
            self._allowance.check(job.reserve_tokens)

    def _open_account(self, run: Run) -> None:
        if run.program.has_budgets:
            run.account = self._allowance.account(run.run_id)

    async def _read(self, run_id: str) -> Told:
        return Told(run_id, facts_of(run_id, await self._store.entries(run_id)))

    def _program(self, job: Job) -> Program:
        key = job.agent, job.reserve_tokens
        if key not in self._programs:
            budget = None if job.reserve_tokens is None else self._settings.budget
            reserved = 0 if budget is None or budget.tokens is None else job.reserve_tokens
            call = Call(job.agent, self._settings.timeout_s, Retry(self._settings.max_retries))
            if reserved:
                call = replace(call, policy=Policy(reserve_tokens=reserved))
            pattern = DECISION if job.reserve_tokens is None else PATTERN
            program = self._programs[key] = Program(Seq((call,), Flow(job.agent, pattern, budget=budget)), {})
            program.keeps_dead_letters = False
        return self._programs[key]

    def _hear(self, record: Record) -> None:
        self._allowance.hear(record.fact)
        told = self._told.get(record.run_id)
        if told is not None:
            told.append(record.fact)


class _NoEmitter:
    """What callbacks of a workflow get as `args.runner`."""

    async def emit_for(self, parent: object, event: Event) -> Any:
        """Refuse: a workflow takes no events.

        Raises:
            WorkflowError: always.
        """
        raise WorkflowError("a workflow takes no events", hint="emit them on a Runner")


def facts_of(run_id: str, entries: Sequence[Entry]) -> list[Fact]:
    """Return what a run's entries say.

    Raises:
        JournalDamagedError: they are not what was written.
        JournalVersionError: a later release wrote one of them.
    """
    fault = first_fault(run_id, entries)
    if fault is not None:
        raise JournalDamagedError(run_id, *fault)
    return [decode(run_id, entry).fact for entry in entries]


def _stale(job: Job) -> StaleIdentityError:
    return StaleIdentityError(
        f"stale identity: `{job.key}` is recorded with other work than is asked for now", hint="give the changed step another task_id"
    )


def _store_of(given: Store | str | Path | None) -> tuple[Store, bool]:
    """Return the store, and whether it is the workflow's own to open and close."""
    if given is None or given == IN_MEMORY:
        return app.store_of(JournalChoice(None, "none", 100, 30)), True
    if isinstance(given, str | Path):
        scheme, _, rest = str(given).partition(":")
        if scheme not in ("sqlite", str(given)) or not (rest or scheme != "sqlite"):
            raise WorkflowError(f"a workflow cannot keep its journal in {str(given)!r}", hint="store=None, `sqlite:PATH`, or an open store")
        return app.store_of(JournalChoice(Path(rest if scheme == "sqlite" else given).absolute(), "full", 100, 30)), True
    return given, False


def _read_plan(plan_hash: str, body: bytes) -> Node:
    return decode_plan(plan_hash, body, app.compile_rule, _no_function)


def _no_function(name: str) -> Combine:
    raise WorkflowError(f"a workflow's plan has no function {name}")
